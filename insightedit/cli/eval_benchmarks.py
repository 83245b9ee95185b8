"""`insightedit eval BENCHMARK FOLDER`: measure an editor on a published benchmark.

`insightedit eval list` tells what can be measured, and by which rules; `insightedit eval magicbrush --help` tells where
to get it, its licence, its tree and examples. What reads finished runs: `insightedit.cli.eval_reading`.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insightedit.cli import eval_reading
from insightedit.cli.options import (
    BatchSize,
    Device,
    ImageScale,
    Lock,
    PromptScale,
    Steps,
    TextScale,
    call_settings,
    check_exclusive,
    check_no_model,
)
from insightedit.console import (
    MAX_SEED,
    Command,
    Group,
    console,
    finite,
    one_sentence_errors,
    progress_bar,
    quiet_libraries,
    titled_table,
)
from insightedit.evaluation.benchmarks.registry import MODULES, benchmark_loader, load_benchmark
from insightedit.evaluation.reporting.table_formatting import to_markdown

if TYPE_CHECKING:
    from insightedit.evaluation.benchmarks.base import Benchmark
    from insightedit.evaluation.core.editing_methods import EditingMethod
    from insightedit.evaluation.core.protocol import Protocol

SHORT = {
    "reason-edit": "Reason-Edit: edits that need understanding or reasoning.",
    "advancededit": "AdvancedEdit-Eval: remove, add, replace by advanced instructions.",
    "magicbrush": "MagicBrush: real photographs, edits in several turns.",
    "emu-edit": "Emu Edit test set: eight tasks with captions, no targets.",
    "evr": "EVR: requests from the web.",
    "gier": "GIER: requests from the web, with operations.",
    "ma5k": "MA5k-Req: photo adjustment.",
    "migebench": "MIGEBench: a pictured subject is added or replaces something.",
    "dreambench": "DreamBench: new pictures of thirty subjects.",
    "gedit": "GEdit-Bench: what real users ask for; needs a judge.",
    "imgedit": "ImgEdit-Bench: nine types of edits; needs a judge.",
}  # benchmark -> its line in the list of commands, which is to be printed without reading any loader
JUDGES = ("endpoint", "local", "recorded")
MAX_SEEDS = 100  # pictures per sample

Dump = Annotated[
    Path | None, typer.Option(help="Only write samples.jsonl with ids and instructions there, and the pictures.")
]
Seeds = Annotated[
    int | None, typer.Option(min=1, max=MAX_SEEDS, help="Pictures per sample. Default: the protocol's, mostly 1.")
]
Weights = Annotated[
    list[str] | None,
    typer.Option(help="NAME=PATH: where the weights of an encoder lie, if not in the cache; repeat it."),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", help="MODULE:NAME of a metric of your own, measured besides; repeat it."),
]
JudgeKey = Annotated[
    str, typer.Option(help="Environment variable with the endpoint's key; '' for a server without one.")
]
JudgeRate = Annotated[
    float | None, typer.Option(min=0.01, max=1e6, callback=finite, help="Requests per minute at most.")
]


def long_help(name: str) -> str:
    """Help of a benchmark: paper, licence, how to get it, tree, splits, protocols, examples."""
    from insightedit.evaluation.core.protocols import protocols_for

    card, known = benchmark_loader(name).CARD, protocols_for(name)
    protocols = [f"{one.name}{' (default)' if one is known[0] else ''}: {one.title}." for one in known]
    needs = " --judge endpoint --judge-model NAME" if known[0].asks_a_judge else ""
    count = f"Samples: {card.counts['all']:,}." if "all" in card.counts else ""
    parts = [
        f"{card.title} ({card.paper}).",
        f"Get it: {card.obtain}",
        f"Licence: {card.licence}. {count}",
        f"\b\nExpected tree:\n{card.layout}",
        *([f"Splits, the default first: {', '.join(card.splits)}."] if card.splits else []),
        "\b\nProtocols:\n" + "\n".join(protocols),
        "\b\nExamples:\n"
        f"insightedit eval {name} FOLDER --model runs/insightedit/model{needs} --out runs/eval/ours\n"
        f"insightedit eval {name} FOLDER --results edited/ --method UltraEdit{needs} --out runs/eval/ultraedit\n"
        f"insightedit eval {name} FOLDER --dump to_edit/   # ids and instructions, for any editor\n"
        "insightedit eval table runs/eval/ours runs/eval/ultraedit --published",
    ]
    return "\n\n".join(parts)


class EvalGroup(Group):
    """The commands of `insightedit eval`; a benchmark of somebody else, MODULE:NAME, is one too."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name."""
        if ":" not in cmd_name:
            return super().get_command(ctx, cmd_name)
        command = copy(super().get_command(ctx, next(iter(SHORT))))
        command.name = cmd_name  # type: ignore[union-attr]
        return command


