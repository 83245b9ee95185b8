"""The HTML report: whole, closed, escaped, stable, and its samples chosen by the rules it states."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from insightedit.cli import eval as cli
from insightedit.evaluation.core.columns import ProtocolMixError
from insightedit.evaluation.core.editing_methods import EditingMethod
from insightedit.evaluation.core.records import MetricRecord, by_hash, write_records
from insightedit.evaluation.core.run_folder import RunCard, RunSample, read_run, write_run, write_samples
from insightedit.evaluation.core.significance import Interval, Resampling
from insightedit.evaluation.core.statistics import Rate
from insightedit.evaluation.judge.votes import AlignReport, MethodVotes
from insightedit.evaluation.reporting import pictures, plots, run_tables
from insightedit.evaluation.reporting.choice import choose, from_best
from insightedit.evaluation.reporting.html_report import render_html_report, write_html_report, write_sheets
from insightedit.evaluation.reporting.report import write_report
from insightedit.evaluation.reporting.run_tables import SUMMARY, metrics_by_category, table_by_category
from insightedit.evaluation.reporting.runs import merge_runs, read_report_run, with_votes
from insightedit.evaluation.reporting.tables import APART, CONTROL_GROUP, OURS
from insightedit.evaluation.scenes import benchmark
from insightedit.evaluation.scenes.benchmark import SceneOutputs, SceneSet, evaluate
from insightedit.images import sheets
from insightedit.images.picture_files import figure_address
from tests.evaluation.test_scenes_benchmark import always_left, dim
from tests.evaluation.toy import SIZE, ToySampler

HOW = Resampling(resamples=49)
RULES = "0123456789abcdef"
HOSTILE = """</p><script>alert(1)</script><img src=http://evil.example/x.png onerror='x'> "quoted" & $m^2$ {{ 7*7 }}"""
NAMES = [f"{number:03d}" for number in range(30)]
KINDS = ["5-Multiple-Objects"] * 22 + ["6-Reasoning"] * 8
VOID = {"meta", "img", "link", "br", "input", "hr"}


def psnr(number: int) -> float:
    return 20.0 + (number * 7) % 30 / 2


def judged(number: int) -> float:
    return float(number % 11)


def metric(name: str, number: int, value: float | None, **changes: Any) -> MetricRecord:
    fields = {
        "run_id": "r",
        "method": "editor",
        "bench": "reason-edit",
        "bench_version": "v1",
        "sample_id": NAMES[number],
        "category": KINDS[number],
        "cluster": f"picture-{number // 2}",
        "metric_name": name,
        "metric_variant": "paper",
        "value": value,
        "error": "the judge <b>refused</b>" if value is None else None,
        "protocol_hash": RULES,
    }
    return MetricRecord(**{**fields, **changes})


def records(method: str, shift: float) -> list[MetricRecord]:
    made = []
    for number in range(len(NAMES)):
        for name, rises in ((method, shift), ("copy_source", 30.0)):
            made.append(metric("PSNR", number, psnr(number) + rises, method=name))
            strict = psnr(number) + rises - 1
            made.append(metric("PSNR", number, strict, metric_variant="strict", method=name))
        made.append(metric("VIEScore_O", number, None if number == 4 else judged(number), method=method))
    return made


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def write_pictures(folder: Path, number: int, instruction: str) -> RunSample:
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[10:20, 10:20] = 255
    parts = {"source": picture(number), "target": picture(1000 + number), "mask": mask}
    parts["output"] = picture(2000 + number, (300, 200) if number == 7 else (40, 30))
    paths = {}
    for part, pixels in parts.items():
        paths[part] = f"{part}/{NAMES[number]}.png"
        (folder / part).mkdir(parents=True, exist_ok=True)
        if part != "output" or number != 9:  # one output is gone
            Image.fromarray(pixels).save(folder / paths[part])
    output = paths.pop("output")
    shared: dict[str, Any] = {"category": KINDS[number], "outputs": ({"seed": None, "path": output},)}
    return RunSample(NAMES[number], instruction, **shared, **paths)


