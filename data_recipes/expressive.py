"""`python -m data_recipes.expressive`: the steps of the recipe `mgie_expressive` for a data set, as JSON lines.

Two passes, one model at a time; both go on where they were stopped.

OUT/settings.json            what the folder was begun with
OUT/answers/SPLIT.jsonl      first pass: {index, answer}
OUT/SPLIT.jsonl              second pass: {index, source, target, instruction, expressive}
OUT/rejected/SPLIT.jsonl     rows without a text, {index, reason}
OUT/images/                  pictures of data sets that hold them as columns, PNG
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from data_recipes.backends.base import LocalModel, Question
from data_recipes.backends.chat import Seq2SeqSummariser
from data_recipes.mgie_expressive import (
    KIND,
    NO_SENTENCE,
    NOTE,
    QUESTION,
    SUMMARY_PROMPT,
    Describe,
    Summarise,
    cut_answer,
)
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context, Outcome, through
from insightedit.console import MAX_BATCH, MAX_RECORDS, Command, one_sentence_errors, progress_bar, quiet_libraries
from insightedit.datasets.pairs import PairSource
from insightedit.datasets.sources import num_records
from insightedit.files import check_folder, check_outside, drop_cut_line, write_atomically

LLAVA = "llava-hf/llava-1.5-7b-hf"
SUMMARISER = "jordiclive/flan-t5-11b-summarizer-filtered"
MAX_TOKENS = 32_768
EXAMPLES = f"""Examples:

  python -m data_recipes.expressive --data edits/ --kind parquet --out edits_expressive/

  python -m data_recipes.expressive --data edits.jsonl --out look/ --count 20 --summariser google/flan-t5-large

The same command again goes on where a run was stopped. Train on what it writes with the recipe mgie:

  python -m insightedit.stage3 --recipe mgie 'data.sources=[{{kind: jsonl, path: edits_expressive/}}]'

