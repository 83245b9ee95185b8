"""`insightedit data preview RECIPE --stage 3`: what a stage would see, before it trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insightedit.console import Command, Group, one_sentence_errors, quiet_libraries

if TYPE_CHECKING:
    from rich.console import Console

    from insightedit.config.schema import Config
    from insightedit.images.sheets import PairCard, Sheet, SheetTable
    from insightedit.training.preview import Preview, SeenSample

LAST_STAGE = 3
OPEN, CLOSE = "«", "»"  # around what is learned, in the terminal
EXAMPLES = """For example:

  insightedit data preview insightedit --stage 3 --overlay mini --init-from default

  insightedit data preview smartedit --overlay tiny 'data.sources=[{kind: magicbrush, path: MagicBrush}]'

  insightedit data preview runs/insightedit/stage3/config.yaml --sheet seen.png

Tokens between « and » are learned by the language loss; on the sheet they are green. Pictures are shown as the
autoencoder gets them. Only tokenizers and processors of the base models are loaded, no weights.
"""

app = typer.Typer(
    rich_markup_mode=None,
    help="Look at training data.",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def root() -> None:
    """Look at training data."""


@app.command(cls=Command, epilog=EXAMPLES, no_args_is_help=True)
def preview(
    config: Annotated[str, typer.Argument(help="Recipe by name or YAML file, or the config.yaml of a run folder.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value]...", help="E.g. train.batch_size=8.")
    ] = None,
    stage: Annotated[
        int | None,
        typer.Option(min=1, max=LAST_STAGE, help="1, 2 or 3. Default: 3, or the stage that the run's config names."),
    ] = None,
    overlay: Annotated[
        list[str] | None, typer.Option(help="configs/overlays/NAME.yaml, or a YAML file; repeat it.")
    ] = None,
    init_from: Annotated[
        str | None, typer.Option(metavar="MODEL", help="As for a stage: a model's folder, its hub id, or `default`.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=1000, help="Samples to show, the first of the stream.")] = 10,
    draws: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="Positions of the stream to count sources over.")
    ] = 10_000,
    sheet: Annotated[Path, typer.Option(help="Sheet to write: .html or .png.")] = Path("preview.html"),
) -> None:
    """Show the shares of the sources, and samples with exact prompts, learned tokens and pictures."""
    with one_sentence_errors():
        from insightedit.images.sheets import check_sheet_path, write_pair_sheet

        check_sheet_path(sheet)
        from insightedit.training.model_start import init_from_pretrained

        whole = init_from_pretrained(read_config(config, stage, overlay or (), overrides or ()), init_from)
        if init_from is not None and not Path(str(whole.init_from)).is_dir():
            raise ValueError(f"--init-from {init_from}: there is no such folder; check the path, or leave it out.")
        quiet_libraries()
        from insightedit.console import console
        from insightedit.training.preview import preview as look

        seen = look(whole, samples=samples, draws=draws)
        print_preview(seen, whole, console())
        write_pair_sheet(build_sheet(seen, whole), sheet)
        typer.echo(f"{sheet}  {len(seen.samples)} samples")


def read_config(
    name: str, stage: int | None, overlays: list[str] | tuple[str, ...], overrides: list[str] | tuple[str, ...]
) -> Config:
    """The config of a recipe's stage, or of a run.

    Raises:
        ConfigError: with every fault found.
    """
    import yaml

    from insightedit.config.load import ConfigError, load_config

    if stage is None:
        try:
            told = yaml.safe_load(Path(name).read_text(encoding="utf-8")) if Path(name).is_file() else {}
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{name} is no YAML that can be read ({' '.join(str(error).split())[:200]}).") from None
        is_run = isinstance(told, dict) and isinstance(told.get("stage"), dict) and "number" in told["stage"]
        stage = None if is_run else LAST_STAGE
    return load_config(name, stage, overlays, overrides)


def print_preview(seen: Preview, config: Config, console: Console) -> None:
    """Shares and samples as text."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    for line in _notes(seen, config):
        console.print(escape(line))
    told = shares_table(seen)
    table = RichTable(title=told.title, title_justify="left")
    for name in told.head:
        table.add_column(name, justify="left" if name == "source" else "right")
    for row in told.rows:
        table.add_row(*map(escape, row))
    console.print(table)
    for sample in seen.samples:
        console.print(f"\n{_title(sample)}", style="bold", markup=False)
        for line in _facts(sample):
            console.print(line, markup=False, highlight=False)
        text = "".join(f"{OPEN}{run.text}{CLOSE}" if run.style == "learned" else run.text for run in sample.runs)
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def shares_table(seen: Preview) -> SheetTable:
    """Sources with their configured and drawn shares."""
    from insightedit.images.sheets import SheetTable

    rows = tuple(
        (
            share.name,
            "endless" if share.records is None else str(share.records),
            f"{100 * share.configured:.1f} %",
            f"{100 * share.drawn / seen.draws:.1f} %",
            str(share.drawn),
            "" if share.visits is None else f"{share.visits:.2f}",
            str(seen.broken.get(share.name, 0)),
        )
        for share in seen.shares
    )
    head = ("source", "records", "configured", "drawn", "draws", "visits of each", "broken, of those read")
    return SheetTable(f"Sources, over {seen.draws} draws", head, rows)


def build_sheet(seen: Preview, config: Config) -> Sheet:
    """The sheet of a preview."""
    from insightedit.images.sheets import Section, Sheet

    cards = tuple(_card(sample) for sample in seen.samples)
    title = f"{config.recipe}, stage {config.stage.number}: what it sees"
    section = Section(
        "Samples", cards, "Green tokens are learned by the language loss. Pictures are as the autoencoder gets them."
    )
    return Sheet(title, tuple(_notes(seen, config)), (shares_table(seen),), (section,))


def _card(sample: SeenSample) -> PairCard:
    from insightedit.images.sheets import PairCard, Paragraph, Tile

    tiles = tuple(Tile(name, pixels) for name, pixels in sample.pictures.items())
    lines = (*(Paragraph.of(text) for text in _facts(sample)), Paragraph(sample.runs, is_code=True))
    return PairCard(_title(sample), tiles, lines)


def _notes(seen: Preview, config: Config) -> list[str]:
    side = config.generation.resolution
    return [
        f"{config.recipe}, stage {config.stage.number} ({config.stage.objective}): {config.train.max_steps} steps of "
        f"{seen.batch_size} samples, {side} x {side} pixels, seed {config.train.seed}"
    ]


def _title(sample: SeenSample) -> str:
    return f"{sample.index}  {sample.source}  {sample.record.key}"


def _facts(sample: SeenSample) -> list[str]:
    record = sample.record
    facts = [f"instruction: {record.instruction}"]
    facts += [f"reply: {record.reply}"] if record.reply else []
    facts += [f"aligned with: {sample.aligned}"] if sample.aligned else []
    learned = (
        "the text is a condition, no token is learned"
        if sample.num_learned is None
        else f"{sample.num_learned} of them learned"
    )
    drawn = "" if record.is_edit or sample.aligned else "; nothing is drawn"
    return [*facts, f"{sample.num_tokens} tokens, {learned}{drawn}"]
