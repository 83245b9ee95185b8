"""The command line, dry runs, and what a finished folder tells."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from data_recipes.runner.cli import main
from data_recipes.runner.dry_run import dry_run
from data_recipes.runner.run import run_recipe
from data_recipes.runner.statistics import contact_sheet
from tests.recipes.toy import toy_config

YAML = """
recipe: tests.recipes.toy
source: {kind: "tests.recipes.toy:open_toy", size: 16, count: 40}
output: {shard_size: 10, licence: cc-by-4.0}
backends: {judge: {kind: "tests.recipes.toy:ToyJudge"}}
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command line; gives its exit code, output and errors."""
    (tmp_path / "toy.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, recipe: str | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["data_recipes", *words])
        with pytest.raises(SystemExit) as ended:
            main(recipe)
        shown = capsys.readouterr()
        return int(ended.value.code or 0), " ".join(shown.out.split()), " ".join(shown.err.split())

    return run


def test_a_run_from_the_command_line(command, tmp_path):
    code, out, _ = command("--config", "toy.yaml", "--out", "pairs", "--count", "30", "--workers", "1", "batch_size=3")
    assert code == 0
    assert "28 pairs of 30 inputs in 3 files" in out
    assert re.search(r"look mask is too small \d", out)
    assert "judge: 40 questions, 40 of them asked anew, 400 tokens in, 40 out, cost 0.04" in out
    assert "Look at pairs/statistics.html and pairs/README.md" in out
    assert (tmp_path / "pairs/manifest.json").is_file()
    code, again, _ = command("tests.recipes.toy", "--config", "toy.yaml", "--out", "pairs", "source.count=30")
    assert (code, again) == (0, out)


def test_a_dry_run_writes_nothing(command, tmp_path):
    code, out, _ = command("--config", "toy.yaml", "--out", "pairs", "--dry-run", "--sample", "7")
    assert code == 0
    assert "7 of 40 inputs gave" in out
    assert "Whole run with 1 worker: about" in out
    assert re.search(r"judge: about \d+ questions", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.yaml"]


def test_a_dry_run_estimates_the_whole_run(tmp_path):
    estimate = dry_run(toy_config(None, 400, steps={"fault": {"how": "slow"}}), sample=40)
    assert (estimate.sampled, estimate.inputs) == (40, 400)
    assert [step.name for step in estimate.steps] == ["read", "look", "pairs", "quality", "fault", "write"]
    by_name = {step.name: step for step in estimate.steps}
    assert 0.01 <= by_name["fault"].seconds < 0.05
    assert by_name["read"].rejected + by_name["look"].rejected > 0
    assert by_name["quality"].reasons == ("quality is low",)
    assert estimate.total >= 10 * estimate.pairs * 0.01
    assert estimate.usage["judge"]["calls"] == 10 * by_name["quality"].records
    halved = dry_run(toy_config(None, 400, workers=2, steps={"fault": {"how": "slow"}}), sample=40)
    assert halved.total < estimate.total
    assert dry_run(toy_config(None, 1)).sampled == 1
    with pytest.raises(ValueError, match="the sample has 0 inputs: try at least 1"):
        dry_run(toy_config(None), sample=0)


@pytest.mark.parametrize(
    ("words", "recipe", "told"),
    [
        (["--config", "toy.yaml"], None, "nowhere to write: name a folder with --out, or look first with --dry-run"),
        (["advancededi", "--out", "x"], None, "recipe is 'advancededi': did you mean advancededit?"),
        (["seed=1", "--out", "x"], None, "no recipe is named: write it first"),
        (["--config", "toy.yaml", "--out", "x"], "scenes", "toy.yaml is for the recipe tests.recipes.toy, not scenes"),
        (["--config", "toy.yaml", "--out", "x", "--engine", "spark"], None, "needs one of local, ray"),
        (["--config", "toy.yaml", "--out", "toy.yaml"], None, "toy.yaml"),
    ],
)
def test_errors_are_one_sentence(command, words, recipe, told):
    code, _, errors = command(*words, recipe=recipe)
    assert code == 2
    assert told in errors
    assert errors.startswith("insightedit: ")


def test_being_stopped_is_no_error_of_the_user(command, monkeypatch):
    from data_recipes.runner.progress import Stopper

    monkeypatch.setattr(Stopper, "__init__", lambda self, watch: self.__dict__.update(asked=True, watch=watch))
    code, _, errors = command("--config", "toy.yaml", "--out", "pairs")
    assert code == 130
    assert "stopped as asked; pairs keeps what is finished, and the same command goes on from there" in errors


def test_without_words_the_recipes_are_listed():
    done = subprocess.run(
        [sys.executable, "-m", "data_recipes"], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "advancededit" in done.stdout
    assert "scenes" in done.stdout
    assert "Run one:" in done.stdout


def test_help_teaches(command):
    code, out, _ = command("--help", recipe="scenes")
    assert code == 0
    for told in ("--dry-run", "goes on where a run was stopped", "python -m data_recipes.scenes", "cuda:1]"):
        assert told in out, told


# what a folder tells


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("told") / "out"
    run_recipe(toy_config(out, 40, format="webdataset", licence="cc-by-4.0", split="mine"))
    return out


def test_the_card_can_be_read_by_the_hub(folder):
    text = (folder / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "cc-by-4.0"
    assert header["configs"][0]["data_files"] == [{"split": "mine", "path": "mine-*.tar"}]
    assert header["size_categories"] == ["n<1K"]
    again = yaml.safe_load(text.split("```yaml")[1].split("```")[0])
    assert again["source"]["count"] == 40
    assert "| quality | judge |" in text
    assert "| `source.png` |" in text
    assert len(list(folder.glob("mine-*.tar"))) == 4


def test_the_settings_of_the_card_make_the_same_data_again(folder, tmp_path):
    from data_recipes.runner.config import load_config

    text = (folder / "README.md").read_text().split("```yaml")[1].split("```")[0]
    (tmp_path / "again.yaml").write_text(text)
    config = load_config(tmp_path / "again.yaml")
    assert config.digest == toy_config(None, 40, format="webdataset", split="mine").digest


def test_the_page_stands_alone(folder):
    page = (folder / "statistics.html").read_text()
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", page)
    assert "<script" not in page
    for told in ("Records by step", "mask is too small", "Mask areas", "Score overall", "Refused pairs"):
        assert told in page, told
    assert page.count("data:image/jpeg") > 30


@pytest.mark.parametrize("name", ["pairs.png", "refused.png"])
def test_contact_sheets_are_pictures(folder, name):
    sheet = np.asarray(Image.open(folder / name))
    assert sheet.shape[0] > 300
    assert sheet[60:].std() > 20


def test_a_sheet_needs_a_pair():
    with pytest.raises(ValueError, match="a contact sheet needs at least one pair"):
        contact_sheet([], "none")


def test_long_instructions_are_cut_on_sheets():
    from data_recipes.runner.records import Record
    from data_recipes.runner.statistics import UnitCounts

    tally = UnitCounts(0, 1)
    wide = np.zeros((30, 300, 3), np.uint8)
    tally.add_pair(
        Record("k", target=wide, source=wide, task="edit", instructions={"s": ("very long " * 80, "W" * 300)})
    )
    sheet = contact_sheet(tally.result()["cells"]["accepted"], "title")
    assert sheet.width < 600


# what is shown while a run goes


def test_bars_count_inputs_steps_and_rejects(tmp_path):
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    from data_recipes.runner.progress import ProgressReporter

    console = Console(file=io.StringIO())
    with Progress(TextColumn("{task.description}"), console=console) as progress:
        run_recipe(toy_config(tmp_path / "out", 40), ProgressReporter(console, progress))
        rows = {task.description.strip(): task for task in progress.tasks}
        assert (rows["inputs"].completed, rows["inputs"].total) == (40, 40)
        assert [rows[name].completed for name in ("look", "pairs", "quality")] == [37, 27, 54]
        assert rows["inputs"].fields["told"] == "4/4 units, 38 pairs, 29 rejected"
        assert rows["quality"].fields["told"] == "16 rejected, quality is low: 16"
    with Progress(console=console) as progress:  # everything is there already
        again = ProgressReporter(console, progress)
        run_recipe(toy_config(tmp_path / "out", 40), again)
        assert progress.tasks[0].completed == 40
        assert (again.pairs, again.done) == (38, 4)


def test_lines_tell_where_nobody_watches():
    from rich.console import Console

    from data_recipes.runner.progress import ProgressReporter, Stopper

    file = io.StringIO()
    lines = ProgressReporter(Console(file=file, width=200))
    lines.begin(20, 2, ["look"])
    counts = {"pairs": 7, "rejects_by_reason": {"look": {"mask is too small": 2}}}
    lines.unit_done({"counts": counts})
    assert file.getvalue() == ""
    lines.last -= 11
    lines.unit_done({"counts": counts})
    Stopper(lines).ask()
    assert file.getvalue().splitlines() == [
        "2 of 2 units: 14 pairs, 4 rejected",
        "stopping after the units in work; once more ends them",
    ]


def test_a_dry_run_without_a_pair_says_which_step_refused_what():
    from data_recipes.runner.cli import show_estimate
    from data_recipes.runner.dry_run import Estimate, StepEstimate

    step = StepEstimate("detect", 4, None, 4, ("model cannot be loaded",))
    told = r"4 inputs were tried and gave no pair: detect rejected 4 of 4 \(model cannot be loaded\). Put that right"
    with pytest.raises(ValueError, match=told):
        show_estimate(Estimate(4, 100, 0, (step,), 0.0, 0.0, {}, 0.0), 1)


def test_the_models_that_will_be_loaded_are_named_first(capsys):
    from data_recipes.runner.cli import show_models

    endpoint, oracle = {"kind": "endpoint", "model": "gpt-4o"}, {"kind": "oracle"}
    show_models({"judge": endpoint, "segmenter": oracle})
    assert not capsys.readouterr().out
    local = {"kind": "transformers", "model": "owner/seven"}
    show_models({"chat": local, "summariser": local, "judge": endpoint})
    assert capsys.readouterr().out.split("\n")[0].startswith("Loads owner/seven (chat, summariser). What is not")
