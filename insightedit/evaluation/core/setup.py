"""From the command line's words to what a benchmark run needs: device, weights, judge, editor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from insightedit.chat.clients import ChatClient
    from insightedit.evaluation.benchmarks.base import Benchmark
    from insightedit.evaluation.core.run import EditingMethod


@dataclass(frozen=True)
class JudgeOptions:
    """Who is asked, as on the command line."""

    kind: str | None
    model: str | None
    url: str | None
    key_variable: str
    replies: Path
    rate: float | None


def read_weights(texts: list[str]) -> dict[str, str]:
    """NAME=PATH as a dictionary.

    Raises:
        ValueError: if one is not of this form.
        FileNotFoundError: if a path is not there.
    """
    found = {}
    for text in texts:
        name, sign, path = text.partition("=")
        if not (name and sign and path):
            raise ValueError(f"--weights {text}: give NAME=PATH, e.g. openai/clip-vit-base-patch32=models/clip.")
        if not Path(path).exists():
            raise FileNotFoundError(f"--weights {text}: there is no {path}.")
        found[name] = path
    return found


@contextmanager
def open_judge(options: JudgeOptions, device: str) -> Iterator[ChatClient | None]:
    """Who is asked, until the end of the run; None if nobody was named. What an endpoint counted is told at the end.

    Raises:
        ValueError: if the judge has no name, or cannot be had.
    """
    if options.kind is None:
        yield None
        return
    if options.model is None:
        raise ValueError(f"--judge {options.kind} needs --judge-model: the name that its replies are kept under.")
    from insightedit.chat import clients as backends
    from insightedit.chat.replies import ReplyStore

    store = ReplyStore(options.replies)
    if options.kind == "recorded":
        try:
            yield backends.RecordedClient(store, options.model)
        except backends.MissingReplyError as error:
            raise ValueError(str(error)) from error
        return
    if options.kind == "local":
        from insightedit.chat.local import LocalClient
        from insightedit.modeling.model_ids import resolve_model_id

        where = resolve_model_id(options.model)
        name = None if where == options.model else options.model  # a miniature keeps the name that it was asked by
        yield backends.RecordingClient(LocalClient(where, name=name, device=device), store)
        return
    asked = backends.EndpointClient(
        options.model,
        base_url=options.url or backends.OPENAI,
        key_variable=options.key_variable or None,
        requests_per_minute=options.rate,
    )
    try:
        yield backends.RecordingClient(asked, store)
    finally:
        asked.close()
        used = asked.used
        typer.echo(
            f"{options.model}: {used['requests']} requests, {used['read']:,} tokens read, {used['written']:,} written"
        )


def open_model(model: str | None, device: str | None) -> Any:
    """The pipeline of a model, silent; the one that comes along for None."""
    from insightedit.pipelines.loading import load_pipeline

    pipeline = load_pipeline(model, device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def results_editor(
    folder: Path, benchmark: Benchmark, method: str | None, *, partial: bool
) -> tuple[Benchmark, EditingMethod]:
    """Pictures that are there; samples without one are left out."""
    from insightedit.evaluation.benchmarks.results import pair_results
    from insightedit.evaluation.core.outputs import FolderOutputs
    from insightedit.evaluation.core.run import EditingMethod

    found = pair_results(folder, benchmark, partial=partial)
    there = tuple(sample for sample in benchmark if sample.sample_id in found.paths)
    for warning in found.warnings:
        typer.secho(f"{folder}: {warning}", err=True, fg=typer.colors.YELLOW)
    outputs = FolderOutputs(found.folder, found.paths)
    editor = EditingMethod(method or folder.absolute().name, outputs, warnings=found.warnings)
    return replace(benchmark, samples=there), editor


def model_editor(
    model: str,
    benchmark: Benchmark,
    out: Path,
    method: str | None,
    seeds: tuple[int, ...],
    device: str,
    call: dict[str, Any],
) -> EditingMethod:
    """A model that makes the pictures."""
    from insightedit.evaluation.core import outputs as making
    from insightedit.evaluation.core.editing_methods import pipeline_editor, round_trip_of
    from insightedit.evaluation.core.run import EditingMethod

    pipeline = open_model(model, device)
    making.check_model_fits(pipeline, benchmark)
    settings = making.settings_of(pipeline, call, creates=all(sample.source is None for sample in benchmark))
    outputs = making.ModelOutputs(
        pipeline_editor(pipeline, **call),
        out,
        str(model),
        seeds,
        call["batch_size"],
        is_locked=call["background_lock"],
    )
    return EditingMethod(
        method or Path(model).absolute().name,
        outputs,
        ckpt_sha=making.weights_of(pipeline),
        settings={**settings, "device": pipeline.device.type},
        cfg={name: value for name, value in settings.items() if name.endswith("_scale")},
        sampler=f"{type(pipeline.scheduler).__name__}-{settings.get('num_inference_steps', '')}".strip("-"),
        round_trip=round_trip_of(pipeline),
    )
