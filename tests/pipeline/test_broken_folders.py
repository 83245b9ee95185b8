"""Hundreds of broken and hostile model folders: one sentence, quickly, and no code of theirs runs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from insightedit.export.folder import export_editor
from insightedit.modeling.model_files import check_settings
from insightedit.pipelines.loading import describe_model, load_pipeline
from insightedit.pipelines.model_folder import check_model_folder
from tests.pipeline.broken_folders import (
    Break,
    edit_json,
    field_changes,
    folder_faults,
    json_faults,
    link_tree,
    put,
    weight_faults,
)

SECONDS = 20.0  # on a loaded machine; alone each takes a few hundredths
LONGEST = 700  # characters of a sentence


def settings_files(folder: Path) -> list[str]:
    names = ["model_index.json", *(p.relative_to(folder).as_posix() for p in sorted(folder.glob("*/*config.json")))]
    return [name for name in names if not name.endswith("generation_config.json")]


def weights(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted(folder.glob("*/*.safetensors"))]


def all_faults(folder: Path) -> list[tuple[str, Break]]:
    parts = [p.name for p in sorted(folder.iterdir()) if p.is_dir()]
    faults = [fault for name in settings_files(folder) for fault in json_faults(name)]
    faults += [fault for name in weights(folder) for fault in weight_faults(name)]
    return faults + list(folder_faults(parts))


def refusal(folder: Path, what: str, call) -> str | None:
    """The sentence that a call ends in; None where it goes through."""
    started = time.perf_counter()
    try:
        call(folder)
    except (ValueError, OSError) as error:
        said = " ".join(str(error).split())
        assert 0 < len(said) < LONGEST, (what, said)
        assert "Traceback" not in said, what
        return said
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    finally:
        assert time.perf_counter() - started < SECONDS, what
    return None


def load(folder: Path):
    return load_pipeline(folder, "cpu")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def try_all(faults, source: Path, place: Path, *calls) -> list[str]:
    """Refusals that were expected and did not come."""
    through = []
    for number, (what, apply) in enumerate(faults):
        folder = link_tree(source, place / f"f{number}" / "model")
        apply(folder)
        for call in calls:
            if refusal(folder, what, call) is None:
                through.append(f"{call.__name__}: {what}")
        assert not (place / "ran").exists(), f"{what}: code ran"
    return through


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_every_broken_folder_is_refused_in_one_sentence(tiny_folder, place, part):
    """All faults of all files, through the one check that everything that opens a folder begins with."""
    faults = all_faults(tiny_folder)
    assert len(faults) > 500
    assert try_all(faults[part::2], tiny_folder, place, check_model_folder) == []


def test_info_and_loading_refuse_them_as_well(tiny_folder, place):
    faults = all_faults(tiny_folder)[1::25]
    unseen = ("NaN", "infinity")  # by `info`, which reads no weights
    through = try_all(faults, tiny_folder, place, describe_model, load)
    assert [what for what in through if not what.endswith(unseen) or what.startswith("load")] == []


@pytest.mark.slow
def test_info_and_loading_refuse_all(tiny_folder, place):
    through = try_all(all_faults(tiny_folder), tiny_folder, place, describe_model, load)
    assert [what for what in through if not what.endswith(("NaN", "infinity")) or what.startswith("load")] == []


def edit(folder: Path) -> None:
    Image.fromarray(np.full((40, 40, 3), 120, np.uint8)).save("in.png")
    Path("out.png").unlink(missing_ok=True)
    from insightedit.cli.main import app

    done = CliRunner().invoke(app, ["edit", "in.png", "make it red", "--model", str(folder), "-o", "out.png"])
    if done.exit_code:
        assert done.exit_code == 2, done.output
        assert not Path("out.png").exists(), "a picture was written by a model that was refused"
        raise ValueError(next(line for line in done.output.splitlines() if line.startswith("insightedit:")))


def test_other_numbers_load_and_edit_or_are_refused(tiny_folder, place):
    """Some values are as good as the old ones; no other one ends in a traceback, or takes all time or memory."""
    names = settings_files(tiny_folder)
    changes = [change for name in names for change in field_changes(tiny_folder, name)]
    assert len(changes) > 1000
    try_all(changes[::61], tiny_folder, place, check_model_folder, load, edit)


@pytest.mark.slow
def test_any_other_number_loads_and_edits_or_is_refused(tiny_folder, place):
    names = settings_files(tiny_folder)
    changes = [change for name in names for change in field_changes(tiny_folder, name)]
    try_all(changes, tiny_folder, place, check_model_folder, edit)


def test_a_folder_with_an_adapter(tiny_editor, tiny_root, place):
    editor, config = tiny_editor
    config.comprehension.model = str(tiny_root / "llava")
    whole = export_editor(editor, config, place / "adapter", merge_lora=False)
    names = ("mllm/adapter_config.json", "mllm/base.json")
    faults = [fault for name in names for fault in json_faults(name)]
    faults += weight_faults("mllm/adapter_model.safetensors")
    for key, value in {
        "peft_type": "NOPE", "r": 10**9, "init_lora_weights": "pissa_niter_1000000", "megatron_config": {"a": 1},
        "target_modules": "(a|a)*b", "layer_replication": [[0, 10**6]], "eva_config": {"rho": 2.0},
    }.items():  # fmt: skip
        faults.append(
            (key, lambda f, k=key, v=value: edit_json(f / "mllm/adapter_config.json", lambda h: {**h, k: v}))
        )
    for key, value in {"model": 5, "vocabulary": 10**12, "dtype": "ran", "fingerprint": None, "more": 1}.items():
        faults.append((key, lambda f, k=key, v=value: edit_json(f / "mllm/base.json", lambda h: {**h, k: v})))
    seen_later = {  # by the loader, since they hang on the base model
        f"check_model_folder: mllm/adapter_model.safetensors {fault}"
        for fault in (
            "lacks a tensor", "has no tensors", "has half of its tensors", "has a renamed tensor",
            "has a tensor too many", "has half a tensor",
        )
    }  # fmt: skip
    through = try_all(faults, whole, place, check_model_folder)
    assert set(through) <= seen_later
    late = [fault for fault in faults if f"check_model_folder: {fault[0]}" in seen_later]
    assert try_all(late, whole, place / "late", load) == []


def test_a_base_model_that_brings_code_is_refused(tiny_editor, tiny_root, place):
    editor, config = tiny_editor
    config.comprehension.model = str(link_tree(tiny_root / "llava", place / "llava"))
    folder = export_editor(editor, config, place / "adapter", merge_lora=False)
    edit_json(place / "llava" / "config.json", lambda held: {**held, "auto_map": {"AutoConfig": "code.Config"}})
    put(place / "llava" / "code.py", "open('ran', 'w')")
    with pytest.raises(ValueError, match=r"llava/code\.py is code: code of a model folder is never run here"):
        load(folder)
    (place / "llava" / "code.py").unlink()
    with pytest.raises(ValueError, match=r"names code of its own \(auto_map\)"):
        load(folder)
    assert not (place / "ran").exists()


def test_settings_that_may_not_be_read(tiny_folder, place):
    if os.geteuid():
        pytest.skip("another user's rights can be taken by root alone")
    folder = link_tree(tiny_folder, place / "model")
    put(folder / "unet" / "config.json", "{}")
    (folder / "unet" / "config.json").chmod(0)
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == 0 and str(parent).startswith(str(place.parent.parent.parent)):
            parent.chmod(0o755)
    os.seteuid(65534)
    try:
        said = refusal(folder, "mode 000", check_model_folder)
    finally:
        os.seteuid(0)
    assert said and "unet/config.json cannot be read as JSON (Permission denied)" in said


ASKS = """
import sys
from insightedit.export.folder import load_pipeline
from insightedit.modeling.pretrained import load_pretrained
from transformers import AutoConfig, AutoTokenizer, AutoProcessor, AutoModelForImageTextToText
folder = sys.argv[1]
for call in (
    lambda: load_pipeline(folder, "cpu"),
    lambda: load_pretrained(AutoTokenizer, folder + "/processor"),
    lambda: load_pretrained(AutoProcessor, folder + "/processor"),
    lambda: load_pretrained(AutoConfig, folder + "/mllm"),
    lambda: load_pretrained(AutoModelForImageTextToText, folder + "/mllm"),
):
    try:
        call()
    except (ValueError, OSError) as error:
        print("refused:", str(error).splitlines()[0])
