"""Finished runs become model folders, merged or as an adapter, and nothing else does."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from insightedit.comprehension.adapter_checkpoint import AdaptedMllm, fingerprint
from insightedit.comprehension.lora import merge
from insightedit.export.checks import DTYPES
from insightedit.export.folder import export_editor, export_run
from insightedit.pipelines.compose import pipeline_from_editor
from insightedit.pipelines.edit import InsightEditPipeline
from insightedit.pipelines.loading import describe_model, load_pipeline
from insightedit.training.checkpoint import COMPLETE, TRAINABLE


def draw(pipeline, picture) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(picture, "make the dog red", seed=3, output_type="pt", background_lock=False).images[0]


@pytest.fixture
def trained(tiny_editor, tiny_root):
    """An editor whose adapter and token rows are not zero, and the config that names its base model."""
    editor, config = tiny_editor
    config.comprehension.model = str(tiny_root / "llava")
    with torch.no_grad():
        for name, parameter in editor.comprehension.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
                assert parameter.any(), name
    return editor, config


class TestAdapter:
    @pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
    def test_pixels_are_those_of_the_merged_export(self, trained, tmp_path, picture_of, dtype):
        editor, config = trained
        pictures = []
        for merge_lora in (True, False):
            folder = export_editor(editor, config, tmp_path / str(merge_lora), dtype, merge_lora=merge_lora)
            pictures.append(draw(load_pipeline(folder, "cpu"), picture_of("RGB", (40, 30))))
        assert torch.equal(*pictures)

    def test_the_folder_is_small_and_peft_reads_it(self, trained, tiny_root, tmp_path):
        from peft import PeftModel
        from transformers import AutoModelForImageTextToText

        editor, config = trained
        folder = export_editor(editor, config, tmp_path / "m", merge_lora=False) / "mllm"
        names = {path.name for path in folder.iterdir()}
        assert names > {"adapter_config.json", "adapter_model.safetensors", "base.json", "tokenizer_config.json"}
        assert not [name for name in names if name.endswith((".bin", ".py"))]
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
            tiny_root / "llava"
        )
        rows = {n: t for n, t in load_file(folder / "adapter_model.safetensors").items() if "lora" not in n}
        assert {tuple(t.shape) for t in rows.values()} == {(4, editor.comprehension.hidden_size)}
        base = AutoModelForImageTextToText.from_pretrained(tiny_root / "llava")
        base.resize_token_embeddings(json.loads((folder / "base.json").read_text())["vocabulary"], mean_resizing=False)
        theirs = PeftModel.from_pretrained(base, folder).eval()
        ours = merge(editor.comprehension.mllm)
        ids = torch.tensor([[5, 6, *editor.comprehension.edit_token_ids]])
        with torch.no_grad():
            torch.testing.assert_close(theirs(input_ids=ids).logits, ours(input_ids=ids).logits, atol=1e-5, rtol=1e-5)

    def test_peft_finds_the_base_itself(self, trained, tmp_path):
        from peft import AutoPeftModel

        editor, config = trained
        folder = export_editor(editor, config, tmp_path / "m", merge_lora=False) / "mllm"
        theirs = AutoPeftModel.from_pretrained(folder).eval()
        ids = torch.tensor([[5, 6, *editor.comprehension.edit_token_ids]])
        with torch.no_grad():
            expected = merge(editor.comprehension.mllm)(input_ids=ids).logits
            torch.testing.assert_close(theirs(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-5)

    def test_a_loaded_adapter_is_saved_whole(self, trained, tmp_path):
        editor, config = trained
        folder = export_editor(editor, config, tmp_path / "adapter", merge_lora=False)
        load_pipeline(folder, "cpu").save_pretrained(tmp_path / "whole")
        assert (tmp_path / "whole/mllm/model.safetensors").is_file()
        again = InsightEditPipeline.from_pretrained(tmp_path / "whole")
        first = InsightEditPipeline.from_pretrained(folder).mllm.state_dict()
        assert all(torch.equal(value, first[name]) for name, value in again.mllm.state_dict().items())

    def test_without_lora_the_rows_alone_are_the_adapter(self, tiny_root, tmp_path):
        from insightedit.comprehension import LlavaComprehension

        read = LlavaComprehension.from_pretrained(str(tiny_root / "llava"), num_edit_tokens=4)
        with torch.no_grad():
            for parameter in read.parameters():
                if parameter.requires_grad:
                    parameter.normal_()
        AdaptedMllm(read.mllm, base=str(tiny_root / "llava"), dtype=torch.float32).save_pretrained(tmp_path)
        loaded, merged = AdaptedMllm.from_pretrained(tmp_path).state_dict(), merge(read.mllm).state_dict()
        assert loaded.keys() == merged.keys()
        assert all(torch.equal(value, merged[name]) for name, value in loaded.items())

    def test_another_base_is_refused(self, trained, tmp_path):
        editor, config = trained
        folder = export_editor(editor, config, tmp_path / "m", merge_lora=False)
        other = tmp_path / "llava"
        shutil.copytree(config.comprehension.model, other)
        weights = load_file(other / "model.safetensors")
        name = next(n for n in weights if "vision" in n)
        weights[name].view(-1)[0] += 1
        save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
        self.point_to(folder, str(other))
        with pytest.raises(ValueError, match=r"trained on .*llava, but other weights lie under that name"):
            load_pipeline(folder, "cpu")

    def test_a_missing_base_is_named(self, trained, tmp_path):
        editor, config = trained
        folder = export_editor(editor, config, tmp_path / "m", merge_lora=False)
        self.point_to(folder, str(tmp_path / "gone"))
        with pytest.raises(ValueError, match=r"needs its base model .*gone, which cannot be loaded"):
            load_pipeline(folder, "cpu")

    @staticmethod
    def point_to(folder: Path, model: str) -> None:
        file = folder / "mllm" / "base.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "model": model}))

    def test_rounded_bases_and_models_without_adapter_are_refused(self, trained):
        editor, _ = trained
        mllm = editor.comprehension.mllm
        mllm.get_base_model().is_quantized = True
        with pytest.raises(ValueError, match=r"trained on rounded \(4-bit or 8-bit\) weights of some/base"):
            AdaptedMllm(mllm, base="some/base", dtype=torch.float16)
        with pytest.raises(ValueError, match="has no adapter: export it with its weights"):
            AdaptedMllm(torch.nn.Linear(2, 2), base="some/base", dtype=torch.float16)

    def test_fingerprint_sees_the_base_only(self, trained, tiny_root):
        from transformers import AutoModelForImageTextToText

        editor, _ = trained
        base = AutoModelForImageTextToText.from_pretrained(tiny_root / "llava")
        first = fingerprint(base)
        assert fingerprint(editor.comprehension.mllm) == first
        assert fingerprint(base.half().float()) != first  # tiny weights are no halves; stored halves would be equal
        assert fingerprint(base.half()) == fingerprint(base.float())


class TestEditorExport:
    def test_a_branch_that_was_off_stays_off(self, trained, tmp_path, picture_of):
        editor, config = trained
        picture = picture_of("RGB", (32, 32))
        with_bim = draw(pipeline_from_editor(editor, config), picture)
        editor.bridge.use_bim = False
        live = draw(pipeline_from_editor(editor, config), picture)
        assert (live - with_bim).abs().max() > 0.01
        folder = export_editor(editor, config, tmp_path / "m", torch.float32)
        pipeline = load_pipeline(folder, "cpu")
        assert pipeline.bridge.bim is None
        torch.testing.assert_close(draw(pipeline, picture), live, atol=1.5 / 255, rtol=0)
        assert editor.bridge.bim is not None

    def test_the_image_branch_too(self, trained, tmp_path):
        editor, config = trained
        editor.bridge.use_iaa = False
        folder = export_editor(editor, config, tmp_path / "m", torch.float32)
        assert load_pipeline(folder, "cpu").bridge.iaa is None

    def test_weights_that_do_not_fit_are_refused(self, trained, tmp_path):
        editor, config = trained
        with torch.no_grad():
            editor.unet.conv_in.bias[0] = 1e6
        with pytest.raises(ValueError, match=r"unet\.conv_in\.bias does not fit into float16.*--dtype bf16"):
            export_editor(editor, config, tmp_path / "m", torch.float16)
        assert not list(tmp_path.iterdir())
        assert export_editor(editor, config, tmp_path / "m", torch.bfloat16).is_dir()

    def test_a_file_is_no_destination(self, trained, tmp_path):
        (tmp_path / "m").write_text("a file")
        with pytest.raises(ValueError, match="is a file: name a folder"):
            export_editor(*trained, tmp_path / "m")


class TestRun:
    """What `export_run` takes and what it refuses."""

    @pytest.fixture
    def run(self, tiny_runs, tmp_path):
        """A copy of the third stage that may be damaged."""
        return Path(shutil.copytree(tiny_runs / "stage3", tmp_path / "stage3"))

    @staticmethod
    def refused(run: Path, match: str, **options) -> None:
        target = run.parent / "model"
        before = sorted(run.parent.iterdir())
        with pytest.raises(ValueError, match=match):
            export_run(run, target, **options)
        assert sorted(run.parent.iterdir()) == before, "something was written"

    @staticmethod
    def change(file: Path, **values) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    @staticmethod
    def weights_of(run: Path, edit) -> None:
        """Let `edit` change the newest checkpoint's weights in place, and list the new size."""
        folder = sorted((run / "checkpoints").glob("step-*"))[-1]
        weights = load_file(folder / TRAINABLE)
        edit(weights)
        save_file(weights, folder / TRAINABLE)
        sizes = json.loads((folder / COMPLETE).read_text())
        (folder / COMPLETE).write_text(json.dumps({**sizes, TRAINABLE: (folder / TRAINABLE).stat().st_size}))

    @pytest.mark.parametrize("stage", [2, 3])
    def test_the_stages_that_draw(self, tiny_runs, tmp_path, picture_of, stage):
        """The folder draws what the run draws."""
        from insightedit.export.checks import read_run
        from insightedit.model.build import build_editor
        from insightedit.training.checkpoint import load_stage_weights

        run = tiny_runs / f"stage{stage}"
        folder = export_run(run, tmp_path / "m", dtype="fp32", merge_lora=False)
        config = read_run(run)
        editor = build_editor(config)
        load_stage_weights(editor, run)
        picture = picture_of("RGB", (32, 32))
        live = draw(pipeline_from_editor(editor, config), picture)
        torch.testing.assert_close(draw(load_pipeline(folder, "cpu"), picture), live, atol=1.5 / 255, rtol=0)
        assert (load_pipeline(folder, "cpu").bridge.bim is None) == (stage == 2)
        assert load_pipeline(folder, "cpu").config.lowercase_instructions

    def test_the_same_bytes_again(self, tiny_runs, tmp_path):
        digests = []
        for name in ("a", "b"):
            folder = export_run(tiny_runs / "stage3", tmp_path / name / "model", samples=1)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            digests.append([(p.relative_to(folder), hashlib.md5(p.read_bytes()).hexdigest()) for p in files])
        assert digests[0] == digests[1]

    def test_stage_1(self, tiny_runs, tmp_path):
        shutil.copytree(tiny_runs / "stage1", tmp_path / "stage1")
        self.refused(tmp_path / "stage1", r"run of stage 1 \(align\), which does not draw")

    def test_unknown_dtype(self, run):
        self.refused(run, "`dtype` 'fp8' is unknown: take one of fp32, fp16, bf16", dtype="fp8")

    def test_unfinished(self, run):
        (run / "contract.json").unlink()
        self.refused(run, r"has not finished: it stopped at step-000002 and there is no contract\.json")

    def test_no_whole_checkpoint(self, run):
        for marker in (run / "checkpoints").glob("*/COMPLETE"):
            marker.unlink()
        self.refused(run, "holds no whole checkpoint")

    def test_the_last_checkpoint_is_damaged(self, run):
        (run / "checkpoints" / "step-000002" / TRAINABLE).write_bytes(b"cut")
        self.refused(run, "finished at step 2, but its newest whole checkpoint is from step 1")

    def test_contract_of_another_recipe(self, run):
        self.change(run / "contract.json", recipe="smartedit")
        self.refused(run, r"contract\.json says recipe is smartedit, its config\.yaml says insightedit")

    def test_contract_of_another_base(self, run):
        contract = json.loads((run / "contract.json").read_text())
        models = {**contract["base_models"], "comprehension.model": "another/llava"}
        self.change(run / "contract.json", base_models=models)
        self.refused(run, "says comprehension.model is another/llava, its config.yaml says miniature:tiny/llava")

    def test_what_earlier_stages_made_is_missing(self, run):
        (run / "inherited.safetensors").unlink(missing_ok=True)
        contract = json.loads((run / "contract.json").read_text())
        held = {**contract["keys"], "bridge.qformer.gone.weight": [3]}
        self.change(run / "contract.json", keys=held)
        self.refused(run, r"lacks \d+ weights that its contract\.json lists .* inherited\.safetensors")

    def test_weights_of_another_shape(self, run):
        self.weights_of(run, lambda weights: weights.update({"unet.conv_in.bias": torch.zeros(3)}))
        self.refused(run, r"holds 1 weights that its contract\.json does not list so \(e\.g\. unet\.conv_in")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_no_numbers(self, run, value):
        self.weights_of(run, lambda weights: weights["unet.conv_in.bias"].fill_(value))
        self.refused(run, r"not finite \(1 tensors, e\.g\. unet\.conv_in\.bias\): its training diverged")

    def test_a_language_model_trained_whole_is_no_adapter(self, run):
        name = "comprehension.mllm.model.language_model.norm.weight"
        self.weights_of(run, lambda weights: weights.update({name: torch.ones(4)}))
        contract = json.loads((run / "contract.json").read_text())
        self.change(run / "contract.json", keys={**contract["keys"], name: [4]})
        self.refused(run, "trained 1 weights of the language model itself", merge_lora=False)

    def test_a_config_of_another_world(self, run):
        (run / "config.yaml").write_text("bridgee: {}\n")
        self.refused(run, "is no config of this version of insightedit")

    def test_a_full_destination_is_seen_before_the_work(self, run, tmp_path, monkeypatch):
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "text.txt").write_text("years of work")
        monkeypatch.setattr("insightedit.model.build.build_editor", lambda _: 1 / 0)
        with pytest.raises(ValueError, match="holds other files"):
            export_run(run, tmp_path / "thesis")


def test_info_tells_what_was_exported(tiny_runs, tmp_path):
    facts = describe_model(export_run(tiny_runs / "stage3", tmp_path / "m", merge_lora=False))
    assert facts["recipe"] == "insightedit"
    assert facts["weights"] == "float16"
    assert facts["language"] == "peft adapter on miniature:tiny/llava"
    assert facts["taken from"] == "last training step"
    assert facts["bases"].startswith("miniature:tiny/llava (apache-2.0); ")
    assert facts["training"].count("; stage ") == 2
