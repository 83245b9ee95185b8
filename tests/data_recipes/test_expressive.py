"""Expressive instructions for an edit data set, from the words to a file that training reads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration
from typer.testing import CliRunner

from data_recipes.backends.base import Question
from data_recipes.backends.chat import Seq2SeqSummariser
from data_recipes.expressive import ExpressiveSettings, LlavaDescriber, app, read_rows, write_answers, write_summaries
from data_recipes.mgie_expressive import QUESTION, SUMMARY_PROMPT, cut_answer
from insightedit.config.schema import SourceConfig
from insightedit.datasets.sources import build_source

WORDS = ["a", "picture", "will", "show", "red", "blue", "dog", "cat", "ball", "tree", "no", "nothing", "changes"]
ROWS = 7


@pytest.fixture(scope="session")
def flan(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny T5 with random weights."""
    folder = tmp_path_factory.mktemp("t5")
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(vocabulary),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def edits(tmp_path: Path) -> Path:
    """A data set of JSON lines with paths; the picture of row 3 is damaged, row 4 has no instruction."""
    folder = tmp_path / "edits"
    (folder / "pictures").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        names = {role: f"pictures/{number}_{role}.png" for role in ("source", "target")}
        for name in names.values():
            Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / name)
        rows.append({**names, "instruction": f"make it {number}"})
    (folder / "pictures/3_source.png").write_bytes(b"no picture")
    rows[4]["instruction"] = None
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def picture(edits: Path, number: int, role: str) -> np.ndarray:
    with Image.open(edits / f"pictures/{number}_{role}.png") as opened:
        return np.asarray(opened)


def settings_of(edits: Path, **changes: object) -> ExpressiveSettings:
    return ExpressiveSettings(
        **{"data": str(edits), "kind": "jsonl", "split": "train", "llava": "l", "summariser": "s"} | changes
    )


class Model:
    """A language model that answers by a rule."""

    def __init__(self, rule: Callable[[Question], str]) -> None:
        self.rule = rule

    def answer(self, questions: Sequence[Question]) -> list[str]:
        return [self.rule(question) for question in questions]


def describe(question: Question) -> str:
    """Says what it was asked; nothing but a second thought about the fifth row."""
    assert [picture.shape for picture in question.pictures] == [(24, 24, 3)]
    words = question.about["instruction"]
    assert question.prompt == QUESTION.format(instruction=words)
    return "Alternatively, a dog." if "5" in words else f"Then {words}. Second. Third."


def summarise(question: Question) -> str:
    text = question.about["text"]
    return "" if "6" in text else f"short: {text}"


def write(
    out: Path, settings: ExpressiveSettings, *, describe=describe, summarise=summarise, batch_size: int = 8
) -> dict[str, int]:
    source = settings.source()
    settings.claim(out)
    write_answers(out, settings, source, Model(describe), batch_size)
    return write_summaries(out, settings, source, Model(summarise), batch_size)


def contents(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("One thing. Another thing. A third.", "One thing. Another thing."),
        ("It turns red! Is it bright? Yes.", "It turns red! Is it bright?"),
        ("It turns red.\nAlternatively, it turns blue.", "It turns red."),
        ("It turns red, or ALTERNATIVELY blue.", "It turns red, or."),
        ("  no full stop  ", "no full stop."),
        ("It costs 3.50 now. So cheap. Yes.", "It costs 3.50 now. So cheap."),
        ("An alternative is blue.", "An."),
        ("Alternatively, blue.", ""),
        ("... !", ""),
        ("", ""),
    ],
)
def test_two_sentences_are_kept_and_no_second_thought(answer: str, kept: str) -> None:
    assert cut_answer(answer) == kept


