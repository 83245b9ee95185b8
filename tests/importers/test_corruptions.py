"""Whatever is wrong with a checkpoint: one sentence, exit code 2, nothing written, nothing run."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from insightedit.cli.main import app
from tests.importers import published
from tests.importers.conftest import drawing_bases

STEP = published.STEP
LLM, QFORMER = f"LLM-{STEP}/adapter_model.bin", f"embeddings_qformer/checkpoint-{STEP}_embeddings_qformer.bin"
UNET, BIM = f"unet-{STEP}/adapter_model.bin", f"modulate-{STEP}/adapter_model.bin"
EMBEDDINGS = "model.base_model.model.embed_tokens.weight"
MARKER = "ran.txt"


@pytest.fixture(scope="module")
def healthy(tiny_root):
    torch.manual_seed(0)
    return published.smartedit(tiny_root)


def change(files, name, **tensors):
    """The files with tensors of one of them replaced; None takes one away."""
    held = {**files[name], **{key.replace("__", "."): value for key, value in tensors.items()}}
    return {**files, name: {key: value for key, value in held.items() if value is not None}}


class Malicious:
    """Unpickled carelessly, it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"echo ran > {self.marker}",)


def missing_key(files):
    return change(files, BIM, **{"modulate_transformer.layers.1.mlp.lin1.weight": None})


def missing_wide_key(files):
    return change(files, QFORMER, **{"sd_query_tokens": None})


def missing_table(files):
    return change(files, QFORMER, **{"lm_head.weight": None})


def unknown_key(files):
    return change(files, UNET, **{"surprise.weight": torch.zeros(2)})


def wrong_shape(files):
    return change(files, UNET, **{"unet.conv_out.weight": torch.zeros(4, 31, 3, 3)})


def wrong_vocabulary(files):
    return change(files, LLM, **{EMBEDDINGS: torch.zeros(published.TEXT_ROWS + 36, published.LLM)})


def wrong_dtype(files):
    quantised = torch.zeros(published.LLM, published.LLM, dtype=torch.int8)
    return change(files, LLM, **{"model.base_model.model.layers.0.self_attn.k_proj.weight": quantised})


def not_finite(files):
    return change(files, BIM, **{"modulate_head.bias": torch.full((published.VISION,), float("nan"))})


def two_schemes(files):
    same = files[QFORMER]["sd_qformer.embeddings.LayerNorm.weight"]
    return change(files, QFORMER, **{"sd_qformer.bert.embeddings.LayerNorm.weight": same})


def swapped(files):
    return {**files, UNET: files[BIM], BIM: files[UNET]}


def of_another_size(files):
    return {**files, QFORMER: published.smartedit_qformer(llm=60)}


def wide_qformer(files):
    wide = published.smartedit_qformer(llm=60)
    keep = {key: t for key, t in files[QFORMER].items() if not key.startswith("sd_qformer")}
    return {**files, QFORMER: {**{k: t for k, t in wide.items() if k.startswith("sd_qformer")}, **keep}}


def not_tensors(files):
    return change(files, BIM, step=15000)


def half_an_adapter(files):
    layer = "model.base_model.model.layers.1.self_attn.v_proj.lora_B.default.weight"
    return change(files, LLM, **{layer: None})


def adapter_of_another_rank(files):
    layer = "model.base_model.model.layers.1.self_attn.v_proj.lora_{}.default.weight"
    up, down = torch.zeros(published.LLM, 4), torch.zeros(4, published.LLM)
    return change(files, LLM, **{layer.format("B"): up, layer.format("A"): down})


def another_vision_tower(files):
    return change(files, BIM, **{"modulate_head.weight": torch.zeros(34, published.TEXT)})


def other_text_states(files):
    return change(files, QFORMER, sd_query_tokens=torch.zeros(1, 20, published.TEXT))


def other_residual(files):
    changed = {"dimension_reduction_head_zeroconv.weight": torch.zeros(40, published.VISION, 1, 1)}
    return change(files, BIM, **changed, **{"dimension_reduction_head_zeroconv.bias": torch.zeros(40)})


def too_many_layers(files):
    extra = {k.replace("layers.1", "layers.2"): t for k, t in files[LLM].items() if "layers.1" in k}
    return change(files, LLM, **extra)


