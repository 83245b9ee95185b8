"""`insightedit data preview RECIPE --stage 3`: what a stage would see, before it trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insightedit.console import Command, command_group, console, quiet_libraries, titled_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from insightedit.config.schema import Config
    from insightedit.images.sheets import Sheet
    from insightedit.training.preview import Preview

LAST_STAGE = 3
OPEN, CLOSE = "«", "»"  # around what is learned, in the terminal
EXAMPLES = """For example:

  insightedit data preview insightedit --stage 3 --overlay mini --init-from default

  insightedit data preview smartedit --overlay tiny 'data.sources=[{kind: magicbrush, path: MagicBrush}]'

  insightedit data preview runs/insightedit/stage3/config.yaml --sheet seen.png

Tokens between « and » are learned by the language loss; on the sheet they are green. Pictures are shown as the
autoencoder gets them. Only tokenizers and processors of the base models are loaded, no weights.
"""

app = command_group("Look at training data.")


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
    from insightedit.images.sheets import check_sheet_path, write_pair_sheet

    check_sheet_path(sheet)
    from insightedit.training.model_start import init_from_pretrained

    whole = init_from_pretrained(read_config(config, stage, overlay or (), overrides or ()), init_from)
    if init_from is not None and not Path(str(whole.init_from)).is_dir():
        raise ValueError(f"--init-from {init_from}: there is no such folder; check the path, or leave it out.")
    quiet_libraries()
    from rich.markup import escape

    from insightedit.training.preview import preview as look

    seen = look(whole, samples=samples, draws=draws)
    made = build_sheet(seen, whole)
    screen = console()
    for note in made.notes:
        screen.print(escape(note))
    for shares in made.tables:
        table = titled_table(shares.title, shares.head[:1], shares.head[1:])
        for row in shares.rows:
            table.add_row(*map(escape, row))
        screen.print(table)
    for card in (card for section in made.sections for card in section.cards):
        screen.print(f"\n{card.title}", style="bold", markup=False)
        for line in card.lines:
            text = "".join(f"{OPEN}{run.text}{CLOSE}" if run.style == "learned" else run.text for run in line.runs)
            screen.print(text, markup=False, highlight=False, soft_wrap=line.is_code)
    write_pair_sheet(made, sheet)
    typer.echo(f"{sheet}  {len(seen.samples)} samples")


def read_config(name: str, stage: int | None, overlays: Sequence[str], overrides: Sequence[str]) -> Config:
    """The config of a recipe's stage, or of a run; a ConfigError tells every fault."""
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


def build_sheet(seen: Preview, config: Config) -> Sheet:
    """The sheet of a preview."""
    from insightedit.images.sheets import PairCard, Paragraph, Section, Sheet, SheetTable, Tile

    cards = []
    for sample in seen.samples:
        record = sample.record
        facts = [f"instruction: {record.instruction}"]
        facts += [f"reply: {record.reply}"] if record.reply else []
        facts += [f"aligned with: {sample.aligned}"] if sample.aligned else []
        learned = f"{sample.num_learned} of them learned"
        if sample.num_learned is None:
            learned = "the text is a condition, no token is learned"
        drawn = "" if record.is_edit or sample.aligned else "; nothing is drawn"
        facts.append(f"{sample.num_tokens} tokens, {learned}{drawn}")
        tiles = tuple(Tile(name, pixels) for name, pixels in sample.pictures.items())
        lines = (*map(Paragraph.of, facts), Paragraph(sample.runs, is_code=True))
        cards.append(PairCard(f"{sample.index}  {sample.source}  {record.key}", tiles, lines))
    stage, side = f"{config.recipe}, stage {config.stage.number}", config.generation.resolution
    note = (
        f"{stage} ({config.stage.objective}): {config.train.max_steps} steps of {seen.batch_size} samples, "
        f"{side} x {side} pixels, seed {config.train.seed}"
    )
    about = "Green tokens are learned by the language loss. Pictures are as the autoencoder gets them."
    section = Section("Samples", tuple(cards), about)
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
    shares = SheetTable(f"Sources, over {seen.draws} draws", head, rows)
    return Sheet(f"{stage}: what it sees", (note,), (shares,), (section,))