def write_benchmark_run(folder: Path, method: str = "editor", shift: float = 0.0, **changes: Any) -> Path:
    columns = [("VIEScore_O", "paper", ""), ("PSNR", "paper", ""), ("PSNR", "strict", "Only the background.")]
    card: dict[str, Any] = {
        "run_id": "r",
        "method": method,
        "benchmark": {
            "name": "reason-edit",
            "title": "Reason-Edit",
            "version": "v1",
            "samples": 30,
            "licence": "none stated",
            "is_non_commercial": False,
            "warnings": ["Masks are JPEG."],
            "differs": [],
        },
        "protocol": {
            "name": "smartedit_v1",
            "title": "as SmartEdit",
            "hash": RULES,
            "caveats": ["SSIM is cropped."],
            "columns": [
                {"metric_name": n, "metric_variant": v, "hash": RULES, "why": why, "better": "higher"}
                for n, v, why in columns
            ],
        },
        "missing": {"clip": "No weights of CLIP: download them."},
        "outputs": {"kind": "results", "source": "edited", "ckpt_sha": None, "seeds": [None], "warnings": []},
        "settings": {"image_guidance_scale": 1.5 + shift},
        "controls": ("copy_source",),
        "versions": {"torch": "2.15.0"},
        "started": "2026-01-02T03:04:05Z",
        "finished": "2026-01-02T03:05:05Z",
    }
    write_run(RunCard(**{**card, **changes}), folder)
    instructions = [HOSTILE if number == 0 else f"edit number {number}" for number in range(30)]
    write_samples([write_pictures(folder, n, text) for n, text in enumerate(instructions)], folder)
    write_records(records(method, shift), folder / "records.jsonl")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benchmark_run(tmp_path_factory.mktemp("runs") / "out")


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return write_html_report([folder], how=HOW)[0].read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Checks that tags close in order, and keeps tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def sources(self) -> list[str]:
        return [str(attributes.get("src")) for tag, attributes in self.tags if tag == "img"]


def test_the_page_is_whole_and_holds_every_part(html: str) -> None:
    reader = Reader(html)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert set(ids) >= {"results", "warnings", "published", "categories", "plots", "samples", "failures"}
    assert set(ids) >= {"missing", "about", "best", "worst", "random", "disagreement"}
    for words in (
        *("editor on Reason-Edit", "v1", "smartedit_v1, as SmartEdit", RULES, "2026-01-02T03:04:05Z to"),
        *("torch 2.15.0", "Masks are JPEG.", "SSIM is cropped.", "PSNR (strict): Only the background."),
        *("copy_source", "Controls", "n = 29: near a rate of 0.8", "No weights of CLIP: download them."),
        *("the judge <b>refused</b>", "8†", "22", "InstructPix2Pix", "editor: nobody judged why edits fail."),
    ):
        assert words in reader.words, words
    assert sum(tag == "table" for tag, _ in reader.tags) >= 5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"finished": None}, "It is not finished: run the same command again."),
        ({"benchmark": {"differs": ["12 of the 219 published samples are here."]}}, "12 of the 219 published"),
        ({"outputs": {"warnings": ["2 of 30 results are missing."]}}, "2 of 30 results are missing."),
    ],
    ids=["unfinished", "other data", "missing results"],
)
def test_runs_that_do_not_compare_stand_apart(
    folder: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    card = read_run(folder)
    changes = {
        name: {**getattr(card, name), **value} if isinstance(value, dict) else value for name, value in changes.items()
    }
    other = write_benchmark_run(tmp_path / "b", "blur", 100.0, **changes)
    runs = merge_runs([read_report_run(one) for one in (other, folder)])
    grid = run_tables.main_table(runs, HOW)
    assert [line.group for line in grid.lines] == [OURS, APART, CONTROL_GROUP]
    assert grid.ranks() == [[0, 0, 0]] * 3  # the best of one is none
    assert [note for note in grid.notes if note.startswith("blur is not ranked.") and told in note]
    beside = run_tables.published_tables(runs, HOW)
    assert beside and not [line for one in beside for line in one.lines if line.label == "blur"]
    assert run_tables.published_tables(runs[:1], HOW) == []


def test_the_page_loads_nothing(html: str) -> None:
    reader = Reader(html)
    for tag, attributes in reader.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in {"srcset", "style", "background"}
            assert "http:" not in str(value) and "https:" not in str(value)
            if name in {"src", "href"}:
                assert str(value).startswith(("data:image/", "#"))
    style, script = (re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S) for tag in ("style", "script"))
    assert len(style) == len(script) == 1
    assert not re.search(r"url\(|@import|https?:", style[0])
    assert not re.search(r"fetch|XMLHttp|import|eval|innerHTML|https?:", script[0])
    policy = next(a["content"] for t, a in reader.tags if t == "meta" and "http-equiv" in a)
    for text in (*style, *script):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in str(policy)
    assert str(policy).startswith("default-src 'none'; img-src data:;")


