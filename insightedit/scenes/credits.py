"""Who made the sprites and photographs, and what they allow.

`python -m insightedit.scenes.credits > insightedit/scenes/assets/LICENSES.md` brings the page of licences up to date.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from insightedit.scenes.assets import Assets, read_metadata

ATTRIBUTION_ONLY = re.compile(r"MIT|CC0(-1\.0)?|CC-BY(-[2-4]\.[05])?")  # neither share-alike nor non-commercial
NOT_STATED = "not stated"
CARD_LICENCES = (("CC-BY", "cc-by-4.0"), ("MIT", "mit"), ("CC0", "cc0-1.0"))  # the strictest first

LICENCE_HEAD = """# Licences of the sprites and photographs

Made from `metadata.json` by `python -m insightedit.scenes.credits`. Changes: the photographs were
scaled to 256 px on the shorter side, the sprites to fit 128 x 112 px (those that are only seen: 96 px
on the longer side), and all were compressed anew.
CC-BY asks you to name the authors wherever you pass pictures on; the dataset cards that
`python -m data_recipes.scenes` writes do so.

| file | author | source | licence |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Credit:
    """One file of a pack: its author, where it was taken from, and its licence, as its metadata says."""

    file: str
    kind: str
    split: str
    author: str
    source: str
    licence: str


def read_credits(assets: Assets, split: str | None = None) -> tuple[Credit, ...]:
    """Credits of all files, or of the sprites and the photographs that `split` shows."""
    splits = {photo.path: photo.split for photo in assets.photos}
    credits = []
    for folder in (assets.folder, *assets.packs):
        for entry in read_metadata(folder):
            said = (entry.get("author"), entry.get("source"), entry.get("licence") or entry.get("license"))
            shown = splits.get(folder / entry["file"], "")
            if shown or folder not in assets.packs:
                credits.append(Credit(entry["file"], entry["kind"], shown, *(text or NOT_STATED for text in said)))
    return tuple(credit for credit in credits if split is None or credit.split in ("", split))


def photo_licences(assets: Assets, split: str = "train") -> tuple[tuple[str, str, int], ...]:
    """(source, licence, count) of the photographs that `split` shows: attribution-only ones first, then the others."""
    found = Counter((c.source, c.licence) for c in read_credits(assets, split) if c.kind == "photo")
    order = sorted(found, key=lambda who: (ATTRIBUTION_ONLY.fullmatch(who[1]) is None, who))
    return tuple((*who, found[who]) for who in order)


def card_licence(credits: Iterable[Credit]) -> str:
    """The licence of pictures made of all these, in the spelling of dataset cards; `other` where it is not plain."""
    licences = {credit.licence for credit in credits}
    if not all(ATTRIBUTION_ONLY.fullmatch(licence) for licence in licences):
        return "other"
    return next(name for start, name in CARD_LICENCES if any(text.startswith(start) for text in licences))


def credit_table(credits: Iterable[Credit]) -> str:
    """Markdown table of authors, with how many files each gave."""
    counts = Counter((c.kind, c.author, c.source, c.licence) for c in credits)
    rows = ["| kind | author | source | licence | files |", "|---|---|---|---|---|"]
    rows += [f"| {' | '.join(who)} | {files} |" for who, files in sorted(counts.items(), reverse=True)]
    return "\n".join(rows)


def licence_page(credits: Iterable[Credit]) -> str:
    """The text of LICENSES.md: every file with its author, source and licence."""
    rows = [f"| `{c.file}` | {c.author} | {c.source} | {c.licence} |" for c in credits]
    return LICENCE_HEAD + "\n".join([*rows, ""])


if __name__ == "__main__":
    import typer

    typer.echo(licence_page(read_credits(Assets.embedded())), nl=False)
