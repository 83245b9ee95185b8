"""What `insightedit eval list` and the help of a benchmark tell: sources, licences, trees, protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from insightedit.console import console, one_sentence_errors, titled_table
from insightedit.evaluation.benchmarks.registry import MODULES, benchmark_loader

if TYPE_CHECKING:
    from insightedit.evaluation.benchmarks.base import Card
    from insightedit.evaluation.core.protocol import Protocol


def long_help(name: str) -> str:
    """Help of a benchmark: paper, licence, how to get it, tree, splits, protocols, examples."""
    from insightedit.evaluation.core.protocols import protocols_for

    card = benchmark_loader(name).CARD
    protocols = [
        f"{one.name}{' (default)' if i == 0 else ''}: {one.title}." for i, one in enumerate(protocols_for(name))
    ]
    needs = " --judge endpoint --judge-model NAME" if protocols_for(name)[0].asks_a_judge else ""
    parts = [
        f"{card.title} ({card.paper}).",
        f"Get it: {card.obtain}",
        f"Licence: {card.licence}. {_counts(card)}",
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


def _counts(card: Card) -> str:
    return f"Samples: {card.counts['all']:,}." if "all" in card.counts else ""


def list_benchmarks(
    name: Annotated[str | None, typer.Argument(help="A protocol, to see its columns; none: all benchmarks.")] = None,
) -> None:
    """Tell what can be measured: benchmarks with their protocols, or the columns of one protocol."""
    with one_sentence_errors():
        from insightedit.evaluation.core.protocols import PROTOCOLS, protocols_for

        if name is None:
            _print_benchmarks()
        elif name in PROTOCOLS:
            _print_protocol(PROTOCOLS[name])
        else:
            for protocol in protocols_for(name):
                _print_protocol(protocol)


def _print_benchmarks() -> None:
    from insightedit.evaluation.core.protocols import protocols_for

    table = titled_table("Benchmarks", ["name", "samples", "splits", "licence", "protocols, the default first"])
    table.columns[1].justify = "right"
    for name in MODULES:
        card = benchmark_loader(name).CARD
        count = f"{card.counts['all']:,}" if "all" in card.counts else "any"
        protocols = ", ".join(protocol.name for protocol in protocols_for(name))
        table.add_row(name, count, ", ".join(card.splits) or "-", card.licence, protocols)
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
