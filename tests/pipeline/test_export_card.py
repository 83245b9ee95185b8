"""The card of an export: nothing empty in it, its code runs, its licences are the bases'."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from insightedit.cli.main import app
from insightedit.config.load import dump_config, load_config
from insightedit.export.card import base_facts, base_license, data_facts, measured_facts, training_facts
from insightedit.export.checks import own_samples, scene_samples
from insightedit.export.folder import export_run, run_facts
from insightedit.images.sheets import GAP, HEADER, LINE, MARGIN

ROOT = Path(__file__).parents[2]
RATE = {"successes": 3, "n": 10, "value": 0.3, "low": 0.1, "high": 0.6}


@pytest.fixture
def report(tmp_path) -> Path:
    """What `insightedit eval scenes` writes, as far as a card reads it."""
    protocol = {"hash": "abc", "name": "scenes_v1", "count": 10, "split": "test", "size": 32, "seed": 0}
    settings = {"num_inference_steps": 2, "guidance_scale": 7.5, "image_guidance_scale": 1.5, "device": "cpu"}
    rows = [
        {"name": "model", "success": RATE, "groups": {"task": {"remove": RATE}}},
        {"name": "copy_source", "success": {**RATE, "value": 0.0}},
    ]
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"protocol": protocol, "settings": settings, "rows": rows}))
    return path


@pytest.fixture
def photo_report(tmp_path) -> Path:
    """What `insightedit eval photos` writes, as far as a card reads it."""
    protocol = {"hash": "def", "name": "photos_v1", "count": 10, "split": "test", "seed": 0}
    row = {"name": "model", "psnr": {"low": 31.0, "median": 33.0, "high": 35.0}}
    row |= dict.fromkeys(("understood", "success", "left_alone", "said_so", "doubted", "wrongly_refused"), RATE)
    path = tmp_path / "photos.json"
    path.write_text(json.dumps({"protocol": protocol, "rows": [row, {**row, "name": "copy_source"}]}))
    return path


def empty_fields(text: str) -> list[str]:
    """Everything in a card that is there and says nothing."""
    _, header, body = text.split("---\n", 2)
    found = [f"header {key}" for key, value in yaml.safe_load(header).items() if value in (None, "", [], {})]
    body = re.sub(r"```.*?```", "code", body, flags=re.DOTALL)
    for heading, section in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", body, re.DOTALL | re.MULTILINE):
        if not section.strip():
            found.append(f"section {heading}")
    for line in body.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if len(cells) > 1 and any(cells) and not all(cells):
            found.append(f"table {line}")
        if line.strip() in ("-", "*") or (re.search(r":\s*$", line) and line.startswith("- ")):
            found.append(f"list {line}")
    found += [f"word {word}" for word in re.findall(r"\b(?:None|nan|undefined|null)\b|\{\{|\{%|``|\(\)|\[\]", body)]
    return found


def test_empty_fields_are_found():
    card = "---\nlicense:\n---\n# T\n\n## A\n\n## B\n| a |  |\n- \n- x:\nrecipe None\n"
    assert empty_fields(card) == ["header license", "section A", "table | a |  |", "list - ", "list - x:", "word None"]


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        (3, {}),
        (3, {"merge_lora": False, "dtype": "bf16", "samples": 1}),
        (2, {"dtype": "fp32", "name": "owner/name", "report": True}),
    ],
    ids=["plain", "adapter", "measured"],
)
def test_no_field_is_empty(tiny_runs, tmp_path, report, photo_report, stage, options):
    if options.get("report"):
        options = {**options, "report": [report, photo_report]}
    folder = export_run(tiny_runs / f"stage{stage}", tmp_path / "m", **options)
    text = (folder / "README.md").read_text()
    assert empty_fields(text) == []
    assert text.count(" steps of 2 samples from ") == stage
    for section in (
        "Facts",
        "Training",
        "Data",
        "Measured skill",
        "On photographs",
        "Base models and licences",
        "Limits",
    ):
        assert f"\n## {section}\n" in text
    assert "scenes, split train: scenes drawn by this package" in text
    assert ("- photographs: 6 of lomiri-wallpapers (Debian), CC-BY-4.0\n" in text) == (stage > 1)
    assert text.count("How it was measured") == (2 if "report" in options else 0)
    assert ("at the photograph's own size: median 33.0 dB" in text) == ("report" in options)
    picture = re.search(r"!\[.+\]\((.+)\)", text)
    assert bool(picture) == ("samples" in options) == (folder / "samples.png").is_file()


def test_photographs_of_a_pack_are_told_by_their_licences(tmp_path):
    run, pack = tmp_path / "stage3", tmp_path / "attic"
    for folder in (run, pack):
        folder.mkdir()
    Image.new("RGB", (40, 30), "red").save(pack / "red.png")
    entry = {
        "file": "red.png",
        "kind": "photo",
        "name": "red",
        "split": "train",
        "source": "attic",
        "licence": "GPL-2+",
    }
    (pack / "metadata.json").write_text(json.dumps([entry]), encoding="utf-8")
    source = f"{{kind: descriptions, split: train, pack: {pack}}}"
    dump_config(load_config("insightedit", 3, ["tiny"], [f"data.sources=[{source}]"]), run / "config.yaml")
    told = data_facts(run)
    assert "photographs under a licence of their own: 1 of attic, GPL-2+" in told
    assert "photographs: 6 of lomiri-wallpapers (Debian), CC-BY-4.0" in told
    shutil.rmtree(pack)
    assert "photographs of a folder attic, which is gone" in data_facts(run)


def test_a_card_without_any_facts_says_so(tiny_folder):
    text = (tiny_folder / "README.md").read_text()
    assert empty_fields(text) == []
    assert text.count("Not stated.") == 3
    assert "Not measured. `insightedit eval scenes --model " in text
    assert "Not measured. `insightedit eval photos --model " in text


def test_the_cards_code_runs(tiny_runs, tmp_path, monkeypatch):
    """The three snippets, as they stand in the card."""
    monkeypatch.chdir(tmp_path)
    folder = export_run(tiny_runs / "stage3", "models/tiny", merge_lora=False)
    text = (folder / "README.md").read_text()
    python, plain = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    shell = re.search(r"```\n(insightedit .*?)\n```", text, re.DOTALL)[1]
    Image.new("RGB", (50, 30), "teal").save("photo.png")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", python], check=True, capture_output=True, env=environment, timeout=300)
    with Image.open("edited.png") as edited:
        assert edited.size == (50, 30)
    Path("edited.png").unlink()
    environment["HF_MODULES_CACHE"] = str(tmp_path / "modules")
    plain += "\nassert type(pipe).__name__ == 'InsightEditPipeline'"
    subprocess.run([sys.executable, "-c", plain], check=True, capture_output=True, env=environment, timeout=300)
    done = CliRunner().invoke(app, shlex.split(shell)[1:])
    assert done.exit_code == 0, done.output
    with Image.open("edited.png") as edited:
        assert edited.size == (50, 30)


class TestLicences:
    def base(self, folder: Path, header: str) -> str:
        folder.mkdir()
        (folder / "README.md").write_text(f"---\n{header}\n---\n# base\n")
        return str(folder)

    def test_stated_by_the_bases_card(self, tmp_path):
        assert base_license(self.base(tmp_path / "a", "license: openrail++")) == "openrail++"
        assert base_license(self.base(tmp_path / "b", "license: [mit, apache-2.0]")) == "mit, apache-2.0"

    @pytest.mark.parametrize("header", ["tags: [x]", "license: [", "- no mapping"])
    def test_not_stated(self, tmp_path, header):
        assert base_license(self.base(tmp_path / "a", header)) == "not stated by the base; check a"

    def test_hub_ids_are_read_from_the_cache(self, tmp_path, monkeypatch):
        import huggingface_hub

        self.base(tmp_path / "a", "license: llama2")
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(tmp_path / "a" / "README.md"))
        assert base_license("some/llava") == "llama2"
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
        assert base_license("some/llava") == "not stated by the base; check some/llava"

    def test_one_licence_is_the_models_several_are_other(self, tmp_path):
        mit, other = self.base(tmp_path / "a", "license: mit"), self.base(tmp_path / "b", "license: openrail")
        one = base_facts({"comprehension.model": mit, "generation.model": mit, "generation.denoiser.model": mit})
        assert one["license"] == "mit"
        assert [row["role"] for row in one["bases"]] == ["language model", "image generator"]
        assert one["base_models"] == []
        two = base_facts({"comprehension.model": mit, "generation.model": other})
        assert two["license"] == "other"
        assert base_facts({"comprehension.model": "no/card"})["license"] == "other"
        assert base_facts({"comprehension.model": "no/card"})["base_models"] == ["no/card"]

    def test_the_header_names_another_licence_as_the_hub_wants_it(self, tiny_runs, tmp_path, monkeypatch):
        monkeypatch.setattr("insightedit.export.card.OWN_LICENSE", "not stated by the base; check it")
        text = (export_run(tiny_runs / "stage3", tmp_path / "m") / "README.md").read_text()
        header = yaml.safe_load(text.split("---")[1])
        assert (header["license"], header["license_link"]) == ("other", "README.md")
        assert header["license_name"] == "follows-the-base-models"
        assert "base_model" not in header, "a miniature's id is no hub id"


def test_the_protocol_is_told(report):
    lines = measured_facts(report)["protocol"]
    assert lines[0].startswith("success: nearest of all candidates")
    assert lines[1] == "scenes_v1: 10 scenes of the split test at 32 px, seed 0; protocol abc"
    assert lines[2] == "drawn with 2 steps, guidance 7.5 text and 1.5 image, on cpu"
    assert lines[3] == "controls on the same scenes: copy source 0.000"


def test_a_run_without_its_log_still_has_a_card(tiny_runs, tmp_path):
    run = Path(shutil.copytree(tiny_runs / "stage3", tmp_path / "only" / "stage3"))
    (run / "log.jsonl").unlink()
    assert training_facts(run) == [
        "stage 3 (edit): an unknown number of steps of 2 samples from scenes (train); adamw, learning rate 0.001"
    ]


def test_facts_name_the_averaged_weights(tiny_runs, tmp_path):
    from insightedit.export.checks import read_run

    run = Path(shutil.copytree(tiny_runs / "stage3", tmp_path / "stage3"))
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    shutil.copy(newest / "trainable.safetensors", newest / "ema.safetensors")
    assert run_facts(run, read_run(run))["weights"] == "running average"
    assert run_facts(run, read_run(run), ema=False)["weights"] == "last training step"


class TestSamples:
    def test_scenes_are_held_out_and_fixed(self):
        first, again = scene_samples(2, 32), scene_samples(2, 32)
        assert [s.instruction for s in first] == [s.instruction for s in again]
        assert first[0].source.shape == (32, 32, 3)
        assert not np.array_equal(first[0].source, first[0].target)
        assert scene_samples(0, 32) == []

    def test_own_pictures(self, tiny_runs, tmp_path):
        path = tmp_path / "photo.png"
        Image.new("RGB", (50, 30), "teal").save(path)
        samples = own_samples([f"{path}=make it red", f"{path}=a=b"])
        assert [(s.instruction, s.target) for s in samples] == [("make it red", None), ("a=b", None)]
        folder = export_run(tiny_runs / "stage3", tmp_path / "m", samples=samples)
        with Image.open(folder / "samples.png") as sheet:
            width, height = sheet.size
        words = LINE * 2 + GAP + MARGIN  # the instruction, and a free line of facts
        assert (width, height) == (2 * 192 + GAP + 2 * MARGIN, HEADER + 2 * (192 + words))

    @pytest.mark.parametrize("word", ["photo.png", "=make it red", "photo.png= "])
    def test_words_that_are_no_sample(self, word):
        with pytest.raises(ValueError, match=r"write PICTURE=INSTRUCTION"):
            own_samples([word])

    def test_a_missing_picture(self):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            own_samples(["nowhere.png=make it red"])
