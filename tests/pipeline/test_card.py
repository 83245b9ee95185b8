"""What the model card says about training and skill."""

from __future__ import annotations

import json

import pytest

from insightedit.config.load import dump_config, load_config
from insightedit.export.card import data_facts, known_limits, measured_facts, training_facts
from insightedit.training.checkpoint import COMPLETE, TRAINER


def write_run(folder, stage: int) -> None:
    folder.mkdir(parents=True)
    dump_config(load_config("insightedit", stage, ["tiny"], []), folder / "config.yaml")
    (folder / "log.jsonl").write_text(json.dumps({"step": 10 * stage}) + "\n")


def test_training_facts_follow_the_stages(tmp_path) -> None:
    for stage in (1, 2, 3):
        write_run(tmp_path / f"stage{stage}", stage)
    facts = training_facts(tmp_path / "stage3")
    assert [fact.split(":")[0] for fact in facts] == ["stage 1 (align)", "stage 2 (understand)", "stage 3 (edit)"]
    assert "30 steps of 2 samples from scenes (train)" in facts[2]


def test_training_facts_count_the_samples_of_all_processes(tmp_path) -> None:
    write_run(tmp_path / "stage1", 1)
    newest = tmp_path / "stage1" / "checkpoints" / "step-000010"
    newest.mkdir(parents=True)
    (newest / TRAINER).write_text(json.dumps({"world_size": 3}))
    (newest / COMPLETE).write_text(json.dumps({TRAINER: (newest / TRAINER).stat().st_size}))
    assert "10 steps of 6 samples from captions (train)" in training_facts(tmp_path / "stage1")[0]


def test_a_model_for_few_steps_says_so() -> None:
    assert known_limits(load_config("insightedit", 3, ["tiny"], [])) == []
    overrides = ["loss.min_timestep=800", "guidance.num_inference_steps=1"]
    overrides += ["guidance.drop_image=0.0", "guidance.drop_both=0.0"]
    limit, other = known_limits(load_config("insightedit", 3, ["tiny"], overrides))
    assert other == "Never trained without the source picture: an image guidance scale other than 1 is a guess."
    assert limit.startswith("Trained on the timesteps from 800 on only: made for 1 denoising step, many more")


def test_skill_comes_from_a_report(tmp_path) -> None:
    rate = {"successes": 3, "n": 10, "value": 0.3, "low": 0.1, "high": 0.6}
    rows = [{"name": "model", "success": rate, "groups": {"task": {"remove": rate}}}]
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"protocol": {"hash": "abc"}, "rows": rows}))
    lines = measured_facts(report)["skill"]
    assert lines[0] == "edit success on 10 held-out scenes: 0.300 [0.100, 0.600], n = 10 (protocol abc)"
    assert lines[1].startswith("remove: 0.300")


def test_sharpness_stands_beside_the_ceiling_and_by_task(tmp_path) -> None:
    rate = {"successes": 3, "n": 10, "value": 0.3, "low": 0.1, "high": 0.6}
    rows = [
        {"name": "model", "success": rate, "groups": {"task": {"remove": rate}}},
        {"name": "copy_source", "success": rate, "sharpness": None},
        {"name": "autoencoder_target", "success": rate, "sharpness": {**rate, "value": 0.66}},
    ]
    rows[0] |= {"sharpness": {**rate, "value": 0.448}, "sharpness_by_task": {"remove": rate, "resize": None}}
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"protocol": {"hash": "abc"}, "rows": rows}))
    facts = measured_facts(report)
    assert facts["skill"][2] == "sharpness, 1 as the truth: as drawn 0.45, autoencoder target 0.66, remove 0.30"
    assert facts["protocol"][1].startswith("sharpness: gradient energy of the changed area")


def test_numbers_on_photographs_come_from_their_report(tmp_path) -> None:
    rate = {"successes": 9, "n": 10, "value": 0.9, "low": 0.6, "high": 0.98}
    psnr = {"low": 31.0, "median": 33.26, "high": 35.0}
    model = {
        "name": "model",
        "understood": rate,
        "success": rate,
        "psnr": psnr,
        "left_alone": rate,
        "said_so": None,
        "doubted": rate,
    }
    rows = [{**model, "wrongly_refused": {**rate, "value": 0.1}}, {"name": "copy_source", "psnr": psnr}]
    rows.append({"name": "nothing", "psnr": None})
    protocol = {"name": "photos_v1", "hash": "abc", "count": 20, "split": "test", "seed": 3}
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"protocol": protocol, "settings": {"photographs": 4}, "rows": rows}))
    facts = measured_facts(report)
    assert facts.keys() == {"photographs", "photo_protocol"}
    lines = facts["photographs"]
    assert lines[0].endswith("held out from training: 0.900 [0.600, 0.980], n = 10 (protocol abc)")
    assert "median 33.3 dB, quartiles 31.0 and 35.0" in lines[2]
    assert (
        lines[4] == "of these, told so: the model does not tell; of all other requests: 0.900 [0.600, 0.980], n = 10"
    )
    assert lines[5].endswith("refused: 0.100 [0.600, 0.980], n = 10")
    assert facts["photo_protocol"][0].startswith("photos_v1: 20 requests on 4 photographs of the split test")
    assert facts["photo_protocol"][2] == "controls on the same photographs: copy source 33.3 dB"


@pytest.mark.parametrize("text", ["{}", "[]", "no", '{"protocol": {"name": "photos_v1"}, "rows": []}'])
def test_another_file_is_refused(text, tmp_path) -> None:
    report = tmp_path / "report.json"
    report.write_text(text)
    with pytest.raises(ValueError, match="is no report of `insightedit eval scenes` or `insightedit eval photos`"):
        measured_facts(report)


def test_sources_within_mixtures_are_named_one_by_one(tmp_path) -> None:
    config = load_config("smartedit", 3, ["smartedit_data"])
    dump_config(config, tmp_path / "config.yaml")
    facts = data_facts(tmp_path)
    assert len(facts) == 8
    assert "reasonseg, split train: reasonseg" in facts
    assert "reasonedit (train), reasonseg (train), llava_instruct (train)" in training_facts(tmp_path)[0]
