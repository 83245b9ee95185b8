"""What every command of the command line shares: errors in one sentence, and quiet libraries."""

from __future__ import annotations

import difflib
import errno
import inspect
import logging
import math
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table


TRACEBACK = "INSIGHTEDIT_TRACEBACK"
MAX_SENTENCE = 2000  # letters of a message that a library wrote
STOPPED, TERMINATED, PIPE_CLOSED = 130, 143, 141  # 128 + the signal, as shells have it
EXTRAS = {
    "bitsandbytes": "train",
    "datasets": "data",
    "deepspeed": "train",
    "httpx": "eval",
    "lpips": "eval",
    "matplotlib": "eval",
    "open_clip": "eval",
    "pyarrow": "data",
    "pydantic": "eval",
    "ray": "ray",
    "tensorboard": "train",
    "torchmetrics": "eval",
}
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
_SYSTEM = {
    errno.EACCES: "may not be opened or written by you: change its permissions, or name another place",
    errno.EEXIST: "is there already: name another place",
    errno.EISDIR: "is a folder, and a file is needed: name a file",
    errno.ELOOP: "is a link that leads to itself: name a real file or folder",
    errno.ENAMETOOLONG: "is too long a name: shorten it",
    errno.ENOENT: "is not there: check the path",
    errno.ENOTDIR: "is no folder, or does not lie in one: check the path",
    errno.EROFS: "lies on a disk that cannot be written: name another place",
}
MAX_PATH = 200  # letters of a path that are shown
LONGEST = 420  # letters of what is told of wrong usage
WIDTH_OF_FILES = 140  # characters, where the output is no terminal

# What options may be at most
MAX_SEED = 2**32 - 1  # of the noise
MAX_SCENE_SEED = 2**24 - 1  # the scenes' sampler uses so many bits
MAX_SCALE = 1000.0  # far beyond what any model draws with; half precision ends at 65504
MAX_BATCH = 1024
MAX_SCENES = 1_000_000
SCENE_SIDES = (16, 1024)  # sprites cannot be told apart below; above, 256 px photographs are only blown up
MAX_TRAINING_STEPS = 100_000_000
MAX_RECORDS = 1_000_000_000  # of a data set
MAX_SIDE = 65_536  # pixels of a picture


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command as Ctrl-C does."""


@contextmanager
def one_sentence_errors(kept: str | None = None) -> Iterator[None]:
    """End a command in one sentence on stderr, whatever goes wrong: exit code 2, no traceback.

    Ctrl-C and SIGTERM say what was written, or what is `kept` and how to go on, and end with 130 and 143; a closed pipe
    ends silently. With INSIGHTEDIT_TRACEBACK=1 the traceback comes first.
    """
    from insightedit.files import finished_files

    before = len(finished_files())
    try:
        with _terminable():
            yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt as error:
        say(str(error) or f"stopped; {kept or _written(finished_files()[before:])}", typer.colors.YELLOW)
        raise SystemExit(TERMINATED if isinstance(error, Terminated) else STOPPED) from None
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # what is buffered for the pipe goes nowhere, without a word
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(PIPE_CLOSED) from None
    except Exception as error:
        if hasattr(error, "exit_code"):  # wrong usage, which the command line's library tells itself
            raise
        if os.environ.get(TRACEBACK, "0") not in ("", "0"):
            traceback.print_exc()
        say(in_one_sentence(error))
        raise SystemExit(2) from None


def say(sentence: str, colour: Any = typer.colors.RED) -> None:
    """One line on stderr; of several processes that make the same mistake, one says so."""
    if os.environ.get("RANK", "0") == "0":
        plain = sentence.encode("utf-8", "backslashreplace").decode("utf-8")
        typer.secho(f"insightedit: {plain}", err=True, fg=colour)


def in_one_sentence(error: BaseException) -> str:
    """What went wrong in words, on one line."""
    said = " ".join(str(error).split())[:MAX_SENTENCE] or type(error).__name__
    lower = said.lower()
    if (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or "no space left" in lower:
        return f"the disk is full, so the file was not written: free some space, or write elsewhere ({said})."
    if isinstance(error, MemoryError) or any(words in lower for words in _NO_MEMORY):
        return f"this needs more memory than there is: smaller pictures, sizes or batches need less ({said})."
    if isinstance(error, RecursionError):
        return "something given is nested too deeply to be read: give a flatter file."
    if isinstance(error, ModuleNotFoundError) and error.name:
        extra = EXTRAS.get(error.name.partition(".")[0])
        wanted = f"insightedit[{extra}]" if extra else error.name
        return f"{error.name} is not installed, which this needs: pip install '{wanted}'."
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
        name = name if len(name) <= MAX_PATH else f"...{name[-MAX_PATH:]}"
        told = _SYSTEM.get(error.errno or 0)
        return f"{name} {told}." if told else f"{name}: {error.strerror}; check the path and the disk."
    if isinstance(error, ValueError | TypeError | OSError):
        return said
    return (
        f"something went wrong that should not ({type(error).__name__}: {said}): this is a fault of insightedit, "
        f"please report it; {TRACEBACK}=1 before the command shows where."
    )


def _written(files: Iterable[Path]) -> str:
    files = [path for path in dict.fromkeys(files) if path.exists()]  # not the temporary ones
    if not files:
        return "nothing was written."
    count = "1 file was" if len(files) == 1 else f"{len(files)} files were"
    return f"{count} written before that, the last is {files[-1]}."


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that nothing temporary stays behind."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def quiet_libraries() -> None:
    """Keep loading bars and notices of the libraries out of the output."""
    # transformers imports it to save a model; it sets a level of its own then, and misses a GPU
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    import diffusers
    import transformers

    # diffusers hands it to huggingface_hub for every file of a hub's model
    warnings.filterwarnings("ignore", ".*local_dir_use_symlinks", UserWarning)
    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


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
    """Several commands: see `command_group`."""


class Command(_OneSentence, TyperCommand):
    """A single command, `app.command(cls=Command)`; its errors end in one sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; click's own method."""
        with one_sentence_errors():
            return super().invoke(ctx)