"""


def test_saying_yes_runs_nothing(tiny_folder, place):
    """transformers asks on the terminal whether to run a folder's code; here nobody is asked, whatever is typed."""
    folder = link_tree(tiny_folder, place / "model")
    for name, key in (("processor", "tokenizer_config"), ("processor", "processor_config"), ("mllm", "config")):
        code = dict.fromkeys(("AutoConfig", "AutoProcessor", "AutoModelForImageTextToText"), "code.Own")
        code["AutoTokenizer"] = ["code.Own", "code.Own"]
        edit_json(folder / name / f"{key}.json", lambda held, c=code: {**held, "auto_map": c, "model_type": "own"})
        put(folder / name / "code.py", "open('ran', 'w')\nclass Own: pass\n")
    done = subprocess.run(
        [sys.executable, "-c", ASKS, str(folder)],
        input="y\n" * 50,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=place,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("refused:") == 5, done.stdout
    assert "Do you wish" not in done.stdout + done.stderr
    assert not (place / "ran").exists()


def test_a_hostile_folder_takes_no_memory(tiny_folder, place):
    """Sizes that no memory holds, where 6 GB of address space beyond what is in use are all there is."""
    code = (
        "import sys, resource\nfrom insightedit.pipelines.model_folder import check_model_folder\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 6 * 2**30,) * 2)\n"
        "for folder in sys.argv[1:]:\n"
        "    try:\n        check_model_folder(folder)\n        print('went through', folder)\n"
        "    except (ValueError, OSError) as error:\n        print('refused')\n"
    )
    hostile = (
        ("mllm/config.json", "text_config", "num_hidden_layers", 10**7),
        ("mllm/config.json", "text_config", "vocab_size", 2**24),
        ("mllm/config.json", "text_config", "max_position_embeddings", 10**12),
        ("unet/config.json", None, "layers_per_block", 10**7),
        ("scheduler/scheduler_config.json", None, "num_train_timesteps", 10**9),
        ("bridge/config.json", "qformer_config", "num_layers", 10**7),
        ("bridge/config.json", None, "num_queries", 2**19),
        ("image_encoder/config.json", None, "image_size", 8192),
    )
    folders = []
    for number, (name, section, key, value) in enumerate(hostile):
        folder = link_tree(tiny_folder, place / str(number))
        edit_json(folder / name, lambda h, s=section, k=key, v=value: (h[s] if s else h).update({k: v}))
        folders.append(str(folder))
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["refused"] * len(hostile), done.stdout + done.stderr[-1000:]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 4 * 2**20  # kB


class TestInfo:
    def test_notes_of_another_program(self, tiny_folder, place):
        folder = link_tree(tiny_folder, place / "model")
        notes = {"bases": [3, {"model": "a\x1b[31m"}], "steps": {"a": 1}, "data": [1, None], "skill": 7}
        put(folder / "export.json", json.dumps(notes))
        put(folder / "README.md", b"\xff\xfe license: x")
        facts = describe_model(folder)
        assert "recipe" not in facts
        assert facts["bases"] == "a [31m (None)"
        assert facts["data"] == "1; None"

    @pytest.mark.parametrize("name", ["StableDiffusionPipeline", None, 7])
    def test_another_pipeline_of_diffusers(self, tiny_root, place, name):
        folder = link_tree(tiny_root / "sd", place / "sd")
        put(
            folder / "model_index.json",
            json.dumps({"_class_name": name, "unet": ["diffusers", "UNet2DConditionModel"]}),
        )
        with pytest.raises(ValueError, match="holds a pipeline of the class .* which this package does not run"):
            describe_model(folder)

    def test_prompts_are_checked_where_a_pipeline_is_made(self, tiny_pipeline):
        parts = dict(tiny_pipeline.components)
        for text in ("{what}", "{", "a" * 10**6, "{instruction!r}"):
            with pytest.raises(ValueError, match="`describe_prompt` is .* no other slot than {instruction}"):
                type(tiny_pipeline)(**parts, resolution=32, num_edit_tokens=4, describe_prompt=text)


def test_pickles_are_not_read_even_if_asked_for(tiny_folder):
    with pytest.raises(ValueError, match="use_safetensors=False was given: pickles are not read"):
        load_pipeline(tiny_folder, "cpu").from_pretrained(tiny_folder, use_safetensors=False)


def test_a_number_is_checked_whatever_its_name():
    for name in ("hidden_size", "a\nb"):
        check_settings(Path("config.json"), {name: 2**20})
        with pytest.raises(ValueError, match=r"(?s)config.json: .* is 1048577: it may be -1.*too many for any memory"):
            check_settings(Path("config.json"), {"inner": [{name: 2**20 + 1}]})
