"""`python -m data_recipes` and `python -m data_recipes.RECIPE`: photos in, editing pairs out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insightedit.console import Command, console, one_sentence_errors, titled_table

if TYPE_CHECKING:
    from data_recipes.runner.dry_run import Estimate

EXAMPLES = """Examples:

  {program} --config {config} --out pairs/

  {program} --config {config} --dry-run

  {program} source.path=photos/ --out pairs/ --workers 4 backends.chat.kind=endpoint

  {program} --config my.yaml --out pairs/ schedule=step 'devices=[cuda:0, cuda:1]'

  {program} --config my.yaml --out pairs/ --engine ray engine.address=auto engine.num_gpus=1

The same command again goes on where a run was stopped or killed. key=value changes any setting of the file: source.*,
output.*, engine.*, backends.NAME.*, steps.NAME.*; a last part that is unique is enough (workers=4).

Train on the result:

  python -m insightedit.stage3 'data.sources=[{{kind: parquet, path: pairs/}}]'
"""


def main(recipe_name: str | None = None) -> None:
    """Run the command line of one recipe, or of all: then the first word or the config names it."""
    command_line(recipe_name)(prog_name=_program(recipe_name))


def _program(recipe_name: str | None) -> str:
    return "python -m data_recipes" + (f".{recipe_name}" if recipe_name else "")


def command_line(recipe_name: str | None = None) -> typer.Typer:
    """The command line of all recipes, or of one."""
    program = _program(recipe_name)
    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    epilog = EXAMPLES.format(program=program if recipe_name else f"{program} advancededit", config="scenes_oracle")
    about = (
        "Make editing pairs from photos by a recipe: the first word, or what the config names. Without anything: "
        "lists the recipes."
    )

    @app.command(cls=Command, epilog=epilog, help=_about(recipe_name) if recipe_name else about)
    def run(
        words: Annotated[
            list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that differ from the file.")
        ] = None,
        config: Annotated[str | None, typer.Option(help="YAML file, or a name of configs/data.")] = None,
        out: Annotated[
            Path | None, typer.Option(help="Folder to write; new, empty, or begun by the same command.")
        ] = None,
        engine: Annotated[str | None, typer.Option(help="local (processes) or ray (a cluster).")] = None,
        workers: Annotated[int | None, typer.Option(help="Processes, or Ray actors of each model.")] = None,
        count: Annotated[int | None, typer.Option(help="Only so many inputs.", min=1)] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Try some inputs; tell time, rejects, tokens and cost.")
        ] = False,
        sample: Annotated[int, typer.Option(help="Inputs that --dry-run tries.", min=1, max=10_000)] = 8,
    ) -> None:
        given = list(words or [])
        named = recipe_name or (given.pop(0) if given and "=" not in given[0] else None)
        asked = {"engine.name": engine, "engine.workers": workers, "source.count": count}
        given += [f"{key}={value}" for key, value in asked.items() if value is not None]
        if named is None and config is None and not given:
            from data_recipes.recipes import RECIPES
            from insightedit.config.settings import config_names

            table = titled_table("Recipes", ("recipe", "what it makes"))
            for name in RECIPES:
                table.add_row(name, _about(name))
            _show(table)
            _show("\nRun one:  python -m data_recipes RECIPE --config NAME --out DIR   (--help tells more)")
            if names := config_names("data"):
                _show(f"Configs:  {', '.join(names)}")
            return
        with one_sentence_errors("what is finished is kept, and the same command goes on from there."):
            _run(named, config, given, out, sample if dry_run else None)

    return app


def _run(named: str | None, config: str | None, given: list[str], out: Path | None, sample: int | None) -> None:
    from data_recipes.recipes import recipe_module
    from data_recipes.runner.config import load_config
    from data_recipes.runner.dry_run import dry_run
    from data_recipes.runner.progress import Interrupted, watching
    from data_recipes.runner.run import run_recipe, usage_of
    from insightedit.files import check_outside

    settings = load_config(config, given, named=named)
    if not settings.recipe:
        raise ValueError("no recipe is named: write it first, as in `python -m data_recipes advancededit`.")
    recipe_module(settings.recipe)
    if out is not None:
        settings.output.path = str(out)
    show_models(settings.backends)
    if sample is not None:
        show_estimate(dry_run(settings, sample), settings.engine.workers)
        return
    place = settings.output.path
    if place is None:
        raise ValueError("nowhere to write: name a folder with --out, or look first with --dry-run.")
    check_outside("--out", place, "the source", settings.source.path)
    try:
        with watching() as watch:
            manifest = run_recipe(settings, watch)
    except Interrupted as error:
        raise KeyboardInterrupt(str(error)) from None
    show_result(manifest, place, usage_of(Path(place)))
    if settings.faults:
        from data_recipes.oracle.report import write_report

        _show(write_report(Path(place)).text(), markup=False, soft_wrap=True)


def _about(name: str) -> str:
    from data_recipes.recipes import recipe_module

    try:
        return recipe_module(name).ABOUT
    except ValueError as error:
        return str(error)


def _show(what: Any, **how: Any) -> None:
    console().print(what, highlight=False, **how)


def show_models(backends: Mapping[str, Any]) -> None:
    """Tell which models will be loaded before the first takes its minutes; `backends` is the config's section."""
    users: dict[str, list[str]] = {}
    for name, entry in backends.items():
        if "model" in entry and entry.get("kind") != "endpoint":
            users.setdefault(str(entry["model"]), []).append(name)
    if users:
        told = "; ".join(f"{model} ({', '.join(names)})" for model, names in users.items())
        _show(f"Loads {told}. What is not on this machine is downloaded first.", markup=False)