def command_group(text: str, cls: type[Group] = Group) -> typer.Typer:
    """A command line of several commands, with plain help."""
    app = typer.Typer(
        help=text,
        cls=cls,
        rich_markup_mode=None,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(lambda: None)  # so that one command alone has its name, too
    return app


def finite(value: float | None) -> float | None:
    """Callback of options that are numbers: NaN lies in every range that click knows."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is nothing to compute with, give a finite number")
    return value


def console() -> Console:
    """Standard output as tables want it."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)


def titled_table(title: str, words: Sequence[str], numbers: Sequence[str] = (), **how: Any) -> Table:
    """A table for the terminal: columns of words, then columns of numbers, which stand to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, **how)
    for heading in (*words, *numbers):
        table.add_column(heading, no_wrap="padding" in how)
    for column in table.columns[len(words) :]:
        column.justify = "right"
    return table


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[..., object] | None]:
    """A bar's `update` on the error stream; None where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield partial(bar.update, bar.add_task(what, total=total))


@contextmanager
def progress_bar(total: int, what: str) -> Iterator[Callable[[int], object] | None]:
    """A bar on the error stream, where that is a terminal; what it yields is called with the number of things done."""
    with _bar(what, total) as update:
        yield update and (lambda done: update(advance=done))


@contextmanager
def counting_bar(what: str) -> Iterator[Callable[[int, int], object]]:
    """As `progress_bar` where the total is learnt on the way; what it yields is called with (done, total)."""
    with _bar(what, None) as update:
        yield lambda done, total: update and update(completed=done, total=total)


def did_you_mean(wrong: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """`did you mean NAME?`, or, where none comes close, `otherwise`; without that, all names."""
    names = list(known)
    if near := difflib.get_close_matches(wrong, names, n=1):
        return f"did you mean {near[0]}?"
    return f"choose one of {', '.join(names) or 'none, there are none'}." if otherwise is None else otherwise