Two passes, one model in memory at a time: {LLAVA} needs about 15 GB in half precision, the published summariser
{SUMMARISER} about 22 GB, google/flan-t5-large 2 GB.
"""

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m data_recipes.expressive")


@app.command(cls=Command, epilog=EXAMPLES, no_args_is_help=True)
def write(
    data: Annotated[str, typer.Option(help="File or folder of an edit data set.")],
    out: Annotated[Path, typer.Option(help="Folder to write; new, empty, or begun by the same command.")],
    kind: Annotated[
        str, typer.Option(help="jsonl, parquet, webdataset, arrow, or another kind of data.sources.")
    ] = "jsonl",
    split: Annotated[str, typer.Option(help="Which split of the data set.")] = "train",
    llava: Annotated[str, typer.Option(help="Model that says what will change: hub id or folder.")] = LLAVA,
    summariser: Annotated[
        str, typer.Option(help="Model that shortens it: hub id or folder of a flan-t5.")
    ] = SUMMARISER,
    count: Annotated[int | None, typer.Option(help="Only the first rows.", min=1, max=MAX_RECORDS)] = None,
    batch_size: Annotated[int, typer.Option(help="Rows per call of a model.", min=1, max=MAX_BATCH)] = 8,
    max_new_tokens: Annotated[
        int, typer.Option(help="Longest answer of LLaVA, in tokens.", min=1, max=MAX_TOKENS)
    ] = 1024,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:0, mps. Default: what is there.")] = None,
) -> None:
    """Let LLaVA say what each edit will do to its picture, shorten that, and write both beside the pictures.

    MGIE learns from these texts to write them itself before it edits. Each answer is cut to two sentences and
    summarised in about 32 words. Rows without a text are listed in OUT/rejected/, with the reason.
    """
    with one_sentence_errors("the same command goes on from the last row."):
        import datasets

        from insightedit.modeling.devices import find_device

        settings = ExpressiveSettings(data, kind, split, llava, summariser, max_new_tokens, count)
        check_outside("--out", out, "--data", data)
        find_device(device)  # one that is not there is told before anything is written
        quiet_libraries()
        datasets.disable_progress_bars()
        source = settings.source()
        settings.claim(out)
        write_answers(
            out, settings, source, LlavaDescriber(llava, device=device, max_new_tokens=max_new_tokens), batch_size
        )
        shorten = Seq2SeqSummariser(summariser, device=device, batch_size=batch_size)
        found = write_summaries(out, settings, source, shorten, batch_size)
        typer.echo(f"Wrote {found['written']} rows to {out / f'{split}.jsonl'}; {found['rejected']} rejected")


@dataclass(eq=False)
class LlavaDescriber(LocalModel):
    """A frozen LLaVA in the stock format, hub id, folder or miniature:SIZE/llava; greedy, without a chat template."""

    _: KW_ONLY
    max_new_tokens: int = 1024

    positive = ("max_new_tokens",)

    @cached_property
    def comprehension(self) -> Any:
        """The model, loaded when it is first asked for."""
        from insightedit.comprehension.llava import LlavaComprehension
        from insightedit.modeling.pretrained import resolve_model_id

        device, dtype = self.place()
        # whole tables instead of wrapped rows: nothing trains here, and this is the stock model, unwrapped
        comprehension = LlavaComprehension.from_pretrained(
            resolve_model_id(self.model), num_edit_tokens=1, train_embeddings=True, dtype=dtype
        )
        return comprehension.requires_grad_(False).to(device)

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """B questions with one picture each -> B answers."""
        prompts, pictures = [one.prompt for one in questions], [one.pictures[0] for one in questions]
        return self.comprehension.generate_text(prompts, pictures, self.max_new_tokens)


@dataclass(frozen=True)
class ExpressiveSettings:
    """What decides about the texts."""

    data: str  # file or folder of the edit data set
    kind: str  # its kind, as in `data.sources` of a training config
    split: str
    llava: str  # model that describes
    summariser: str  # model that shortens
    max_new_tokens: int = 1024  # longest answer of `llava`
    count: int | None = None  # rows; None for all of them

    def claim(self, out: Path) -> None:
        """Write the settings into a new folder, or compare them with those it was begun with.

        `count` may grow or shrink: it changes no text.
        """
        path = out / "settings.json"
        mine = {**asdict(self), "question": QUESTION, "summary_prompt": SUMMARY_PROMPT}
        del mine["count"]
        if path.is_file():
            begun = json.loads(path.read_text(encoding="utf-8"))
            changed = [
                f"{name} was {begun.get(name)}, is {value}" for name, value in mine.items() if begun.get(name) != value
            ]
            if changed:
                raise ValueError(
                    f"{out} was begun with other settings: {'; '.join(changed)}. Use the old ones to go on, or name "
                    "another folder with --out."
                )
            return
        check_folder(out)
        if out.exists() and any(out.iterdir()):
            raise ValueError(f"{out} holds other files: name a new folder with --out.")
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")

    def source(self) -> Any:
        """The data set, as training reads it."""
        from insightedit.config.schema import SourceConfig
        from insightedit.datasets.sources import build_source

        return build_source(SourceConfig(kind=self.kind, path=self.data, split=self.split), size=256, seed=0)

    def total(self, source: Any) -> int:
        """Rows to be written."""
        return num_records(source) if self.count is None else min(self.count, num_records(source))


def write_answers(out: Path, settings: ExpressiveSettings, source: Any, chat: Any, batch_size: int = 8) -> None:
    """First pass: the kept sentences of what a chat (`backends.base`) answers to every picture, `batch_size` at a time.

    The folder is claimed; the model loads with its first question, so never if there is nothing left to do.
    """
    path, step = out / "answers" / f"{settings.split}.jsonl", Describe(attempts=1)
    context = Context(0, step.name, {"chat": chat})
    done, total = _next_index(read_rows(path)), settings.total(source)
    with progress_bar(total, "answers") as advance:
        for start in range(done, total, batch_size):
            indices = range(start, min(start + batch_size, total))
            found = through(step, [_record(source, index) for index in indices], context)
            for index, outcome in zip(indices, found, strict=True):
                kept = {"answer": outcome.notes[NOTE]} if isinstance(outcome, Record) else {"reason": outcome.reason}
                _append(path, {"index": index, **kept})
            if advance:
                advance(len(indices) + (done if start == done else 0))


def write_summaries(
    out: Path, settings: ExpressiveSettings, source: Any, summariser: Any, batch_size: int = 8
) -> dict[str, int]:
    """Second pass, after the first: shorten the answers, and write the rows that training reads.

    Gives the numbers of rows of all sessions, `written` and `rejected`.
    """
    name, total, step = f"{settings.split}.jsonl", settings.total(source), Summarise(attempts=1)
    answers = read_rows(out / "answers" / name)[:total]
    if len(answers) < total:
        raise RuntimeError(
            f"{out} holds {len(answers)} of {total} answers: run the first pass (`write_answers`) to its end."
        )
    context = Context(0, step.name, {"summariser": summariser})
    paths = {"written": out / name, "rejected": out / "rejected" / name}
    done = max(_next_index(read_rows(path)) for path in paths.values())
    with progress_bar(total, "summaries") as advance:
        for start in range(done, total, batch_size):
            rows = answers[start : start + batch_size]
            records = [
                Record(str(row["index"]), notes={NOTE: text})
                if (text := cut_answer(row.get("answer", "")))  # those of 0.1 are whole
                else Rejected(str(row["index"]), step.name, row.get("reason", NO_SENTENCE))
                for row in rows
            ]
            for row, outcome in zip(rows, through(step, records, context), strict=True):
                if isinstance(outcome, Rejected):
                    _append(paths["rejected"], {"index": row["index"], "reason": outcome.reason})
                else:
                    _append(paths["written"], _row(out, source, row["index"], outcome.instructions[KIND][0]))
            if advance:
                advance(len(rows) + (done if start == done else 0))
    return {kind: len(read_rows(path)) for kind, path in paths.items()}


def _record(source: Any, index: int) -> Outcome:
    """A pair, or why there is none."""
    try:
        record = source[index]
    except (OSError, ValueError, TypeError, AttributeError) as error:  # damaged picture, missing text
        return Rejected(str(index), "read", f"cannot be read: {error}")
    if record.source_image is None or record.target_image is None:
        return Rejected(str(index), "read", "has no source or no target picture")
    instructions = {"simple": (record.instruction,)}
    return Record(str(index), source=record.source_image, target=record.target_image, instructions=instructions)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Every row of a file of JSON lines with rising `index`; a last line that a kill cut short is taken off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drop_cut_line(path)
    return [json.loads(text) for text in path.read_text("utf-8").split("\n")[:-1]] if path.exists() else []


def _next_index(rows: list[dict[str, Any]]) -> int:
    return rows[-1]["index"] + 1 if rows else 0


def _append(path: Path, row: dict[str, Any]) -> None:
    """Add a row, on the disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _row(out: Path, source: Any, index: int, expressive: str) -> dict[str, Any]:
    """A row that training reads; its pictures are links to the data set's own files, or PNG of its pixels."""
    record, row = source[index], {"index": index}
    for role, pixels in (("source", record.source_image), ("target", record.target_image)):
        path = out / "images" / f"{index:07d}_{role}.png"
        path.parent.mkdir(exist_ok=True)
        file = getattr(source.listing.pair(index), role) if isinstance(source, PairSource) else None
        if isinstance(file, Path):
            path = path.with_suffix(file.suffix.lower())
            if not path.is_symlink():
                path.symlink_to(os.path.relpath(file, path.parent))
        else:
            with write_atomically(path) as aside:
                Image.fromarray(pixels).save(aside, format="PNG")
        row[role] = path.relative_to(out).as_posix()
    return {**row, "instruction": record.instruction, "expressive": expressive}


if __name__ == "__main__":
    main()
