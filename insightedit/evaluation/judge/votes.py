"""Ins-align: people say whether an edit follows its instruction.

Source: SmartEdit's supplement (four raters, one question per picture, mean of all votes). Ours: blinding, shuffling,
failure codes, agreement. Its raters' guide is not published, so numbers compare among methods on one page only.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from insightedit.chat.rubrics import limited_size
from insightedit.console import titled_table
from insightedit.evaluation.core.records import FAILURES
from insightedit.evaluation.core.statistics import Rate, fleiss_kappa, group_by, mean, rate
from insightedit.files import write_text
from insightedit.images.picture_files import picture_address
from insightedit.images.reading import read_rgb

if TYPE_CHECKING:
    from rich.table import Table

VOTES_FORMAT = "insightedit-votes-1"
KEY_FORMAT = "insightedit-votes-key-1"
PAGE, KEY = "rate.html", "key.json"
MIN_RATERS = 3
CSV_COLUMNS = ("page", "rater", "item", "vote", "failure", "seconds")
QUALITY = 92  # of the pictures' WebP
MAX_SIDE = 512  # pixels of the longer side of what is shown
TITLE = "Does the edit follow the instruction?"
_FAILURE_KEYS = "1234567890qwer"  # none of them is y or n


@dataclass(frozen=True)
class RatingItem:
    """One sample to be rated."""

    sample_id: str  # unique on the page
    instruction: str
    source: Path  # picture before
    outputs: Mapping[str, Path]  # method -> picture after; every sample has the same methods
    category: str = ""


def write_rating_page(
    folder: Path, items: Sequence[RatingItem], *, seed: int, raters: int = MIN_RATERS
) -> tuple[Path, Path]:
    """Write `rate.html`, to be sent to the raters, and `key.json`, to be kept from them; returns their paths.

    All results of a sample are shown at the size of its source, at most `MAX_SIDE` pixels, and are encoded anew:
    neither size, file name nor metadata tell the method. The seed shuffles, for each rater in another way. A
    ValueError if there is nothing to rate, raters are fewer than three, or samples do not fit together.
    """
    from jinja2 import Environment

    methods = _check_items(items)
    if raters < MIN_RATERS:
        raise ValueError(f"raters is {raters}: Ins-align takes at least {MIN_RATERS}.")
    draw = random.Random(seed)
    sources, shown, unblinded = [], [], {}
    for number, item in enumerate(items):
        source = Image.fromarray(read_rgb(item.source))
        size = limited_size(source.size, MAX_SIDE)
        sources.append(_address(source, size))
        for method in methods:
            code = f"{draw.getrandbits(48):012x}"
            result = _address(Image.fromarray(read_rgb(item.outputs[method])), size)
            shown.append({"code": code, "instruction": item.instruction, "source": number, "result": result})
            unblinded[code] = {"sample_id": item.sample_id, "method": method, "category": item.category}
    draw.shuffle(shown)  # even who reads the file finds no order of methods
    orders = [draw.sample(range(len(shown)), len(shown)) for _ in range(raters)]
    content = json.dumps([shown, sources, orders], ensure_ascii=False)
    page = hashlib.sha256(content.encode("utf-8")).hexdigest()[:12]
    keys = zip(FAILURES.items(), _FAILURE_KEYS, strict=True)
    data = {
        "format": VOTES_FORMAT,
        "page": page,
        "items": shown,
        "sources": sources,
        "orders": orders,
        "failures": [{"code": code, "text": text, "key": key} for (code, text), key in keys],
    }
    key = {"format": KEY_FORMAT, "page": page, "seed": seed, "raters": raters, "items": unblinded}
    template = files(__package__).joinpath("rating.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no instruction may end the script
    html = environment.from_string(template).render(title=TITLE, count=len(shown), data=text)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / PAGE, html)
    write_text(folder / KEY, json.dumps(key, indent=1, ensure_ascii=False) + "\n")
    return folder / PAGE, folder / KEY


def _check_items(items: Sequence[RatingItem]) -> list[str]:
    """The methods, in sorted order."""
    if not items or not items[0].outputs:
        raise ValueError("nothing to rate: give at least one sample with the output of at least one method.")
    methods = sorted(items[0].outputs)
    seen: set[str] = set()
    for item in items:
        if item.sample_id in seen:
            raise ValueError(f"sample {item.sample_id!r} stands twice: ids are unique on a page.")
        seen.add(item.sample_id)
        if not item.instruction.strip():
            raise ValueError(f"sample {item.sample_id!r} has no instruction: raters need one.")
        if sorted(item.outputs) != methods:
            raise ValueError(
                f"sample {item.sample_id!r} has outputs of {', '.join(sorted(item.outputs)) or 'no method'}, "
                f"{items[0].sample_id!r} of {', '.join(methods)}: every sample needs all methods."
            )
    return methods


def _address(picture: Image.Image, size: tuple[int, int]) -> str:
    """A picture at a size, inside a data address."""
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return picture_address(picture, "WEBP", quality=QUALITY)


class Vote(BaseModel):
    """One rater's answer about one result: 1 if it follows the instruction, else 0 with a failure code."""

    model_config = ConfigDict(strict=True, extra="forbid")

    item: str
    vote: Literal[0, 1]
    failure: str | None = None
    seconds: float = Field(default=0.0, ge=0.0)


