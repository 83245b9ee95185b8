"""Options that several commands share, with the values that they can have, and wrong usage told in one sentence."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from insightedit.command_line import say

LONGEST = 420  # letters of what is told of wrong usage
MAX_SEED = 2**32 - 1  # of the noise
MAX_SCENE_SEED = 2**24 - 1  # the scenes' sampler uses so many bits
MAX_STEPS = 1000  # noise schedules have no more
MAX_SCALE = 1000.0  # far beyond what any model draws with; half precision ends at 65504
MAX_BATCH = 1024
MAX_SCENES = 1_000_000
SCENE_SIDES = (16, 1024)  # sprites cannot be told apart below; above, 256 px photographs are only blown up
MAX_RESAMPLES = 1_000_000
MAX_TRAINING_STEPS = 100_000_000
MAX_RECORDS = 1_000_000_000  # of a data set
MAX_SIDE = 65_536  # pixels of a picture


class _OneSentence:
    """Ends wrong usage as every other mistake: one sentence on stderr and exit code 2; keeps examples in one piece."""

    help: str | None
    epilog: str | None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help; the two arguments are click's. Indented lines are commands to copy and stay as they are."""
        self.help, self.epilog = _unwrapped(self.help), _unwrapped(self.epilog)
        super().format_help(ctx, formatter)  # type: ignore[misc]

    def main(self, *arguments: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command line; click's own method, which prints a box of several lines."""
        if not standalone_mode:
            return super().main(*arguments, standalone_mode=False, **extra)  # type: ignore[misc]
        try:
            code = super().main(*arguments, standalone_mode=False, **extra)  # type: ignore[misc]
        except Exception as error:
            if not hasattr(error, "format_message"):  # which only click's errors have
                raise
            if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
                error.show()  # type: ignore[attr-defined]
            else:
                say(_usage_sentence(error, extra.get("args") or sys.argv[1:]))
            raise SystemExit(2) from None
        raise SystemExit(code if isinstance(code, int) else 0)


def _unwrapped(text: str | None) -> str | None:
    """A help text with click's mark before each paragraph that holds indented lines."""
    if text is None:
        return None
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    marked = [f"\b\n{p}" if re.search(r"^  +\S", p, re.M) and p[0] != "\b" else p for p in paragraphs]
    return "\n\n".join(marked)


def _usage_sentence(error: Any, words: Sequence[str]) -> str:
    told = " ".join(error.format_message().split()).rstrip(".")
    names = getattr(getattr(error, "param", None), "opts", ())
    given = [value for name, value in pairwise(words) if name in names]
    if given and given[-1] not in told:  # the reason alone does not name it
        told = told.replace("Invalid value for", f"Invalid value {given[-1]!r} for", 1)
    if len(told) > LONGEST:  # a value as long as that
        told = f"{told[: LONGEST // 2]} ... {told[-LONGEST // 2 :]}"
    program = error.ctx.command_path if error.ctx else "the command"
    return f"{told}; `{program} --help` tells what it takes."


class Group(_OneSentence, TyperGroup):
    """Several commands: `typer.Typer(cls=Group)`."""


class Command(_OneSentence, TyperCommand):
    """A single command: `app.command(cls=Command)`."""


def finite(value: float | None) -> float | None:
    """Callback of options that are numbers: NaN lies in every range that click knows.

    Raises:
        typer.BadParameter: for NaN and infinities.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is nothing to compute with, give a finite number")
    return value


def _there(name: str | None) -> str | None:
    from insightedit.devices import find_device

    if name is not None:
        try:
            find_device(name)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return name


def _scale(text: str) -> Any:
    return typer.Option(min=0, max=MAX_SCALE, callback=finite, help=text)


Model = Annotated[str | None, typer.Option(help="Model folder or hub id. Default: the one that comes along.")]
Device = Annotated[
    str | None, typer.Option(callback=_there, help="cpu, cuda, cuda:0, mps. Default: what is there.")
]
Overwrite = Annotated[
    bool | None,
    typer.Option(
        "--overwrite/--skip-existing",
        help="Replace or keep outputs that are there. Default: a folder's are kept; a single one is replaced if an "
        "earlier edit wrote it.",
        show_default=False,
    ),
]
Steps = Annotated[int | None, typer.Option(min=1, max=MAX_STEPS, help="Denoising steps.")]
TextScale = Annotated[float | None, _scale("How hard to follow the instruction.")]
ImageScale = Annotated[float | None, _scale("How hard to keep to the picture.")]
PromptScale = Annotated[float | None, _scale("Weight of the image branch.")]
BatchSize = Annotated[
    int,
    typer.Option(
        min=1,
        max=MAX_BATCH,
        help="Pictures per forward pass: 1 gives each picture the bytes it has alone; more is faster, and rounds "
        "otherwise (by a grey level here and there).",
    ),
]
SceneSeed = Annotated[int, typer.Option(min=0, max=MAX_SCENE_SEED, help="Of the scenes and of the noise.")]
SceneSide = Annotated[
    int | None,
    typer.Option(
        min=SCENE_SIDES[0], max=SCENE_SIDES[1], help="Pixels of a side. Default: the model's resolution."
    ),
]
Split = Annotated[str, typer.Option(help="train, val or test.")]
Resamples = Annotated[int, typer.Option(min=1, max=MAX_RESAMPLES, help="Of the bootstrap.")]