IN_FILES = {
    missing_key: r"lacks 1 of \d+ tensors of the bridge, e.g. bim.two_way.blocks.1.mlp.0.weight",
    missing_wide_key: r"lacks the tensor for qformer.queries: the file is not whole",
    missing_table: r"lacks the vocabulary table lm_head.weight",
    unknown_key: r"holds 1 tensors that the unet has no place for, e.g. surprise.weight",
    wrong_shape: r"conv_out.weight of the unet has shape \(4, 31, 3, 3\) and its place has \(4, 32, 3, 3\)",
    wrong_vocabulary: r"has 546 rows; the tokenizer of llava has 510 tokens of text and the system adds 35, 545 in all",
    wrong_dtype: r"k_proj.weight is int8, a weight is one of float32, float16, bfloat16",
    not_finite: r"modulate_head.bias holds numbers that are not finite",
    two_schemes: r"goes where another tensor is already \(qformer.norm.weight\)",
    swapped: r"holds \d+ tensors that do not belong there, e.g. .*: is it another file's place",
    of_another_size: r"is 60 wide, the base llava 48: a 7B model is 4096 wide, a 13B one 5120",
    wide_qformer: r"reads a language model 60 wide, .* is 48 wide: files of the 7B model \(4096\) and of the 13B",
    not_tensors: r"step is a int, not a tensor",
    half_an_adapter: r"layers.1.self_attn.v_proj has no lora_B beside the rest of its adapter",
    adapter_of_another_rank: r"adapter_config.json says rank 8: files of different models are mixed",
    another_vision_tower: r"reads vision patches 34 wide, .*clip has 32: name the CLIP model",
    other_text_states: r"makes text states of shape \(20, 32\), the text encoder of .* of shape \(16, 32\)",
    other_residual: r"BIM writes 40 channels, the UNet of the base has 32 after its first layer",
    too_many_layers: r"holds 9 tensors that the mllm has no place for, e.g. model.language_model.layers.2",
}


def refused(source, tmp_path, bases, *options, out="out") -> str:
    """Run the command line; it has to fail with one sentence and leave nothing."""
    before = sorted(p.name for p in tmp_path.iterdir())
    arguments = ["import", "smartedit", str(source), "-o", str(tmp_path / out), *options]
    for base in bases:
        arguments += ["--base", base]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("insightedit:")]
    assert "Traceback" not in result.output
    return line


@pytest.mark.parametrize("corrupt", IN_FILES, ids=lambda f: f.__name__)
def test_corrupt_tensors(corrupt, healthy, tiny_root, tmp_path):
    source = published.write_smartedit(tmp_path / "source", corrupt(healthy))
    message = refused(source, tmp_path, drawing_bases(tiny_root))
    assert re.search(IN_FILES[corrupt], message), message


def cut_off(source):
    path = source / UNET
    path.write_bytes(path.read_bytes()[:4000])


def cut_off_old_format(source):
    torch.save({"unet.conv_in.weight": torch.zeros(8)}, source / UNET, _use_new_zipfile_serialization=False)
    (source / UNET).write_bytes((source / UNET).read_bytes()[:-20])


def malicious(source):
    torch.save({"unet.conv_in.weight": Malicious(source.parent / MARKER)}, source / UNET)


def malicious_old_format(source):
    held = {"unet.conv_in.weight": Malicious(source.parent / MARKER)}
    torch.save(held, source / UNET, _use_new_zipfile_serialization=False)


def no_safetensors(source):
    (source / UNET).unlink()
    (source / UNET).with_suffix(".safetensors").write_bytes(b"not a header")


def a_list(source):
    torch.save([torch.zeros(2)], source / UNET)


def nothing_inside(source):
    torch.save({}, source / UNET)


def missing_file(source):
    (source / BIM).unlink()


def two_steps(source):
    shutil.copytree(source / f"LLM-{STEP}", source / "LLM-5000")


def two_formats(source):
    shutil.copy(source / UNET, (source / UNET).with_suffix(".pt"))


def empty_folder(source):
    shutil.rmtree(source)
    source.mkdir()


def no_folder(source):
    shutil.rmtree(source)


def broken_adapter_config(source):
    (source / f"LLM-{STEP}/adapter_config.json").write_text("{}")