class RaterFile(BaseModel):
    """What the page saves."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["insightedit-votes-1"]
    page: str
    rater: int = Field(ge=1)
    votes: list[Vote]


class _KeyItem(BaseModel):
    sample_id: str
    method: str
    category: str


class RatingKey(BaseModel):
    """What `key.json` holds: code -> sample, method and category."""

    format: Literal["insightedit-votes-key-1"]
    page: str
    seed: int
    raters: int
    items: dict[str, _KeyItem]


def read_key(path: Path) -> RatingKey:
    """Read the key of a page; FileNotFoundError if there is none, ValueError if it is no key."""
    if not path.is_file():
        raise FileNotFoundError(f"No key at {path}: name the {KEY} that was written beside {PAGE}.")
    try:
        return RatingKey.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path} is no key of a rating page ({_first_fault(error)}).") from error


def read_votes(path: Path) -> RaterFile:
    """Read a rater's file, JSON or CSV by its ending; ValueError if it is damaged or codes and votes do not fit."""
    if not path.is_file():
        raise FileNotFoundError(f"No votes at {path}: name the files that the raters saved.")
    try:
        if path.suffix.lower() == ".csv":
            found = _from_csv(path.read_text(encoding="utf-8-sig"))
        else:
            found = RaterFile.model_validate_json(path.read_bytes())
    except ValueError as error:  # pydantic's ValidationError is one
        raise ValueError(f"{path} is no rater's file ({_first_fault(error)}): save it from the page again.") from error
    twice = [item for item, number in Counter(vote.item for vote in found.votes).items() if number > 1]
    if twice:
        raise ValueError(f"{path} holds {len(twice)} items more than once, e.g. {twice[0]}: save it again.")
    for vote in found.votes:
        if (vote.failure in FAILURES) != (vote.vote == 0) or (vote.vote == 1 and vote.failure):
            raise ValueError(
                f"{path}: item {vote.item} has vote {vote.vote} and failure {vote.failure!r}: a 0 has a code of F1 to "
                "F14, a 1 has none."
            )
    return found


