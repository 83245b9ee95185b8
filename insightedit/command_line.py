"""What every command of the command line shares: errors in one sentence, and quiet libraries."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

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
    "webdataset": "data",
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


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command as Ctrl-C does."""


@contextmanager
def one_sentence_errors(kept: str | None = None) -> Iterator[None]:
    """End a command in one sentence on stderr, whatever goes wrong: exit code 2, no traceback.

    Ctrl-C and SIGTERM say what was written and end with 130 and 143; a closed pipe ends silently. With
    INSIGHTEDIT_TRACEBACK=1 the traceback comes first.

    Args:
        kept: what a stop leaves and how to go on, for commands that write as they go.
    """
    from insightedit.files import finished_files

    before = len(finished_files())
    try:
        with _terminable():
            yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt as error:
        say(str(error) or f"stopped; {kept or _written(before)}", typer.colors.YELLOW)
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
    if (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    ) or "no space left" in lower:
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
        return _of_a_path(error)
    if isinstance(error, ValueError | TypeError | OSError):
        return said
    return (
        f"something went wrong that should not ({type(error).__name__}: {said}): this is a fault of insightedit, "
        f"please report it; {TRACEBACK}=1 before the command shows where."
    )


def _of_a_path(error: OSError) -> str:
    """What the system says of a file, with what to do."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    name = name if len(name) <= MAX_PATH else f"...{name[-MAX_PATH:]}"
    told = _SYSTEM.get(error.errno or 0)
    return f"{name} {told}." if told else f"{name}: {error.strerror}; check the path and the disk."


def _written(before: int) -> str:
    from insightedit.files import finished_files

    files = [
        path for path in dict.fromkeys(finished_files()[before:]) if path.exists()
    ]  # not the temporary ones
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
