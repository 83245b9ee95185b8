"""Benchmarks by name, and pictures of other editors by stem."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from insightedit.evaluation.benchmarks.base import Benchmark, BenchmarkSample, Card
from insightedit.evaluation.benchmarks.magicbrush import load as load_magicbrush
from insightedit.evaluation.benchmarks.reason_edit import load as load_reason_edit
from insightedit.evaluation.benchmarks.registry import MODULES, benchmark_loader, benchmark_name, load_benchmark
from insightedit.evaluation.benchmarks.results import ResultsError, pair_results
from tests.evaluation.benchmarks.layouts_one import picture, write_evr, write_magicbrush, write_reason_edit

CARD = Card("toy", "Toy", "nobody", "Draw it yourself.", "none stated", "pictures")


def toy(folder: Path, names: str = "abc") -> Benchmark:
    made = [BenchmarkSample(name, "do", source=picture(folder / f"{name}.png", i)) for i, name in enumerate(names)]
    return Benchmark(CARD, folder, tuple(made), (), "0")


def fault(folder: Path, benchmark: Benchmark) -> str:
    with pytest.raises(ResultsError) as caught:
        pair_results(folder, benchmark)
    assert len(caught.value.faults) == 1, caught.value.faults
    return caught.value.faults[0]


@pytest.mark.parametrize("name", list(MODULES))
def test_every_benchmark_has_its_card_and_loader(name: str) -> None:
    module = benchmark_loader(name)
    card = module.CARD
    assert card.name == name and callable(module.load)
    assert all((card.title, card.paper, card.obtain, card.licence, card.layout))
    assert all(isinstance(number, int) and number > 0 for number in card.counts.values())


def test_names_are_taken_in_any_spelling() -> None:
    assert benchmark_name("Reason_Edit") == benchmark_name(" ReasonEdit") == "reason-edit"
    assert benchmark_name("GEdit-Bench") == "gedit" and benchmark_name("Emu Edit test set") == "emu-edit"


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(
        ValueError, match="unknown benchmark 'magicbrsh': did you mean magicbrush. There are reason-edit,"
    ):
        benchmark_name("magicbrsh")
    with pytest.raises(ValueError, match=r"unknown benchmark 'zzz': there are reason-edit, .*, scenes, photos\.$"):
        load_benchmark("zzz", "nowhere")


def test_load_by_name(tmp_path: Path) -> None:
    benchmark = load_benchmark("EVR", str(write_evr(tmp_path)), "test-requests")
    assert benchmark.card.name == "evr" and len(benchmark) == 9


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from insightedit.evaluation.benchmarks import registry, results, magicbrush, emu_edit\n"
        "assert not {'torch', 'pyarrow', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "PNG"])
def test_results_are_paired_by_stem_in_any_folder(tmp_path: Path, ending: str) -> None:
    benchmark = toy(tmp_path / "bench")
    made = {
        name: picture(tmp_path / "out" / folder / f"{name}.{ending}")
        for name, folder in zip("cab", ("", "x", "x/y"), strict=True)
    }
    results = pair_results(tmp_path / "out", benchmark)
    assert dict(results.paths) == made and list(results.paths) == ["a", "b", "c"]
    assert bool(results.warnings) == (ending in ("jpg", "webp"))
    if results.warnings:
        assert results.warnings[0].startswith("3 results are JPEG or WebP (a.")


def test_results_in_folders_of_categories_and_under_published_names(tmp_path: Path) -> None:
    benchmark = load_reason_edit(write_reason_edit(tmp_path, 2))
    out = tmp_path / "out"
    for sample in benchmark:
        group, name = sample.category, sample.sample_id.removeprefix(f"{sample.category}-")
        picture(out / group / f"{name}.png")
    assert pair_results(out, benchmark).paths["3-Mirror-002"] == out / "3-Mirror/002.png"
    theirs = tmp_path / "theirs"
    for sample in benchmark:
        picture(theirs / f"{sample.extra['result_alias']}_T7.5_I1.5.png")
    paths = pair_results(theirs, benchmark).paths
    assert paths["3-Mirror-002"] == theirs / "Mirror_metrics_3/0002_T7.5_I1.5.png"
    assert paths["6-Reasoning-001"] == theirs / "Reasoning_metrics_1/0001_T7.5_I1.5.png"
    picture(theirs / "Mirror_metrics_3/0002_T7.5_I1.6.png")
    assert fault(theirs, benchmark) == (
        "3-Mirror-002 has several results (Mirror_metrics_3/0002_T7.5_I1.5.png, Mirror_metrics_3/0002_T7.5_I1.6.png): "
        "leave the one that is meant."
    )


def test_results_as_magicbrush_names_them(tmp_path: Path) -> None:
    root = write_magicbrush(tmp_path)
    out = tmp_path / "out"
    for name in ("30/30_1", "139/139_1", "139/139_inde_2", "139/139_inde_3", "139/139_iter_2", "139/139_iter_3"):
        picture(out / f"{name}.png")
    for name in ("149/149_1", "149/149_inde_2", "149/149_iter_2"):
        picture(out / f"{name}.png")
    every = pair_results(out, load_magicbrush(root))
    final = pair_results(out, load_magicbrush(root, split="final-turn"))
    assert len(every.paths) == 6 and [path.stem for path in final.paths.values()] == [
        "30_1",
        "139_iter_3",
        "149_iter_2",
    ]
    assert any(text.startswith("3 pictures belong to no sample and are left out:") for text in every.warnings)


def test_missing_results(tmp_path: Path) -> None:
    benchmark = toy(tmp_path / "bench")
    picture(tmp_path / "out/b.png")
    assert fault(tmp_path / "out", benchmark) == (
        "2 of 3 results are missing, e.g. a.png, c.png: save each edited picture under its sample's id."
    )
    results = pair_results(tmp_path / "out", benchmark, partial=True)
    assert list(results.paths) == ["b"]
    assert results.warnings == ("2 of 3 results are missing, e.g. a.png, c.png: they are not measured.",)
    (tmp_path / "out/b.png").unlink()
    with pytest.raises(ResultsError, match="3 of 3 results are missing"):
        pair_results(tmp_path / "out", benchmark, partial=True)
    assert fault(tmp_path / "none", benchmark) == "There is no such folder: name the one with the edited pictures."


def test_extra_results_and_other_sizes_are_warnings(tmp_path: Path) -> None:
    benchmark = toy(tmp_path / "bench")
    for name in "abcd":
        picture(tmp_path / "out" / f"{name}.png", size=(32, 24) if name == "b" else (16, 12))
    (tmp_path / "out/notes.txt").write_text("no picture")
    (tmp_path / "out/._a.png").write_text("of an operating system")
    assert pair_results(tmp_path / "out", benchmark).warnings == (
        "1 pictures belong to no sample and are left out: d.png.",
        "1 results have another size than their sources (b 32 x 24): the protocol resizes them.",
    )


def test_doubled_and_damaged_results(tmp_path: Path) -> None:
    benchmark = toy(tmp_path / "bench")
    for name in ("a.png", "b.png", "c.png", "x/a.jpg"):
        picture(tmp_path / "out" / name)
    (tmp_path / "out/b.png").write_bytes(b"")
    with pytest.raises(ResultsError, match="out does not hold results for Toy: a has several results") as caught:
        pair_results(tmp_path / "out", benchmark)
    assert caught.value.faults == (
        "a has several results (a.png, x/a.jpg): leave the one that is meant.",
        "Empty results (1): b.png; copy them again.",
    )


def test_the_benchmarks_own_pictures_are_no_results(tmp_path: Path) -> None:
    benchmark = toy(tmp_path / "bench")
    assert fault(tmp_path / "bench", benchmark) == (
        "3 results are the benchmark's own pictures (a, b, c): name the editor's folder."
    )
    with Image.open(tmp_path / "bench/a.png") as source:
        assert source.size == (16, 12)