def show_result(manifest: Mapping[str, Any], out: str, usage: Mapping[str, Mapping[str, float]]) -> None:
    """What a run has made, what it rejected and why, and where to look."""
    size = sum(shard["bytes"] for shard in manifest["shards"]) / 1e6
    _show(
        f"{manifest['pairs']:,} pairs of {manifest['inputs']:,} inputs in {len(manifest['shards'])} files, "
        f"{size:.1f} MB, in {out}"
    )
    if manifest["tasks"]:
        _show("  " + ", ".join(f"{name} {number:,}" for name, number in manifest["tasks"].items()))
    if manifest["rejects"]:
        table = titled_table("Rejected", ("step", "rejected because"), ("records",))
        for step, reasons in manifest["rejects"].items():
            for reason, number in sorted(reasons.items(), key=lambda one: -one[1]):
                table.add_row(step, reason, f"{number:,}")
        _show(table)
    for name, used in usage.items():
        _show(f"{name}: {_used(used)}")
    _show(f"Look at {out}/statistics.html and {out}/README.md; each reject is in {out}/rejected.jsonl")


def show_estimate(estimate: Estimate, workers: int) -> None:
    """What a run would take; a ValueError that says which step refused what if the sample gave no pair."""
    _show(f"{estimate.sampled} of {estimate.inputs:,} inputs gave {estimate.pairs} pairs; nothing was written.")
    table = titled_table("Tried", ("step", "because"), ("records", "s a record", "rejected"))
    for step in estimate.steps:
        seconds = "–" if step.seconds is None else f"{step.seconds:.4f}"
        share = f"{step.rejected / step.records:.0%}" if step.records else "–"
        table.add_row(step.name, "; ".join(step.reasons), str(step.records), seconds, share)
    _show(table)
    _show(
        f"Whole run with {workers} worker{'s' * (workers > 1)}: about {_duration(estimate.total)}, "
        f"{estimate.bytes / 1e6:,.0f} MB, {estimate.pairs * estimate.inputs / estimate.sampled:,.0f} pairs; loading "
        f"models took {_duration(estimate.loading)}."
    )
    for name, used in estimate.usage.items():
        _show(f"{name}: about {_used(used)}")
    if not estimate.pairs:
        refused = [
            f"{step.name} rejected {step.rejected} of {step.records} ({'; '.join(step.reasons[:3])})"
            for step in estimate.steps
            if step.rejected
        ]
        raise ValueError(
            f"{estimate.sampled} inputs were tried and gave no pair: "
            f"{', '.join(refused) or 'no step gave a reason'}. Put that right before the whole run."
        )


def _used(used: Mapping[str, float]) -> str:
    told = [f"{used.get('calls', 0):,.0f} questions, {used.get('asked', 0):,.0f} of them asked anew"]
    tokens = used.get("input_tokens", 0), used.get("output_tokens", 0)
    if any(tokens):
        told.append(f"{tokens[0]:,.0f} tokens in, {tokens[1]:,.0f} out")
    if used.get("cost"):
        told.append(f"cost {used['cost']:,.2f}")
    return ", ".join(told)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
