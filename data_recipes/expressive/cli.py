"""`python -m data_recipes.expressive`: give an edit data set expressive instructions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_recipes.expressive.writer import Settings, write_answers, write_summaries
from insightedit.console import MAX_BATCH, MAX_RECORDS, Command, one_sentence_errors
from insightedit.files import check_outside

if TYPE_CHECKING:
    import torch

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
        settings = Settings(data, kind, split, llava, summariser, max_new_tokens, count)
        check_outside("--out", out, "--data", data)
        place = _device(device)
        _quiet_libraries()
        source = settings.source()
        settings.claim(out)
        found = _run(settings, out, source, place, batch_size)
        typer.echo(f"Wrote {found['written']} rows to {out / f'{split}.jsonl'}; {found['rejected']} rejected")


def _run(
    settings: Settings, out: Path, source: Any, place: tuple[str, torch.dtype], batch_size: int
) -> dict[str, int]:
    from data_recipes.expressive.models import Describer, Summariser

    device, dtype = place
    total = settings.total(source)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bar:
        answers = bar.add_task("answers", total=total)
        write_answers(
            out,
            settings,
            source,
            lambda: Describer(settings.llava, device=device, dtype=dtype, max_new_tokens=settings.max_new_tokens),
            batch_size=batch_size,
            progress=lambda rows: bar.advance(answers, rows),
        )
        summaries = bar.add_task("summaries", total=total)
        return write_summaries(
            out,
            settings,
            source,
            lambda: Summariser(settings.summariser, device=device, dtype=dtype),
            batch_size=batch_size,
            progress=lambda rows: bar.advance(summaries, rows),
        )


def _device(name: str | None) -> tuple[str, torch.dtype]:
    """Device and the dtype of weights there.

    Raises:
        ValueError: if there is no such device.
    """
    import torch

    from insightedit.modeling.devices import find_device

    found = find_device(name)
    return str(found), torch.bfloat16 if found.type == "cuda" else torch.float32


def _quiet_libraries() -> None:
    """Our bar is the one to be read."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
