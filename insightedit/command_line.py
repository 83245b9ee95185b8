"""What every command of the command line shares: errors in one sentence, and quiet libraries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Turn errors of the user's making into one line on stderr and exit code 2."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        typer.secho(f"insightedit: {message}", err=True, fg=typer.colors.RED)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("insightedit: stopped; nothing was written.", err=True)
        raise typer.Exit(130) from None


def quiet_libraries() -> None:
    """Keep loading bars and notices of the libraries out of the output."""
    # transformers imports it to save a model; it sets a level of its own then, and misses a GPU
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