class BenchmarkCommand(Command):
    """A command whose help says where its benchmark comes from; the loader is read when help is asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help; the two arguments are click's, which typer holds within itself."""
        self.help = long_help(str(self.name))
        super().format_help(ctx, formatter)


def evaluate(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The benchmark's files, as published.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="Model folder or hub id that edits the pictures.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder of pictures that any editor made, SAMPLE_ID.png.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Row of the table. Default: name of the folder or model.")] = None,
    protocol: Annotated[str | None, typer.Option(help="By which rules; `insightedit eval list` tells which.")] = None,
    split: Annotated[str | None, typer.Option(help="Part of the benchmark. Default: the first one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: runs/eval/BENCHMARK.")] = None,
    dump: Dump = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first samples, to try things out.")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Measure what --results has, if some are missing.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED - MAX_SEEDS, help="Of the noise.")] = 0,
    seeds: Seeds = None,
    steps: Steps = None,
    guidance_scale: TextScale = None,
    image_guidance_scale: ImageScale = None,
    image_prompt_scale: PromptScale = None,
    background_lock: Lock = False,
    batch_size: BatchSize = 1,
    device: Device = None,
    weights: Weights = None,
    metric: Metrics = None,
    require_all: Annotated[bool, typer.Option("--require-all", help="Stop at once if an encoder is missing.")] = False,
    judge: Annotated[str | None, typer.Option("--judge", help="endpoint, local or recorded.")] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="Name at the endpoint, or folder; pin a dated version.")
    ] = None,
    judge_url: Annotated[str | None, typer.Option(help="Of an endpoint. Default: OpenAI's.")] = None,
    judge_key: JudgeKey = "OPENAI_API_KEY",
    judge_replies: Annotated[Path | None, typer.Option(help="File of replies. Default: judge.jsonl in --out.")] = None,
    judge_rate: JudgeRate = None,
) -> None:
    """Measure an editor on a benchmark."""
    name = str(context.info_name)
    with one_sentence_errors("the same command goes on where it was."):
        from insightedit.evaluation.core import editing_methods, metric_models
        from insightedit.evaluation.core.measure import metric_rule
        from insightedit.evaluation.core.protocols import find_protocol
        from insightedit.modeling.devices import find_device

        rules = find_protocol(name, protocol)
        rules = replace(rules, added=tuple(metric_rule(one, rules) for one in metric or ()))
        call = call_settings(steps, guidance_scale, image_guidance_scale, image_prompt_scale)
        _check_options(model, results, dump, rules, judge, partial=partial)
        if model is None:
            check_no_model({**call, "seeds": seeds, "background_lock": background_lock or None}, "without --model")
        benchmark = _read(name, folder, split, limit)
        out = out or Path("runs/eval") / benchmark.card.name
        if dump is not None:
            again = f"insightedit eval {benchmark.card.name} {benchmark.folder} --results FOLDER"
            dump_samples(benchmark, dump, again)
            return
        asked = metric_models.JudgeOptions(
            judge, judge_model, judge_url, judge_key, judge_replies or out / "judge.jsonl", judge_rate
        )
        place = str(find_device(device))
        paths = metric_models.read_weights(weights or [])
        quiet_libraries()
        with metric_models.open_judge(asked, place) as asking:
            models = metric_models.load_metric_models(
                rules, benchmark.card.name, judge=asking, weights=paths, device=place
            )
            if require_all:
                models.check_all()
            for reason in models.missing.values():
                typer.secho(f"Not measured: {reason}", err=True, fg=typer.colors.YELLOW)
            if results is not None:
                benchmark, editor = editing_methods.results_editor(results, benchmark, method, partial=partial)
            else:
                wanted = tuple(range(seed, seed + (seeds or rules.seeds)))
                call |= {"background_lock": background_lock, "batch_size": batch_size}
                editor = editing_methods.model_editor(str(model), benchmark, out, method, wanted, place, call)
            _measure(benchmark, rules, editor, models, out)


def _check_options(
    model: str | None, results: Path | None, dump: Path | None, rules: Protocol, judge: str | None, *, partial: bool
) -> None:
    if not check_exclusive({"--model": model, "--results": results, "--dump": dump}):
        raise ValueError(
            "nothing to measure: --model FOLDER edits the pictures, --results FOLDER takes pictures that are there."
        )
    if partial and results is None:
        raise ValueError("--partial is about --results: leave it out.")
    if judge is not None and judge not in JUDGES:
        raise ValueError(f"--judge is {judge!r}; it is one of {', '.join(JUDGES)}.")
    if judge is not None and not rules.asks_a_judge:
        raise ValueError(f"{rules.name} asks no judge: leave --judge out, or take --protocol viescore_v1.")
    if rules.command:
        raise ValueError(f"{rules.name} is measured by `{rules.command}`.")