ON_DISK = {
    cut_off: r"unet-15000/adapter_model.bin cannot be read: it is cut off or damaged",
    cut_off_old_format: r"adapter_model.bin (cannot be read: it is cut off|is no file of weights alone)",
    malicious: r"is no file of weights alone: it asks for code to be run, or is damaged. Nothing in it was run",
    malicious_old_format: r"is no file of weights alone: it asks for code to be run",
    no_safetensors: r"adapter_model.safetensors cannot be read: it is cut off or damaged",
    a_list: r"holds a list, not tensors by name",
    nothing_inside: r"holds no tensors: name the file that holds the weights",
    missing_file: r"lacks modulate-N/adapter_model.bin for step 15000: SmartEdit publishes",
    two_steps: r"holds files of the steps 5000, 15000: say which with --step",
    two_formats: r"holds adapter_model.bin and adapter_model.pt: keep one of them",
    empty_folder: r"holds no file ending in .safetensors, .bin, .pt, .pth, .ckpt",
    no_folder: r"No checkpoint at .*: give the folder or file that was published",
    broken_adapter_config: r"adapter_config.json does not say r and lora_alpha: fetch it again",
}


@pytest.mark.parametrize("corrupt", ON_DISK, ids=lambda f: f.__name__)
def test_corrupt_files(corrupt, healthy, tiny_root, tmp_path):
    source = published.write_smartedit(tmp_path / "source", healthy)
    corrupt(source)
    message = refused(source, tmp_path, drawing_bases(tiny_root))
    assert re.search(ON_DISK[corrupt], message), message
    assert not (tmp_path / MARKER).exists()


def test_the_malicious_file_would_have_run(tmp_path):
    """What the reader refuses is dangerous indeed: a careless reader runs it."""
    pickle.loads(pickle.dumps(Malicious(tmp_path / MARKER)))
    assert (tmp_path / MARKER).exists()


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (
            "llava={root}/clip",
            r"--base .*clip is not a LLaVA model in transformers' format: its config.json says clip",
        ),
        ("vision={root}/llava", r"--base .*llava is not a CLIP model with its image processor"),
        ("sd={root}/clip", r"--base .*clip is not Stable Diffusion 1.x in diffusers' format"),
        ("sd=no/such-model", r"--base no/such-model is not Stable Diffusion"),
        ("unet={root}/sd", r"--base unet=.*: smartedit takes llava=MODEL, vision=MODEL, sd=MODEL"),
        ("sd=", r"--base sd=: smartedit takes llava=MODEL"),
    ],
)
def test_wrong_base(option, expected, healthy, tiny_root, tmp_path):
    source = published.write_smartedit(tmp_path / "source", healthy)
    option = option.format(root=tiny_root)
    others = [b for b in drawing_bases(tiny_root) if b.partition("=")[0] != option.partition("=")[0]]
    assert re.search(expected, refused(source, tmp_path, [option, *others]))


def test_one_base_twice(healthy, tiny_root, tmp_path):
    source = published.write(tmp_path / "source", {BIM: healthy[BIM]})
    bases = drawing_bases(tiny_root)
    assert "--base sd= is given twice" in refused(source, tmp_path, [*bases, bases[-1]])


def test_an_existing_folder_is_kept(healthy, tiny_root, tmp_path):
    source = published.write_smartedit(tmp_path / "source", healthy)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/letter.txt").write_text("mine")
    message = refused(source, tmp_path, drawing_bases(tiny_root))
    assert "is there already and is kept as it is: name a new folder with -o" in message
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["letter.txt"]


def test_a_place_that_cannot_be_written(healthy, tiny_root, tmp_path):
    source = published.write(tmp_path / "source", {BIM: healthy[BIM]})
    (tmp_path / "file").write_text("no folder")
    message = refused(source, tmp_path, drawing_bases(tiny_root), out="file/below/out")
    assert "cannot be written" in message
    assert "name a folder in a place that is yours with -o" in message


def test_a_failure_while_writing_leaves_nothing(healthy, tiny_root, tmp_path, monkeypatch):
    from insightedit.export import folder as hub

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub, "model_card", full)
    source = published.write_smartedit(tmp_path / "source", healthy)
    assert "No space left on device" in refused(source, tmp_path, drawing_bases(tiny_root))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gill", "x", "-o", "y"], "'gill' is no system that can be imported: take one of smartedit, mgie, mige"),
        (["smartedit", "x", "-o", "y", "--dtype", "int4"], "`dtype` 'int4' is unknown: take one of stored, fp32"),
    ],
)
def test_wrong_arguments(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["import", *arguments])
    assert result.exit_code == 2
    assert expected in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_chosen_step_is_taken(healthy, tiny_root, tmp_path):
    source = published.write_smartedit(tmp_path / "source", healthy)
    two_steps(source)
    arguments = ["import", "smartedit", str(source), "-o", str(tmp_path / "out"), "--step", str(STEP)]
    for base in drawing_bases(tiny_root):
        arguments += ["--base", base]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "adapter_model.bin" in result.stdout
    assert (tmp_path / "out/import_report.json").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]
