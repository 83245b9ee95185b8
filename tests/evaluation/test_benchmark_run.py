"""Runs on small copies of the published layouts: numbers by hand, controls, stopping and going on, what is missing."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from insightedit.chat.clients import ChatError
from insightedit.chat.replies import Reply
from insightedit.evaluation.benchmarks.base import Benchmark, BenchmarkSample
from insightedit.evaluation.benchmarks.registry import load_benchmark
from insightedit.evaluation.core.columns import ProtocolMixError
from insightedit.evaluation.core.editing_methods import EditAnswer, EditCall, EditingMethod, ModelOutputs
from insightedit.evaluation.core.metric_models import MetricModels, load_metric_models
from insightedit.evaluation.core.protocols import PROTOCOLS
from insightedit.evaluation.core.run import failures, run_benchmark
from insightedit.evaluation.core.run_folder import RunSample, read_run, read_samples, write_samples
from insightedit.evaluation.metrics.encoders import ClipEncoder
from insightedit.evaluation.reporting.run_tables import table_of_runs
from insightedit.evaluation.reporting.runs import read_report_run
from insightedit.files import lock_folder
from tests.evaluation.benchmark_runs import (
    folder_editor,
    networks,
    noise_editor,
    records,
    run,
    tools,
    values,
    write_results,
)
from tests.evaluation.benchmarks import layouts_one as one
from tests.evaluation.benchmarks import layouts_two as two

SMARTEDIT, MAGICBRUSH = PROTOCOLS["smartedit_v1"], PROTOCOLS["magicbrush_v1"]
EMU_MIGE = PROTOCOLS["emu_mige_v1"]
PIXELS = replace(SMARTEDIT, rules=SMARTEDIT.rules[:4], models=())  # without networks


def reason_edit(tmp_path: Path, count: int = 2) -> Benchmark:
    """The first samples; each costs four passes of SqueezeNet."""
    benchmark = load_benchmark("reason-edit", one.write_reason_edit(tmp_path / "files", 1))
    return replace(benchmark, samples=benchmark.samples[:count])


def magicbrush(tmp_path: Path, split: str = "all-turn") -> Benchmark:
    return load_benchmark("magicbrush", one.write_magicbrush(tmp_path / "files"), split)


def emu(tmp_path: Path) -> Benchmark:
    return load_benchmark("emu-edit", one.write_emu_json(tmp_path / "files", 6))


def pixels(path: Path | None) -> np.ndarray:
    assert path is not None
    return np.asarray(Image.open(path).convert("RGB"))


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first.double(), second.double())[0])


def small(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((256, 256), Image.Resampling.BICUBIC))


def test_smartedit_by_hand(tmp_path: Path) -> None:
    benchmark = reason_edit(tmp_path, 1)
    _, out = run(benchmark, SMARTEDIT, tmp_path)
    nets = networks(SMARTEDIT)
    found = {name: values(out, name) for name in ("PSNR", "SSIM", "LPIPS", "CLIPScore")}
    for sample in benchmark:
        assert sample.mask is not None
        source = small(pixels(sample.source))
        edited = small(pixels(tmp_path / "results" / f"{sample.sample_id}.png"))
        mask = np.asarray(Image.open(sample.mask).convert("L").resize((256, 256), Image.Resampling.NEAREST))
        keep = (1 - mask / 255.0)[:, :, None]
        a, b = source / 255.0 * keep, edited / 255.0 * keep
        assert found["PSNR"][sample.sample_id] == pytest.approx(-10 * np.log10(np.mean((a - b) ** 2)))
        ssim = structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2, data_range=1.0
        )
        assert found["SSIM"][sample.sample_id] == pytest.approx(ssim)
        assert found["LPIPS"][sample.sample_id] == pytest.approx(nets["lpips"].distance(a, b))
        rows, columns = np.nonzero(mask)
        crop = edited[rows.min() : rows.max(), columns.min() : columns.max()]
        score = 100 * cosine(nets["clip"].image_features([crop]), nets["clip"].text_features([sample.local_caption]))
        assert found["CLIPScore"][sample.sample_id] == pytest.approx(max(score, 0.0), abs=1e-4)


def test_smartedit_strict_counts_background_only(tmp_path: Path) -> None:
    """A hand-made picture: grey 100 becomes 110 outside of the mask and 250 inside."""
    folder = one.write_reason_edit(tmp_path / "files", 1)
    benchmark = load_benchmark("reason-edit", folder)
    for sample in benchmark:
        assert sample.source is not None and sample.mask is not None
        Image.new("RGB", (256, 128), (100, 100, 100)).save(sample.source)
        mask = Image.new("L", (256, 128), 0)
        mask.paste(255, (0, 0, 64, 128))
        mask.save(sample.mask, quality=100, subsampling=0)
    benchmark = load_benchmark("reason-edit", folder)
    (tmp_path / "results").mkdir()
    for sample in benchmark:
        edited = Image.new("RGB", (256, 128), (110, 110, 110))
        edited.paste((250, 250, 250), (0, 0, 64, 128))
        edited.save(tmp_path / "results" / f"{sample.sample_id}.png")
    editor = folder_editor(benchmark, tmp_path / "results")
    run_benchmark(benchmark, PIXELS, editor, MetricModels(), tmp_path / "out")
    name = next(iter(benchmark)).sample_id
    true = -20 * np.log10(10 / 255)
    assert values(tmp_path / "out", "PSNR", "strict")[name] == pytest.approx(true)
    assert values(tmp_path / "out", "PSNR")[name] == pytest.approx(true - 10 * np.log10(0.75), abs=0.05)


def test_magicbrush_by_hand(tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path)
    card, out = run(benchmark, MAGICBRUSH, tmp_path)
    nets = networks(MAGICBRUSH)
    names = ("L1", "L2", "CLIP_I", "DINO_I", "CLIP_T", "CLIP_T_global")
    found = {name: values(out, name) for name in names}
    assert list(found["L1"]) == [sample.sample_id for sample in benchmark]
    assert {"139_1", "139_inde_2", "139_inde_3"} <= set(found["L1"])
    for sample in benchmark:
        edited = pixels(tmp_path / "results" / f"{sample.sample_id}.png")
        target = pixels(sample.target)
        difference = edited / 255.0 - target / 255.0
        assert found["L1"][sample.sample_id] == pytest.approx(np.abs(difference).mean())
        assert found["L2"][sample.sample_id] == pytest.approx((difference**2).mean())
        for name, key in (("CLIP_I", "clip"), ("DINO_I", "dino")):
            features = [nets[key].image_features([picture]) for picture in (edited, target)]
            assert found[name][sample.sample_id] == pytest.approx(cosine(*features), abs=1e-6)
        for name, caption in (("CLIP_T", sample.local_caption), ("CLIP_T_global", sample.target_caption)):
            texts = nets["clip"].text_features([caption])
            expected = cosine(nets["clip"].image_features([edited]), texts)
            assert found[name][sample.sample_id] == pytest.approx(expected, abs=1e-6)
    assert {record.cluster for record in records(out)} == {"139", "30", "149"}
    assert card.finished and card.outputs["kind"] == "results" and card.models["clip"]["revision"]


def test_an_output_of_another_size_is_brought_to_the_targets(tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path)
    results = write_results(benchmark, tmp_path / "results")
    name = next(iter(benchmark)).sample_id
    edited = Image.open(results / f"{name}.png").resize((32, 24))
    edited.save(results / f"{name}.png")
    editor = folder_editor(benchmark, results)
    run_benchmark(benchmark, MAGICBRUSH, editor, tools(MAGICBRUSH, benchmark), tmp_path / "out")
    target = pixels(next(iter(benchmark)).target)
    resized = np.asarray(edited.resize((16, 12), Image.Resampling.BICUBIC))
    expected = np.abs(resized / 255.0 - target / 255.0).mean()
    assert values(tmp_path / "out", "L1")[name] == pytest.approx(expected)


def test_emu_by_miges_rule_by_hand(tmp_path: Path) -> None:
    benchmark = emu(tmp_path)
    card, out = run(benchmark, EMU_MIGE, tmp_path)
    nets = networks(EMU_MIGE)
    clip = nets["clip"]
    found = {name: values(out, name) for name in ("DINO", "CLIP_I", "CLIP_T", "CLIP_dir", "L1", "L2")}
    scored = 0
    for sample in benchmark:
        name = sample.sample_id
        edited, source = pixels(tmp_path / "results" / f"{name}.png"), pixels(sample.source)
        after, before = clip.image_features([edited]), clip.image_features([source])
        assert found["CLIP_I"][name] == pytest.approx(cosine(after, before), abs=1e-6)
        dino = [nets["dino"].image_features([picture]) for picture in (edited, source)]
        assert found["DINO"][name] == pytest.approx(cosine(*dino), abs=1e-6)
        assert found["L1"][name] == pytest.approx(np.abs(edited / 255.0 - source / 255.0).mean())
        assert found["L2"][name] == pytest.approx(((edited / 255.0 - source / 255.0) ** 2).mean())
        if sample.source_caption == sample.target_caption:
            assert found["CLIP_T"][name] is None and found["CLIP_dir"][name] is None
            continue
        scored += 1
        texts = [clip.text_features([text]) for text in (sample.target_caption, sample.source_caption)]
        assert found["CLIP_T"][name] == pytest.approx(cosine(after, texts[0]), abs=1e-6)
        unit = torch.nn.functional.normalize
        change = unit(after.double()) - unit(before.double())
        wish = unit(texts[0].double()) - unit(texts[1].double())
        assert found["CLIP_dir"][name] == pytest.approx(cosine(change, wish), abs=1e-4)
    assert scored == 4
    told = failures(card, records(out))
    assert "CLIP_T (paper): no value for 2 of 6: left out: the captions before and after are equal" in told
    assert values(out, "CLIP_dir", method="copy_source")["1"] == 0.0  # nothing was edited: no direction, so 0


def test_equal_captions_count_as_zero_where_the_script_does_so(tmp_path: Path) -> None:
    benchmark = emu(tmp_path)
    protocol = PROTOCOLS["instructpix2pix_v1"]
    _, out = run(benchmark, protocol, tmp_path)
    paper, strict = values(out, "CLIP_dir"), values(out, "CLIP_dir", "strict")
    assert paper["0"] == 0.0 and strict["0"] is None  # the row with place-holder captions
    assert paper["1"] == strict["1"] != 0.0


def test_controls_stand_beside(tmp_path: Path) -> None:
    benchmark = reason_edit(tmp_path)
    card, out = run(benchmark, PIXELS, tmp_path)
    assert card.controls == ("copy_source",)
    psnr = [r for r in records(out) if r.metric_name == "PSNR" and r.method == "copy_source"]
    assert len(psnr) == 2 * len(benchmark)
    assert {r.value for r in psnr} == {60.0} and all(r.capped for r in psnr)
    assert all(r.out_png_sha256 is None for r in psnr)
    grid = table_of_runs([read_report_run(out)])
    assert [line.label for line in grid.lines] == ["noise", "copy_source"]


def test_an_oracle_is_perfect_and_an_autoencoder_is_not(tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path)
    results = write_results(benchmark, tmp_path / "results")
    editor = replace(
        folder_editor(benchmark, results), round_trip=lambda pictures: [picture // 16 * 16 for picture in pictures]
    )
    card = run_benchmark(benchmark, MAGICBRUSH, editor, tools(MAGICBRUSH, benchmark), tmp_path / "out")
    assert card.controls == ("copy_source", "oracle_target", "autoencoder_source", "autoencoder_target")
    assert set(values(tmp_path / "out", "L1", method="oracle_target").values()) == {0.0}
    best = values(tmp_path / "out", "L1", method="autoencoder_target")
    for sample in benchmark:
        target = pixels(sample.target)
        expected = np.abs(target / 255.0 - (target // 16 * 16) / 255.0).mean()
        assert best[sample.sample_id] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("bench", "name", "write"),
    [
        ("advancededit", "smartedit_v1", one.write_advancededit),
        ("evr", "mgie_v1", one.write_evr),
        ("gier", "mgie_v1", one.write_gier),
        ("ma5k", "mgie_v1", two.write_ma5k),
        ("migebench", "migebench_v1", two.write_migebench),
        ("dreambench", "dreambench_v1", two.write_dreambench),
        ("emu-edit", "emu_source_v1", one.write_emu_json),
        ("magicbrush", "mgie_v1", one.write_magicbrush),
    ],
)
def test_every_column_of_a_default_gives_numbers(bench: str, name: str, write: Any, tmp_path: Path) -> None:
    benchmark = load_benchmark(bench, write(tmp_path / "files"))
    benchmark = replace(benchmark, samples=benchmark.samples[:2])
    protocol = replace(PROTOCOLS[name], side=64)
    _, out = run(benchmark, protocol, tmp_path)
    for rule in protocol.rules_for(bench):
        column = values(out, *rule.key)
        assert list(column) == [sample.sample_id for sample in benchmark]
        is_empty = rule.measure == "subject_similarity" and rule.variant == "strict"  # nothing is found
        assert any(value is not None for value in column.values()) != is_empty, rule.key
    broken = [record for record in records(out) if (record.error or "").startswith("failed")]
    assert not broken, broken[0].error


def test_the_subject_that_is_not_found_counts_only_in_paper(tmp_path: Path) -> None:
    benchmark = load_benchmark("migebench", two.write_migebench(tmp_path / "files"))
    results = write_results(benchmark, tmp_path / "results")
    first, second, *_ = [sample.sample_id for sample in benchmark]
    picture = Image.open(results / f"{first}.png").convert("RGB")
    picture.paste((255, 0, 0), (2, 2, 6, 6))  # what the detector of the tests finds
    picture.save(results / f"{first}.png")
    protocol = PROTOCOLS["migebench_v1"]
    editor = folder_editor(benchmark, results)
    run_benchmark(benchmark, protocol, editor, tools(protocol, benchmark), tmp_path / "out")
    found = values(tmp_path / "out", "subj_found")
    paper, strict = (values(tmp_path / "out", "subj_DINO", variant) for variant in ("paper", "strict"))
    assert (found[first], found[second]) == (1.0, 0.0)
    assert paper[first] == strict[first] is not None
    assert paper[second] is not None and strict[second] is None


def test_dreambench_has_seeds_and_two_pairings(tmp_path: Path) -> None:
    benchmark = load_benchmark("dreambench", two.write_dreambench(tmp_path / "files"), "live")
    benchmark = replace(benchmark, samples=benchmark.samples[:2])
    protocol = PROTOCOLS["dreambench_v1"]
    out = tmp_path / "out"
    outputs = ModelOutputs(noise_editor, out, "noise", (3, 4))
    card = run_benchmark(benchmark, protocol, EditingMethod("noise", outputs), tools(protocol, benchmark), out)
    name = benchmark.samples[0].sample_id
    assert (out / "pictures" / f"{name}.png").is_file()
    assert (out / "pictures" / "seed-4" / f"{name}.png").is_file()
    mine = [r for r in records(out) if r.method == "noise" and r.metric_name == "DINO"]
    assert {r.seed for r in mine} == {3, 4} and len(mine) == 2 * 2 * 2
    assert card.controls == ("copy_reference",)
    copied = values(out, "DINO", method="copy_reference")[name]
    assert copied == pytest.approx(1.0)
    assert values(out, "DINO", "strict", method="copy_reference")[name] < 1.0


class Stop(Exception):
    """Somebody pulls the plug."""


def stop_after(number: int) -> Any:
    seen: list[int] = []

    def progress(done: int) -> None:
        seen.append(done)
        if len(seen) == number:
            raise Stop

    return progress


@pytest.mark.parametrize("tail", [b"", b'{"run_id": "cut'])
def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(tail: bytes, tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path)
    results = write_results(benchmark, tmp_path / "results")
    editor = folder_editor(benchmark, results)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_benchmark(benchmark, MAGICBRUSH, editor, tools(MAGICBRUSH, benchmark), whole)
    with pytest.raises(Stop):
        run_benchmark(benchmark, MAGICBRUSH, editor, tools(MAGICBRUSH, benchmark), parts, progress=stop_after(2))
    assert read_run(parts).finished is None
    path = parts / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert 0 < len(lines) < len(records(whole))
    path.write_bytes(b"".join(lines[:-3]) + tail)  # killed in the middle of a sample, maybe of a line
    card = run_benchmark(benchmark, MAGICBRUSH, editor, tools(MAGICBRUSH, benchmark), parts)
    assert path.read_bytes() == (whole / "records.jsonl").read_bytes()
    assert card.finished and card.run_id == read_run(whole).run_id
    again = path.read_bytes()
    run_benchmark(benchmark, MAGICBRUSH, editor, tools(MAGICBRUSH, benchmark), parts)
    assert path.read_bytes() == again


def test_a_models_pictures_are_made_once_and_sessions_follow_on_themselves(tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path, "final-turn")
    asked: list[list[str]] = []

    def editor(requests: Sequence[EditCall]) -> list[EditAnswer]:
        asked.append([request.instruction for request in requests])
        return noise_editor(requests)

    def measure(out: Path, **settings: Any) -> Path:
        outputs = ModelOutputs(editor, out, "noise", batch_size=3)
        made = EditingMethod("noise", outputs, ckpt_sha="abcdef0", cfg={"guidance_scale": 7.5}, sampler="euler-2")
        run_benchmark(benchmark, MAGICBRUSH, made, tools(MAGICBRUSH, benchmark), out, **settings)
        return out

    whole = measure(tmp_path / "whole")
    assert [sorted(one) for one in asked] == [
        ["do 139.1", "do 149.1", "do 30.1"],
        ["do 139.2", "do 149.2"],
        ["do 139.3"],
    ]
    assert sorted(path.name for path in (whole / "pictures").iterdir()) == [
        "139_iter_3.png",
        "149_iter_2.png",
        "30_1.png",
    ]
    turns = [whole / "turns" / f"139_iter_3-{number}.png" for number in (1, 2)]
    request = EditCall("do 139.2", pixels(turns[0]), (), seed=noise_seed("139_iter_3", 2))
    np.testing.assert_array_equal(pixels(turns[1]), noise_editor([request])[0].picture)
    assert Image.open(turns[1]).text["Instruction"] == "do 139.2"  # type: ignore[attr-defined]
    first = next(record for record in records(whole) if record.method == "noise")
    assert (first.seed, first.ckpt_sha, first.sampler) == (0, "abcdef0", "euler-2")
    assert first.cfg == {"guidance_scale": 7.5}
    asked.clear()
    with pytest.raises(Stop):
        measure(tmp_path / "parts", progress=stop_after(1))
    (tmp_path / "parts" / "pictures" / "30_1.png").unlink()  # killed between two pictures of a batch
    parts = measure(tmp_path / "parts")
    assert (parts / "records.jsonl").read_bytes() == (whole / "records.jsonl").read_bytes()
    asked.clear()
    measure(parts)
    assert asked == []


def noise_seed(sample_id: str, number: int) -> int:
    from insightedit.evaluation.core.editing_methods import draw_seed

    return draw_seed(sample_id, number, 0)


def test_another_run_or_changed_pictures_are_refused(tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path)
    _, out = run(benchmark, MAGICBRUSH, tmp_path)
    nets = tools(MAGICBRUSH, benchmark)
    other = folder_editor(benchmark, tmp_path / "results", "other")
    with pytest.raises(ValueError, match="out holds another run .method differ; it is noise on magicbrush by"):
        run_benchmark(benchmark, MAGICBRUSH, other, nets, out)
    editor = folder_editor(benchmark, tmp_path / "results")
    protocol = PROTOCOLS["emu_mige_v1"]
    with pytest.raises(ValueError, match="holds another run .protocol differ"):
        run_benchmark(benchmark, protocol, editor, tools(protocol, benchmark), out)
    write_results(benchmark, tmp_path / "results", seed=5)
    with pytest.raises(ValueError, match="30_1.png was changed since it was measured: name another --out"):
        run_benchmark(benchmark, MAGICBRUSH, editor, nets, out)


def test_a_file_or_strange_records_in_the_way_are_refused(tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path)
    editor = folder_editor(benchmark, write_results(benchmark, tmp_path / "results"))
    nets = tools(MAGICBRUSH, benchmark)
    (tmp_path / "busy").mkdir()
    with (
        lock_folder(tmp_path / "busy"),
        pytest.raises(ValueError, match="busy is in use by process .* wait until it ends"),
    ):
        run_benchmark(benchmark, MAGICBRUSH, editor, nets, tmp_path / "busy")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file is a file: name a folder"):
        run_benchmark(benchmark, MAGICBRUSH, editor, nets, tmp_path / "file")
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "records.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"holds records.jsonl but no run.json: it is no benchmark run"):
        run_benchmark(benchmark, MAGICBRUSH, editor, nets, tmp_path / "scenes")
    with pytest.raises(ValueError, match="method is 'copy-source', the name of a control row"):
        run_benchmark(benchmark, MAGICBRUSH, replace(editor, method="copy-source"), nets, tmp_path / "out")


NOWHERE = replace(MAGICBRUSH, models=tuple(replace(m, name="nobody/nothing") for m in MAGICBRUSH.models))


def test_what_is_missing_is_named_once_and_measured_later(tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path)
    results = write_results(benchmark, tmp_path / "results")
    editor, out = folder_editor(benchmark, results), tmp_path / "out"
    nets = networks(NOWHERE)
    without = load_metric_models(NOWHERE, "magicbrush", given={"dino": nets["dino"]})
    assert list(without.missing) == ["clip"]
    assert "`hf download nobody/nothing` fetches it once" in without.missing["clip"]
    with pytest.raises(ValueError, match=r"--require-all was given, and 1 are missing: \(1\) nobody/nothing: "):
        without.check_all()
    card = run_benchmark(benchmark, NOWHERE, editor, without, out)
    assert list(card.missing) == ["clip"] and list(card.models) == ["dino"]
    clip = [record for record in records(out) if record.metric_name.startswith("CLIP")]
    assert clip and all(record.value is None for record in clip)
    assert {record.error for record in clip} == {"not measured: clip is missing, run.json says why"}
    assert all(value is not None for value in values(out, "DINO_I").values())
    assert failures(card, records(out)) == []
    assert "CLIP-I" not in [heading.label for heading in table_of_runs([read_report_run(out)]).headings]

    whole = load_metric_models(NOWHERE, "magicbrush", given=nets)
    card = run_benchmark(benchmark, NOWHERE, editor, whole, out)
    assert not card.missing
    assert all(record.value is not None for record in records(out))
    straight = tmp_path / "straight"
    run_benchmark(benchmark, NOWHERE, editor, whole, straight)
    lines = [sorted((folder / "records.jsonl").read_text().splitlines()) for folder in (out, straight)]
    assert [without_versions(line) for line in lines[0]] == [without_versions(line) for line in lines[1]]

    with pytest.raises(ValueError, match="out was measured with clip, which is missing now and whose numbers"):
        run_benchmark(benchmark, NOWHERE, editor, without, out)
    assert all(record.value is not None for record in records(out))


def without_versions(line: str) -> dict[str, Any]:
    entries = json.loads(line)
    entries.pop("lib_versions")  # of what took part, which is more with CLIP
    return entries


def test_weights_that_were_named_have_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    given = {"dino": networks(NOWHERE)["dino"]}
    with pytest.raises(FileNotFoundError, match="empty is not a complete model folder"):
        load_metric_models(NOWHERE, "magicbrush", given=given, weights={"nobody/nothing": str(tmp_path / "empty")})
    with pytest.raises(ValueError, match="a/b: magicbrush_v1 takes openai/clip-vit-base-patch32, facebook"):
        load_metric_models(MAGICBRUSH, "magicbrush", weights={"a/b": "c"})


def test_numbers_of_two_networks_do_not_share_a_column(tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path)
    results = write_results(benchmark, tmp_path / "results")
    nets = networks(MAGICBRUSH)
    torch.manual_seed(1)
    other = type(nets["clip"].model)(nets["clip"].model.config)
    changed = ClipEncoder(other, nets["clip"].tokenizer, name="tiny", preprocess=nets["clip"].preprocess)
    outs = []
    for method, clip in (("first", nets["clip"]), ("second", changed)):
        found = load_metric_models(MAGICBRUSH, "magicbrush", given={**nets, "clip": clip})
        outs.append(tmp_path / method)
        run_benchmark(benchmark, MAGICBRUSH, folder_editor(benchmark, results, method), found, outs[-1])
    hashes = [read_run(out).column_hashes() for out in outs]
    assert hashes[0]["L1", "paper"] == hashes[1]["L1", "paper"] == MAGICBRUSH.hash
    assert hashes[0]["CLIP_I", "paper"] != hashes[1]["CLIP_I", "paper"]
    assert hashes[0]["DINO_I", "paper"] == hashes[1]["DINO_I", "paper"] != MAGICBRUSH.hash
    with pytest.raises(ProtocolMixError, match="CLIP_I .paper. on magicbrush follows two protocols"):
        table_of_runs([read_report_run(out) for out in outs])


def test_samples_and_card_tell_where_everything_is(tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path)
    card, out = run(benchmark, MAGICBRUSH, tmp_path)
    lines = list(read_samples(out))
    assert [line.sample_id for line in lines] == [sample.sample_id for sample in benchmark]
    first, sample = lines[0], next(iter(benchmark))
    assert (first.source, first.target) == (str(sample.source), str(sample.target))
    assert first.outputs == ({"seed": None, "path": str(tmp_path / "results" / "30_1.png")},)
    assert read_run(out) == card
    assert card.benchmark["version"] == benchmark.version and card.benchmark["samples"] == 6
    assert {record.protocol_hash for record in records(out)} == set(card.column_hashes().values())
    (out / "run.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="is no run of this version"):
        read_run(out)
    (out / "run.json").write_text("{")
    with pytest.raises(ValueError, match="run.json is damaged"):
        read_run(out)
    (out / "run.json").write_text('{"format": "insightedit-run-1", "new": 1}')
    with pytest.raises(ValueError, match="has entries of another version .new."):
        read_run(out)
    (out / "run.json").write_text('{"format": "insightedit-run-1", "method": "x"}')
    with pytest.raises(ValueError, match="is damaged .* missing"):
        read_run(out)
    (out / "samples.jsonl").write_text("[]\n")
    with pytest.raises(ValueError, match=r"samples.jsonl:1 is damaged \(no JSON object\)"):
        list(read_samples(out))
    for missing, reader in (("run.json", read_run), ("samples.jsonl", read_samples)):
        with pytest.raises(FileNotFoundError, match=f"No {missing} in .*: name a folder that"):
            list(reader(tmp_path))  # type: ignore[call-overload]
    assert write_samples([RunSample("a", "b")], tmp_path).is_file()


class PlannedJudge:
    """Answers from a list; keeps what it was asked."""

    name, settings = "planned", {"temperature": 0.0}

    def __init__(self, replies: Sequence[str]) -> None:
        self.replies = list(replies)
        self.prompts: list[str] = []

    def ask(self, prompt: str, pictures: Any, *, repeat: int = 0, attempt: int = 0) -> Reply:
        self.prompts.append(prompt)
        if not self.replies:
            raise ChatError("planned at nowhere gave no reply.")
        return Reply(self.replies.pop(0), date="2026-01-01T00:00:00+00:00")


def scores(*numbers: int) -> str:
    return json.dumps({"score": list(numbers), "reasoning": "as seen"})


def test_a_judges_missing_answers_are_left_out_or_count_as_zero(tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path, "final-turn")
    benchmark = replace(benchmark, samples=benchmark.samples[-1:])
    good, bad = [scores(9, 4), scores(8, 9)], ["no"] * 3 + [scores(8, 9)]
    judge = PlannedJudge([*good, *bad, *good])
    protocol = PROTOCOLS["viescore_v1"]
    results = write_results(benchmark, tmp_path / "results")
    found = load_metric_models(protocol, "magicbrush", judge=judge)
    card = run_benchmark(benchmark, protocol, folder_editor(benchmark, results), found, tmp_path / "out")
    name = benchmark.samples[0].sample_id
    assert values(tmp_path / "out", "VIEScore_SC")[name] == 4.0
    assert values(tmp_path / "out", "VIEScore_SC", "strict")[name] == pytest.approx(8 / 3)
    assert values(tmp_path / "out", "VIEScore_PQ")[name] == 8.0
    assert values(tmp_path / "out", "VIEScore_O", "strict")[name] == pytest.approx(2 * np.sqrt(32) / 3)
    assert "do 149.1 Then: do 149.2" in judge.prompts[0] or "do 139.1 Then: do 139.2" in judge.prompts[0]
    assert {record.method for record in records(tmp_path / "out")} == {"noise"}  # no money for controls
    assert card.models["judge"]["judge"] == "planned" and not card.missing


def test_a_judge_that_is_silent_stops_the_run_and_nobody_is_no_judge(tmp_path: Path) -> None:
    benchmark = magicbrush(tmp_path)
    protocol = PROTOCOLS["viescore_v1"]
    editor = folder_editor(benchmark, write_results(benchmark, tmp_path / "results"))
    nobody = load_metric_models(protocol, "magicbrush")
    assert "no judge was named: --judge endpoint" in nobody.missing["judge"]
    run_benchmark(benchmark, protocol, editor, nobody, tmp_path / "out")
    assert all(record.value is None for record in records(tmp_path / "out"))
    silent = load_metric_models(protocol, "magicbrush", judge=PlannedJudge([]))
    with pytest.raises(ChatError, match="gave no reply"):
        run_benchmark(benchmark, protocol, editor, silent, tmp_path / "out")
    answers = PlannedJudge([scores(5, 5)] * 36)
    card = run_benchmark(
        benchmark, protocol, editor, load_metric_models(protocol, "magicbrush", judge=answers), tmp_path / "out"
    )
    assert card.finished and set(values(tmp_path / "out", "VIEScore_O").values()) == {5.0}


def test_what_a_sample_lacks_is_said_and_the_run_goes_on(tmp_path: Path) -> None:
    benchmark = reason_edit(tmp_path, 3)
    samples = list(benchmark)
    assert samples[1].mask is not None
    Image.new("L", (16, 12), 0).save(samples[1].mask)
    samples[0] = replace(samples[0], mask=None, local_caption=" ")
    benchmark = replace(benchmark, samples=tuple(samples))
    protocol = replace(SMARTEDIT, side=64)
    card, out = run(benchmark, protocol, tmp_path)
    errors = {
        (r.sample_id, r.metric_name): r.error
        for r in records(out)
        if r.metric_variant == "paper" and r.method == "noise"
    }
    first, second, third, *_ = [sample.sample_id for sample in samples]
    assert errors[first, "PSNR"] == "the sample has no mask"
    assert errors[first, "CLIPScore"] == "the sample has no local_caption"
    assert "nothing is to be edited" in str(errors[second, "PSNR"])
    assert errors[third, "PSNR"] is None
    assert "PSNR (paper): no value for 1 of 3: the sample has no mask" in failures(card, records(out))


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    """Peak of 20 and of 120 samples; a picture has 12 kB, so that keeping them all would show at once."""
    rng = np.random.default_rng(0)
    source, target = tmp_path / "source.png", tmp_path / "target.png"
    for path in (source, target):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    benchmark = magicbrush(tmp_path)
    protocol = replace(MAGICBRUSH, rules=MAGICBRUSH.rules[:1], models=())

    def peak(count: int) -> int:
        """Bytes beside the benchmark's own and the samples' lines."""
        samples = tuple(BenchmarkSample(f"s{i}", "do it", source=source, target=target) for i in range(count))
        out = tmp_path / str(count)
        editor = EditingMethod("noise", ModelOutputs(noise_editor, out, "noise"))
        tracemalloc.start()
        run_benchmark(replace(benchmark, samples=samples), protocol, editor, MetricModels(), out)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1)  # what is imported on the way
    few, many = peak(20), peak(120)
    assert many - few < 100 * 4_000, (few, many)