def test_rows_that_training_reads(edits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write(out, settings_of(edits), batch_size=3) == {"written": 3, "rejected": 4}
    rows = read_rows(out / "train.jsonl")
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert list(rows[0]) == ["index", "source", "target", "instruction", "expressive"]
    assert rows[1]["expressive"] == "short: Then make it 1. Second."
    assert (out / rows[1]["source"]).resolve() == (edits / "pictures/1_source.png").resolve()
    reasons = {row["index"]: row["reason"] for row in read_rows(out / "rejected/train.jsonl")}
    assert "3_source.png is not an image that can be read here" in reasons[3]
    assert reasons[4].startswith("cannot be read: ")
    assert reasons[5] == "no sentence is left of the answer"
    assert reasons[6] == "the summariser wrote nothing"

    entry = SourceConfig(kind="jsonl", path=str(out))
    record = build_source(entry, size=24, seed=0, expressive=True)[1]
    assert (record.instruction, record.reply) == ("make it 1", rows[1]["expressive"])
    assert np.array_equal(record.target_image, picture(edits, 1, "target"))
    assert build_source(entry, size=24, seed=0)[1].reply is None  # a model that does not write them


def test_pictures_of_other_tables_are_written_beside(edits: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pictures = [[picture(edits, n, role) for n in (0, 1)] for role in ("source", "target")]
    table = datasets.Dataset.from_dict(
        {"source": pictures[0], "target": pictures[1], "instruction": ["a", "b"]},
        features=datasets.Features(
            {"source": datasets.Image(), "target": datasets.Image(), "instruction": datasets.Value("string")}
        ),
    )
    table.to_parquet(tmp_path / "table/train.parquet")
    out = tmp_path / "out"
    write(out, settings_of(tmp_path / "table", kind="parquet"))
    rows = read_rows(out / "train.jsonl")
    assert rows[1]["source"] == "images/0000001_source.png"
    record = build_source(SourceConfig(kind="jsonl", path=str(out)), size=24, seed=0)[1]
    assert np.array_equal(record.source_image, pictures[0][1])
    assert np.array_equal(record.target_image, pictures[1][1])


def test_a_row_without_pictures_is_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"instruction": "a"}\n')
    assert write(tmp_path / "out", settings_of(folder)) == {"written": 0, "rejected": 1}
    (row,) = read_rows(tmp_path / "out/rejected/train.jsonl")
    assert row["reason"] == "has no source or no target picture"


@pytest.mark.parametrize("stop_at", range(1, 5))
def test_stopped_runs_go_on_to_the_same_bytes(edits: Path, tmp_path: Path, stop_at: int) -> None:
    """A model dies at a call of either pass, and a kill cuts the last line of every file short."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    write(straight, settings_of(edits), batch_size=2)
    calls = {"number": 0}

    def dying(model):
        def call(*arguments):
            calls["number"] += 1
            if calls["number"] == stop_at:
                raise KeyboardInterrupt
            return model(*arguments)

        return call

    with pytest.raises(KeyboardInterrupt):
        write(broken, settings_of(edits), describe=dying(describe), summarise=dying(summarise), batch_size=2)
    for path in broken.rglob("*.jsonl"):
        whole = path.read_bytes()
        path.write_bytes(whole[:-5])  # nothing of an empty file
    write(broken, settings_of(edits), batch_size=2)
    assert contents(broken) == contents(straight)


def test_a_finished_run_asks_no_model(edits: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", settings_of(edits)
    found = write(out, settings)
    assert write(out, settings, describe=pytest.fail, summarise=pytest.fail) == found


def test_more_rows_later(edits: Path, tmp_path: Path) -> None:
    out, straight = tmp_path / "out", tmp_path / "straight"
    assert write(out, settings_of(edits, count=2)) == {"written": 2, "rejected": 0}
    write(out, settings_of(edits))
    write(straight, settings_of(edits))
    assert contents(out) == contents(straight)


def test_other_settings_are_refused(edits: Path, tmp_path: Path) -> None:
    settings_of(edits).claim(tmp_path / "out")
    with pytest.raises(ValueError, match=r"begun with other settings: llava was l, is m\. Use the old ones"):
        settings_of(edits, llava="m").claim(tmp_path / "out")
    with pytest.raises(ValueError, match="holds other files: name a new folder"):
        settings_of(edits).claim(edits)


def test_the_second_pass_needs_the_first(edits: Path, tmp_path: Path) -> None:
    settings = settings_of(edits)
    with pytest.raises(RuntimeError, match="holds 0 of 7 answers: run the first pass"):
        write_summaries(tmp_path, settings, settings.source(), Model(summarise))


def test_the_describer_asks_llava_greedily(tiny_root: Path, edits: Path) -> None:
    describer = LlavaDescriber(str(tiny_root / "llava"), device="cpu", max_new_tokens=6)
    pictures, prompts = [picture(edits, n, "source") for n in (0, 1)], ["make it red", "make it blue"]
    answers = describer.answer([Question(*one) for one in zip(prompts, [(p,) for p in pictures], strict=True)])
    assert answers == describer.comprehension.generate_text(prompts, pictures, 6)
    assert not any(p.requires_grad for p in describer.comprehension.parameters())


def test_the_summariser_searches_with_five_beams(flan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    summariser = Seq2SeqSummariser(flan, device="cpu")
    model, tokenizer = summariser.loaded
    seen, generate = {}, model.generate

    def watched(**options):
        seen.update(options)
        return generate(**options)

    monkeypatch.setattr(model, "generate", watched)
    texts = ["a picture will show a red ball.", "no dog."]
    questions = [Question(SUMMARY_PROMPT.format(text=text), about={"text": text}) for text in texts]
    summaries = summariser.answer(questions)
    assert [seen[name] for name in ("num_beams", "do_sample", "min_length", "max_length")] == [5, False, 5, 64]
    assert seen["no_repeat_ngram_size"] == 3
    assert len(summaries) == 2
    assert all(set(text.split()) <= {*WORDS, "<unk>"} for text in summaries)
    assert summaries == summariser.answer(questions)
    (prompt, _) = tokenizer.batch_decode(seen["input_ids"])
    assert "red ball" in prompt
    assert "</s>" not in summaries[0]


def test_from_the_command_line_to_a_training_batch(tiny_root: Path, flan: str, edits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--data", str(edits), "--out", str(out), "--llava", str(tiny_root / "llava"), "--summariser", flan]
    arguments += ["--max-new-tokens", "8", "--batch-size", "3", "--device", "cpu"]
    first = CliRunner().invoke(app, [*arguments, "--count", "2"])
    assert first.exit_code == 0, first.output
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    rows, rejected = read_rows(out / "train.jsonl"), read_rows(out / "rejected/train.jsonl")
    assert len(rows) + len(rejected) == ROWS
    assert f"Wrote {len(rows)} rows to {out / 'train.jsonl'}; {len(rejected)} rejected" in done.output.replace(
        "\n", ""
    )
    assert rows, "the tiny models wrote nothing at all"
    assert all(row["expressive"] for row in rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "nowhere"}, "does not exist: name the folder of the .jsonl files"),
        ({"--kind": "xls"}, "unknown kind `xls`"),
        ({"--device": "toaster"}, "'toaster' is no device"),
        ({"--device": "cuda:9"}, "cuda:9 is not there"),
    ],
)
def test_mistakes_are_one_sentence(edits: Path, tmp_path: Path, changes: dict, message: str) -> None:
    if changes == {"--device": "cuda:9"} and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    given = {"--data": str(edits), "--out": str(tmp_path / "out"), "--llava": "l", "--summariser": "s"} | changes
    done = CliRunner().invoke(app, [word for pair in given.items() for word in pair])
    assert done.exit_code == 2, done.output
    assert done.output.startswith("insightedit: ")
    assert message.replace(" ", "") in "".join(done.output.split()).replace("*", "")


def test_help_teaches_without_loading_anything() -> None:
    code = (
        "import sys; from data_recipes import expressive\n"
        "try:\n    expressive.app(['--help'], prog_name='x')\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for words in ("goes on where a run was stopped", "--recipe mgie", "flan-t5-large", "--summariser"):
        assert words.split()[0] in done.stdout
