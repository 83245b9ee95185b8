"""`python -m data_recipes` and `python -m data_recipes.RECIPE`: photos in, editing pairs out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from insightedit.console import Command, one_sentence_errors

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
    """Run the command line.

    Args:
        recipe_name: the recipe that is run; None lets the first word or the config name it.
    """
    command_line(recipe_name)(prog_name=_program(recipe_name))


def _program(recipe_name: str | None) -> str:
    return "python -m data_recipes" + (f".{recipe_name}" if recipe_name else "")


def command_line(recipe_name: str | None = None) -> typer.Typer:
    """The command line of all recipes, or of one."""
    program = _program(recipe_name)
    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    epilog = EXAMPLES.format(program=program if recipe_name else f"{program} advancededit", config="scenes_oracle")

    @app.command(cls=Command, epilog=epilog, help=_help(recipe_name))
    def run(
        words: Annotated[
            list[str] | None,
            typer.Argument(metavar="KEY=VALUE", help="Settings that differ from the file.", show_default=False),
        ] = None,
        config: Annotated[
            str | None, typer.Option(help="YAML file, or a name of configs/data.", show_default=False)
        ] = None,
        out: Annotated[
            Path | None,
            typer.Option(help="Folder to write; new, empty, or begun by the same command.", show_default=False),
        ] = None,
        engine: Annotated[
            str | None, typer.Option(help="local (processes) or ray (a cluster).", show_default=False)
        ] = None,
        workers: Annotated[
            int | None, typer.Option(help="Processes, or Ray actors of each model.", show_default=False)
        ] = None,
        count: Annotated[int | None, typer.Option(help="Only so many inputs.", min=1, show_default=False)] = None,
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
            _list_recipes()
            return
        with one_sentence_errors("what is finished is kept, and the same command goes on from there."):
            _run(named, config, given, out, sample if dry_run else None)

    return app


def _run(named: str | None, config: str | None, given: list[str], out: Path | None, sample: int | None) -> None:
    from data_recipes.recipes import recipe_module
    from data_recipes.runner import terminal
    from data_recipes.runner.config import load_config
    from data_recipes.runner.dry_run import dry_run
    from data_recipes.runner.progress import Interrupted
    from data_recipes.runner.run import run_recipe, usage_of
    from insightedit.files import check_outside

    settings = load_config(config, given, named=named)
    if not settings.recipe:
        raise ValueError("no recipe is named: write it first, as in `python -m data_recipes advancededit`.")
    recipe_module(settings.recipe)
    if out is not None:
        settings.output.path = str(out)
    terminal.show_models(settings.backends)
    if sample is not None:
        estimate = dry_run(settings, sample)
        terminal.show_estimate(estimate, settings.engine.workers)
        if not estimate.pairs:
            raise ValueError(terminal.nothing_came(estimate))
        return
    if settings.output.path is None:
        raise ValueError("nowhere to write: name a folder with --out, or look first with --dry-run.")
    check_outside("--out", settings.output.path, "the source", settings.source.path)
    try:
        with terminal.watching() as watch:
            manifest = run_recipe(settings, watch)
    except Interrupted as error:
        raise KeyboardInterrupt(str(error)) from None
    terminal.show_result(manifest, settings.output.path, usage_of(Path(settings.output.path)))
    if settings.faults:
        from data_recipes.oracle.report import write_report

        report = write_report(Path(settings.output.path))
        terminal.output_console().print(report.text(), highlight=False, markup=False, soft_wrap=True)


def _list_recipes() -> None:
    from rich.table import Table

    from data_recipes.recipes import RECIPES
    from data_recipes.runner.config import list_configs
    from data_recipes.runner.terminal import output_console

    console = output_console()
    table = Table("recipe", "what it makes", box=None)
    for name in RECIPES:
        table.add_row(name, _about(name))
    console.print(table)
    console.print("\nRun one:  python -m data_recipes RECIPE --config NAME --out DIR   (--help tells more)")
    if names := list_configs():
        console.print(f"Configs:  {', '.join(names)}")


def _about(name: str) -> str:
    from data_recipes.recipes import recipe_module

    try:
        return recipe_module(name).ABOUT
    except ValueError as error:
        return str(error)


def _help(named: str | None) -> str:
    if named is None:
        return (
            "Make editing pairs from photos by a recipe: the first word, or what the config names. Without anything: "
            "lists the recipes."
        )
    return _about(named)