def _read(name: str, folder: Path, split: str | None, limit: int | None) -> Benchmark:
    """The benchmark; its warnings are told."""
    benchmark = load_benchmark(name, folder, split)
    if limit is not None and limit < len(benchmark):
        told = f"--limit: the first {limit} of {len(benchmark)} samples, whose means are no result."
        benchmark = replace(
            benchmark,
            samples=benchmark.samples[:limit],
            warnings=(*benchmark.warnings, told),
            differs=(*benchmark.differs, told),
        )
    for warning in benchmark.warnings:
        typer.secho(f"{benchmark.card.title}: {warning}", err=True, fg=typer.colors.YELLOW)
    return benchmark


def dump_samples(benchmark: Benchmark, folder: Path, again: str) -> None:
    """Write ids, instructions and copies of the pictures for any editor, and say how to measure what it makes."""
    from insightedit.evaluation.core.run_folder import RunSample, write_samples
    from insightedit.files import check_folder, check_outside, write_bytes

    check_folder(folder)
    check_outside("--dump", folder, "the benchmark", benchmark.folder)

    def copied(path: Path, name: str) -> str:
        copy = (folder / "pictures" / name).with_suffix(path.suffix)
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(copy, path.read_bytes())
        return str(copy.absolute())

    lines = [
        RunSample(
            sample.sample_id,
            sample.instruction,
            sample.earlier,
            sample.category,
            sample.cluster,
            None if sample.source is None else copied(sample.source, f"{sample.sample_id}.png"),
            references=tuple(
                copied(path, f"{sample.sample_id}_{number}.png")
                for number, path in enumerate(sample.references, start=1)
            ),
        )
        for sample in benchmark
    ]
    typer.echo(f"{write_samples(lines, folder)}  {len(lines)} samples")
    typer.echo(f"Save each answer as SAMPLE_ID.png, then: {again}")


def _measure(benchmark: Benchmark, rules: Protocol, editor: EditingMethod, models: Any, out: Path) -> None:
    """Measure, or go on measuring, and print tables and failures."""
    from insightedit.chat.clients import ChatError, MissingReplyError
    from insightedit.evaluation.core.run import failures, run_benchmark
    from insightedit.evaluation.core.run_folder import RECORDS, RUN
    from insightedit.evaluation.reporting.runs import read_report_run

    try:
        with progress_bar(len(benchmark), "Measuring") as advance:
            card = run_benchmark(benchmark, rules, editor, models, out, progress=advance)
    except (ChatError, MissingReplyError) as error:
        raise ValueError(f"{error} The same command goes on where it was.") from error
    run = read_report_run(out)
    tables = [eval_reading.noted_table([run])]
    if card.protocol["averaging"] == "macro" and not card.missing:
        tables += eval_reading.category_tables([run], card.protocol["columns"][0]["metric_name"])
    for table in tables:
        typer.echo(to_markdown(table))
    for line in (*failures(card, run.records()), out / RUN, out / RECORDS):
        typer.echo(line)
    typer.echo(f"Beside the papers' rows: insightedit eval table {out} --published")


def list_benchmarks(
    name: Annotated[str | None, typer.Argument(help="A protocol, to see its columns; none: all benchmarks.")] = None,
) -> None:
    """Tell what can be measured: benchmarks with their protocols, or the columns of one protocol."""
    from insightedit.evaluation.core.protocols import PROTOCOLS, protocols_for

    if name is not None:
        for protocol in [PROTOCOLS[name]] if name in PROTOCOLS else protocols_for(name):
            _print_protocol(protocol)
        return
    table = titled_table("Benchmarks", ["name", "samples", "splits", "licence", "protocols, the default first"])
    table.columns[1].justify = "right"
    for known in MODULES:
        card = benchmark_loader(known).CARD
        count = f"{card.counts['all']:,}" if "all" in card.counts else "any"
        protocols = ", ".join(protocol.name for protocol in protocols_for(known))
        table.add_row(known, count, ", ".join(card.splits) or "-", card.licence, protocols)
    console().print(table)
    typer.echo("insightedit eval NAME --help: where to get it, and its tree")
    typer.echo("insightedit eval list PROTOCOL: its columns, paper and strict")


def _print_protocol(protocol: Protocol) -> None:
    title = f"{protocol.name} {protocol.hash}: {protocol.title}"
    table = titled_table(title, ["column", "variant", "compared with", "measured by", "note"])
    models = {model.key: model for model in protocol.models}
    for rule in protocol.rules:
        beside = ", ".join(filter(None, (rule.reference, rule.caption)))
        network = ", ".join(f"{models[key].name} {models[key].preprocess}".strip() for key in rule.models)
        table.add_row(rule.name, rule.variant, beside, network or "-", rule.why)
    screen = console()
    screen.print(table)
    screen.print(f"Rules from: {protocol.source}. Averages: {protocol.averaging}.", highlight=False)
    for caveat in protocol.caveats:
        screen.print(f"  {caveat}", highlight=False)