def _first_fault(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc']) or 'the file'}: {fault['msg']}"


def _from_csv(text: str) -> RaterFile:
    """A CSV file as the page writes it; ValueError if it is none."""
    table = csv.reader(io.StringIO(text))
    if tuple(next(table, ())) != CSV_COLUMNS:
        raise ValueError(f"its first line is not {','.join(CSV_COLUMNS)}")
    rows = [row for row in table if row]
    if any(len(row) != len(CSV_COLUMNS) for row in rows):
        raise ValueError("a line has too few or too many entries")
    whose = {(page, rater) for page, rater, *_ in rows}
    if len(whose) != 1:
        raise ValueError(f"it holds the votes of {len(whose)} raters")
    page, rater = whose.pop()
    votes = [
        Vote(item=item, vote=int(vote), failure=failure or None, seconds=float(seconds))  # type: ignore[arg-type]
        for _, _, item, vote, failure, seconds in rows
    ]
    return RaterFile(format=VOTES_FORMAT, page=page, rater=int(rater), votes=votes)


@dataclass(frozen=True)
class MethodVotes:
    """One line of the table."""

    method: str  # unblinded
    n: int  # samples
    mean: float  # of all votes, 0..1: Ins-align
    majority: Rate  # of samples with more than half of the raters; its interval takes samples as independent
    kappa: float | None  # Fleiss' kappa of the raters on this method; None if all votes are the same
    failures: Mapping[str, int]  # code -> number of votes, most frequent first
    categories: Mapping[str, float]  # category -> mean of its votes


@dataclass(frozen=True)
class AlignReport:
    """What the raters of a page say."""

    page: str
    raters: tuple[int, ...]  # numbers of those who rated
    rows: tuple[MethodVotes, ...]  # methods, best first
    kappa: float | None  # Fleiss' kappa over all methods; None if all votes are the same
    samples: Mapping[str, Mapping[str, float]]  # method -> sample id -> mean vote


def count_votes(key: RatingKey, raters: Iterable[RaterFile]) -> AlignReport:
    """Put the key and the raters' files together; a ValueError names whose file is of another page or not whole."""
    given = list(raters)
    for one in given:
        _check_rater(key, one)
    numbers = Counter(one.rater for one in given)
    if twice := sorted(number for number, files_ in numbers.items() if files_ > 1):
        raise ValueError(f"rater {twice[0]} gave {numbers[twice[0]]} files: give one file per rater.")
    if len(given) < MIN_RATERS:
        raise ValueError(f"{len(given)} raters' files: Ins-align takes at least {MIN_RATERS}.")
    votes: dict[str, list[Vote]] = {code: [] for code in key.items}
    for one in given:
        for vote in one.votes:
            votes[vote.item].append(vote)
    shares = {code: sum(vote.vote for vote in some) / len(some) for code, some in votes.items()}
    rows, samples = [], {}
    for method, codes in group_by(key.items, lambda code: key.items[code].method).items():
        failures = Counter(vote.failure for code in codes for vote in votes[code] if vote.failure)
        by_category = group_by(codes, lambda code: key.items[code].category)
        rows.append(
            MethodVotes(
                method=str(method),
                n=len(codes),
                mean=mean(shares[code] for code in codes) or 0.0,
                majority=rate(shares[code] > 0.5 for code in codes),
                kappa=_kappa(votes[code] for code in codes),
                failures=dict(sorted(failures.items(), key=lambda entry: (-entry[1], int(entry[0][1:])))),
                categories={str(name): mean(shares[c] for c in some) or 0.0 for name, some in by_category.items()},
            )
        )
        samples[str(method)] = {key.items[code].sample_id: shares[code] for code in codes}
    rows.sort(key=lambda row: -row.mean)
    return AlignReport(key.page, tuple(sorted(numbers)), tuple(rows), _kappa(votes.values()), samples)


def _check_rater(key: RatingKey, one: RaterFile) -> None:
    if one.page != key.page:
        raise ValueError(
            f"rater {one.rater} rated page {one.page}, the key is of page {key.page}: give the key that was written "
            "with the raters' page."
        )
    if one.rater > key.raters:
        raise ValueError(f"rater {one.rater} rated, but the page is for {key.raters} raters: check the file.")
    items = {vote.item for vote in one.votes}
    if unknown := sorted(items - set(key.items)):
        raise ValueError(f"rater {one.rater} rated item {unknown[0]}, which the page does not have: check the file.")
    if missing := len(set(key.items) - items):
        raise ValueError(
            f"rater {one.rater} answered {len(items)} of {len(key.items)} items, {missing} are missing: let the rater "
            "open the page in the same browser, finish and save again."
        )


def _kappa(groups: Iterable[Sequence[Vote]]) -> float | None:
    counts = [(sum(vote.vote for vote in group), len(group)) for group in groups]
    return fleiss_kappa([[yes, n - yes] for yes, n in counts])


def votes_table(report: AlignReport) -> Table:
    """Methods, best first: Ins-align, majority, agreement, most frequent failures."""
    agreement = "undefined" if report.kappa is None else f"{report.kappa:.2f}"
    title = f"Ins-align, {len(report.raters)} raters, kappa {agreement}, page {report.page}"
    table = titled_table(title, [""], ["n", "Ins-align", "majority %", "kappa"])
    table.add_column("main failures")
    for row in report.rows:
        low, high = 100 * row.majority.low, 100 * row.majority.high
        table.add_row(
            row.method,
            f"{row.n}{'*' if row.majority.is_small else ''}",
            f"{row.mean:.3f}",
            f"{100 * row.majority.value:.1f} ({low:.1f} - {high:.1f})",
            "-" if row.kappa is None else f"{row.kappa:.2f}",
            ", ".join(f"{FAILURES[code]} {count}" for code, count in list(row.failures.items())[:3]),
        )
    return table