def test_text_is_escaped(html: str) -> None:
    assert HOSTILE in "".join(Reader(html).text)
    assert "<script>alert" not in html and "<b>refused" not in html and "evil.example/x.png onerror='" not in html


def test_pictures_are_small_and_small_ones_exact(folder: Path, html: str) -> None:
    shown = []
    for source in Reader(html).sources():
        kind, data = source.split(";base64,")
        if kind == "data:image/svg+xml":
            ElementTree.fromstring(base64.b64decode(data))
        else:
            shown.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")))
    assert len(shown) > 100 and max(max(one.shape) for one in shown) <= pictures.SIDE
    best = choose(read_report_run(folder))[0].names[0]
    source = np.asarray(Image.open(folder / "source" / f"{best}.png"))
    assert any(np.array_equal(one, source) for one in shown)
    assert any(one.shape == (171, 256, 3) for one in shown)  # the larger output of sample 7
    assert "no picture" in html  # the output of sample 9 is gone


def test_best_worst_random_and_disagreement_follow_their_rules(folder: Path) -> None:
    run = read_report_run(folder)
    assert (run.order.metric_name, run.headline.metric_name) == ("VIEScore_O", "VIEScore_O")
    run = run.ordered_by("PSNR")
    best, worst, random, differing = choose(run)
    order = sorted(range(30), key=lambda n: (-psnr(n), NAMES[n]))
    assert best.names == tuple(NAMES[n] for n in order[:8])
    assert worst.names == tuple(NAMES[n] for n in order[::-1][:8])
    digests = sorted(NAMES, key=lambda name: hashlib.sha256(f"0:{name}".encode()).digest())
    assert random.names == tuple(digests[:16]) and choose(run, seed=1)[2].names != random.names
    with_value = [n for n in range(30) if n != 4]
    places = [
        {n: sum(f(m) < f(n) for m in with_value) + (sum(f(m) == f(n) for m in with_value) - 1) / 2 for n in with_value}
        for f in (psnr, judged)
    ]
    gap = {n: abs(places[0][n] - places[1][n]) for n in with_value}
    assert differing.names == tuple(NAMES[n] for n in sorted(with_value, key=lambda n: (-gap[n], NAMES[n]))[:8])
    assert set(choose(run, category="5-Multiple-Objects")[2].names) <= set(NAMES[:22])
    (few,) = choose(run, category="6-Reasoning")
    assert few.key == "all" and few.names == tuple(NAMES[n] for n in order if n >= 22)


def test_ties_go_by_id_and_lower_can_be_better() -> None:
    scores = {"b": 1.0, "a": 1.0, "c": 0.5}
    assert from_best(scores, "higher") == ("a", "b", "c") and from_best(scores, "lower") == ("c", "a", "b")
    assert by_hash(["x", "y", "z"], 2) == by_hash(["z", "y", "x"], 2)


def test_samples_without_a_value_are_neither_best_nor_worst(folder: Path) -> None:
    best, worst, random, _ = choose(read_report_run(folder))
    assert "004" not in best.names + worst.names
    assert set(random.names) == set(by_hash(NAMES))


def test_equal_input_gives_equal_bytes(folder: Path, html: str, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    (copied / "report.html").unlink()
    paths = write_html_report([copied], how=HOW)
    assert paths[0].read_text(encoding="utf-8") == html
    names = {path.relative_to(copied).as_posix() for path in paths}
    assert names == {"report.html", "contact_sheets/5-Multiple-Objects.png", "contact_sheets/6-Reasoning.png"}
    for path in paths[1:]:
        assert path.read_bytes() == (folder / path.relative_to(copied)).read_bytes()


def test_missing_values_are_counted_by_reason(folder: Path) -> None:
    assert run_tables.gaps([read_report_run(folder)]) == [
        run_tables.Gap("editor", "VIEScore_O (paper)", "the judge <b>refused</b>", 1)
    ]


def test_categories_are_tabled_with_all_metrics(folder: Path) -> None:
    run = read_report_run(folder)
    tables = {metric: table_by_category(run.column(metric), HOW) for metric in run.columns}
    grid = metrics_by_category("editor", tables, 30)
    assert [heading.text for heading in grid.headings] == ["n", "VIEScore_O↑", "PSNR↑", "PSNR strict↑"]
    rows = {line.label: line.cells for line in grid.lines}
    assert [rows[kind][0].text for kind in dict.fromkeys(KINDS)] == ["22", "8†"]
    assert rows["6-Reasoning"][2].text == f"{np.mean([psnr(n) for n in range(22, 30)]):.3f}†"
    assert "(n = 21)" in rows["5-Multiple-Objects"][1].interval and rows["6-Reasoning"][2].interval.startswith("[")
    assert {line.label for line in grid.lines if line.group == "Mean"} == set(SUMMARY.values())


def test_several_runs_are_tested_against_the_first_and_traded_off(folder: Path, tmp_path: Path) -> None:
    other = write_benchmark_run(tmp_path / "other", method="rival", shift=0.5)
    page = write_html_report([folder, other], tmp_path / "new" / "ab.html", how=HOW, with_sheets=False)
    assert page == [tmp_path / "new" / "ab.html"]
    words = Reader(page[0].read_text(encoding="utf-8")).words
    assert "editor against others on reason-edit" in words and "Trade-off: VIEScore_O ↑ against PSNR ↑" in words
    assert "output, rival" in words and words.count("copy_source") < 30
    runs = merge_runs([read_report_run(folder), read_report_run(other)])
    kept, edited, spots = run_tables.spots(runs, HOW)
    assert (kept.metric_name, edited.metric_name) == ("PSNR", "VIEScore_O")
    assert [one.scale for one in spots] == [1.5, 2.0]
    assert spots[1].kept.value == pytest.approx(spots[0].kept.value + 0.5)
    axes = plots.tradeoff("kept", "edited", spots).axes[0]
    assert len(axes.lines[0].get_xdata()) == 2  # the line through the scales


def test_equal_names_are_told_apart_and_controls_stand_once(folder: Path, tmp_path: Path) -> None:
    other = write_benchmark_run(tmp_path / "again")
    runs = merge_runs([read_report_run(folder), read_report_run(other)])
    assert [run.method for run in runs] == ["editor (out)", "editor (again)"]
    methods = [line.label for line in run_tables.main_table(runs, HOW).lines]
    assert methods == ["editor (out)", "editor (again)", "copy_source"]


def test_what_does_not_belong_together_is_refused(folder: Path, tmp_path: Path) -> None:
    run = read_report_run(folder)
    benchmark = {"name": "magicbrush", "version": "v1", "title": "MagicBrush"}
    other = read_report_run(write_benchmark_run(tmp_path / "other", benchmark=benchmark))
    with pytest.raises(ValueError, match="was measured on magicbrush v1, .* on reason-edit v1: make a report of each"):
        merge_runs([run, other])
    other = write_benchmark_run(tmp_path / "mixed", method="rival")
    lines = (other / "records.jsonl").read_text().replace(RULES, RULES[::-1])
    (other / "records.jsonl").write_text(lines)
    with pytest.raises(ProtocolMixError, match="follows two protocols"):
        render_html_report(merge_runs([run, read_report_run(other)]), how=HOW)


def test_errors_of_folders_and_metrics_teach(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No run\.json in .*: name a folder that"):
        read_report_run(tmp_path)
    run = read_report_run(folder)
    with pytest.raises(
        ValueError, match=r"no metric 'LPIPS' in .*: it has VIEScore_O:paper, PSNR:paper, PSNR:strict\."
    ):
        run.ordered_by("LPIPS")
    blind = write_benchmark_run(tmp_path / "blind")
    card = json.loads((blind / "run.json").read_text())
    card["protocol"]["columns"][0] |= {"metric_name": "novel", "better": "n/a"}
    (blind / "run.json").write_text(json.dumps(card))
    write_records([metric("novel", 0, 1.0)], blind / "records.jsonl", append=True)
    with pytest.raises(ValueError, match="novel has no good and bad end: order the samples by another metric"):
        read_report_run(blind).ordered_by("novel")
    (blind / "records.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"has no number of editor yet: No weights of CLIP"):
        write_html_report([blind], how=HOW)


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    benchmark = {"name": "reason-edit", "version": "v1", "licence": "CC-BY-NC", "is_non_commercial": True}
    run = read_report_run(write_benchmark_run(tmp_path, finished=None, benchmark=benchmark))
    assert run.warnings[0].startswith("The run is not finished") and "commercial" in run.warnings[1]
    assert run.facts["Measured"] == "2026-01-02T03:04:05Z, not finished"


def test_votes_of_raters_give_failures_and_ins_align(folder: Path) -> None:
    rows = (MethodVotes("editor", 2, 0.5, Rate(1, 2, 0.5, 0.1, 0.9), None, {"F5": 2, "F2": 1}, {}),)
    votes = AlignReport("0123456789ab", (1, 2, 3), rows, None, {"editor": {"000": 1.0, "001": 0.0}})
    run = with_votes(read_report_run(folder), votes)
    assert [(one.code, one.primary) for one in run.failures] == [("F2", 1), ("F5", 2)]
    assert run.counted == "votes" and run.column(run.columns[-1]).values == {"000": [1.0], "001": [0.0]}
    with pytest.raises(ValueError, match="the raters' page is about editor, not rival"):
        with_votes(SimpleNamespace(method="rival"), votes)


def test_the_outline_leaves_the_region_alone() -> None:
    rgb, region = picture(0, (20, 20)), np.zeros((20, 20), dtype=bool)
    region[5:10, 5:10] = True
    drawn = pictures.outlined(rgb, region)
    assert np.array_equal(drawn[region], rgb[region]) and tuple(drawn[4, 7]) == pictures.OUTLINE
    assert tuple(drawn[3, 7]) == pictures.RIM and np.array_equal(drawn[2], rgb[2])


def test_thumbnails_and_enlarging() -> None:
    assert pictures.thumbnail(picture(0, (512, 128))).shape == (64, 256, 3)
    assert pictures.thumbnail(picture(0, (256, 10))).shape == (10, 256, 3)
    small = picture(0, (60, 30))
    assert np.array_equal(pictures.enlarged(small)[::4, ::4], small) and pictures.enlarged(small).shape == (
        120,
        240,
        3,
    )


def test_sheet_names_are_safe_and_unique() -> None:
    assert pictures.sheet_names([""]) == pictures.sheet_names([]) == {"": "contact_sheet.png"}
    names = pictures.sheet_names(["a/b", "a:b", "../../x", ""])
    assert len(set(names.values())) == 4
    for name in names.values():
        assert re.fullmatch(r"contact_sheets/[\w-][\w.-]*\.png", name)


def test_a_sheet_shows_the_pictures(folder: Path) -> None:
    run = read_report_run(folder)
    card = pictures.CardMaker([run]).card("001", "a note")
    labels = [one.label for one in card.pictures]
    assert labels == ["source", "target, mask outlined", "output", "|output - source|"]
    sheet = np.asarray(pictures.contact_sheet("title", [("block", [card])]))
    cell = np.asarray(pictures.enlarged(np.asarray(Image.open(folder / "source" / "001.png")), pictures.CELL))
    left, top = sheets.MARGIN, 2 * sheets.HEADER + sheets.LINE
    found = sheet[top : top + cell.shape[0], left : left + cell.shape[1]]
    assert np.array_equal(found, cell)
    assert len({pictures._cell(one).size for one in card.pictures}) == 1  # the enlarged one, too


def test_plots_show_the_numbers(folder: Path) -> None:
    run = read_report_run(folder)
    table = table_by_category(run.column(run.headline), HOW)
    axes = plots.category_bars("x", {"editor": table}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [r.interval.value for r in table.rows]
    assert [one.get_text() for one in axes.get_yticklabels()] == ["5-Multiple-Objects  n = 21", "6-Reasoning  n = 8†"]
    figure = plots.distributions([("PSNR", {"a": [1.0, 2.0, 2.0], "b": [3.0]})])
    assert [sum(one.get_data().values) for one in figure.axes[0].patches[::2]] == [3, 1]
    assert figure_address(figure) == figure_address(
        plots.distributions([("PSNR", {"a": [1.0, 2.0, 2.0], "b": [3.0]})])
    )
    hostile = plots.Spot(
        "$x^$", Interval(1, None, None, 1, 1, "bca", 1, 0), Interval(1, 0, 2, 1, 1, "bca", 1, 0), None
    )
    figure_address(plots.tradeoff("a", "b", [hostile]))
    figure_address(plots.distributions([("$x^$", {"$y^$": [1.0], "z": [2.0]})]))


def test_scenes_keep_pictures_and_make_the_same_page(tmp_path: Path) -> None:
    scenes = SceneSet(18, SIZE, pairs=2, sampler=ToySampler())
    method = EditingMethod("toy", SceneOutputs(always_left, tmp_path, source="models/toy"), round_trip=dim)
    report = evaluate(method, scenes, out=tmp_path).with_settings({"model": "models/toy"})
    write_report(report, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == set(scenes.ids)
    assert [line["sample_id"] for line in lines] == scenes.ids
    assert lines[0]["outputs"][0]["path"].startswith("pictures/")
    paths = write_html_report([tmp_path], how=HOW)
    assert {path.name for path in paths} == {"report.html", "left_right.png", "plain.png"}
    words = Reader(paths[0].read_text(encoding="utf-8")).words
    for text in ("toy on scenes", report.protocol.hash, "autoencoder_target", "wrong object", "F2", "progress"):
        assert text in words
    assert "progress strict" not in words and "no picture" not in words
    run = read_report_run(tmp_path)
    assert run.column(run.headline).n == 18 and run.order.metric_name == "progress"
    rows = {line.label: line for line in run_tables.main_table([run], HOW).lines}
    assert rows["toy"].cells[0].text == "0.500†" and rows["oracle"].group == "Controls"
    controls = ["copy_source", "oracle", "wrong_object", "oracle_tint", "autoencoder_source", "autoencoder_target"]
    assert list(rows) == ["toy", *controls] and rows["oracle"].cells[0].number is None


def test_the_command_writes_and_teaches(folder: Path, tmp_path: Path) -> None:
    from insightedit.cli.eval import app

    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["report", *map(str, arguments)])

    made = invoke(
        folder, "--out", tmp_path / "x.html", "--by", "PSNR:strict", "--seed", 3, "--resamples", 9, "--no-sheets"
    )
    assert made.exit_code == 0 and made.output.split() == [str(tmp_path / "x.html")]
    assert "Best: highest PSNR strict" in (tmp_path / "x.html").read_text(encoding="utf-8")
    for arguments, message in (
        ((tmp_path,), "No run.json in"),
        ((folder, "--out", "x.pdf"), "--out x.pdf: name a file that ends in .html."),
        ((folder, "--key", "k.json"), "--votes and --key go together"),
    ):
        failed = invoke(*arguments)
        assert failed.exit_code == 2 and message in " ".join(failed.output.split())


def test_sheets_need_pictures(folder: Path) -> None:
    assert write_sheets([SimpleNamespace(samples={})], folder) == []


def test_scoring_scenes_ends_with_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "scene_sampler", lambda *_, **__: ToySampler())
    scenes = ["--count", "3", "--size", str(SIZE), "--pairs", "1"]
    for command in (["--dump", "d"], ["--results", "d/sources", "--out", "out"]):
        command = [str(tmp_path / word) if not word.startswith("-") else word for word in command]
        made = CliRunner().invoke(cli.app, ["scenes", *command, *scenes])
        assert made.exit_code == 0, made.output
    assert made.output.split()[-3:] == [
        str(tmp_path / "out" / name)
        for name in ("report.html", "contact_sheets/left_right.png", "contact_sheets/plain.png")
    ]
    assert "no picture" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
