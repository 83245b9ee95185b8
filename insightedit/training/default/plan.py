"""The arithmetic of the plan: how long each part trains so that all are done when the time is over."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from insightedit.training.default.parts import PlannedPart

LEAST_SECONDS = 1.0  # that a part trains for, whatever is left
HALVINGS = 60  # of the search for the common factor: far below a millisecond


@dataclass(frozen=True)
class Span:
    """When a part runs, in seconds from now."""

    begin: float
    end: float


def timetable(parts: Sequence[PlannedPart], lengths: Mapping[str, float], lanes: int) -> dict[str, Span]:
    """When each part runs if the first that is ready takes the first free lane.

    `lengths` are seconds by name; parts that are needed and not among them are done already.
    """
    left = [part for part in parts if part.name in lengths]
    found: dict[str, Span] = {}
    free = [0.0] * lanes
    while left:
        ends = {name: interval.end for name, interval in found.items()}
        waiting = {part.name for part in left}
        ready = [part for part in left if not waiting & set(part.needs)]
        begins = {part.name: max([min(free), *(ends.get(need, 0.0) for need in part.needs)]) for part in ready}
        chosen = min(ready, key=lambda part: begins[part.name])  # the first in order of those that begin first
        lane = free.index(min(free))
        begin = begins[chosen.name]
        found[chosen.name] = Span(begin, begin + lengths[chosen.name])
        free[lane] = found[chosen.name].end
        left.remove(chosen)
    return found


def length(parts: Sequence[PlannedPart], lengths: Mapping[str, float], lanes: int) -> float:
    """Seconds until the last part has ended."""
    return max((interval.end for interval in timetable(parts, lengths, lanes).values()), default=0.0)


@dataclass(frozen=True)
class TimePlan:
    """What is left to do and how long it takes."""

    train: dict[str, float]  # seconds that each open part trains in all, earlier sessions included; 0 without training
    lengths: dict[str, float]  # seconds that it still takes, with what it does beside training
    least: float  # seconds until the end if nothing more is trained than has to be


def make_plan(
    parts: Sequence[PlannedPart], used: Mapping[str, float], left: float, lanes: int, pace: float = 1.0
) -> TimePlan:
    """Share `left` seconds of wall clock out among the open `parts`.

    Every part trains `factor * share` seconds in all, `used` ones included; the factor is the largest with which the
    last part ends in time. A part that has used more already trains no further. `pace` multiplies what parts take
    beside training: a slow disk makes all starts slow.
    """

    def costs(factor: float) -> tuple[dict[str, float], dict[str, float]]:
        train, lengths = {}, {}
        for part in parts:
            before = used.get(part.name, 0.0)
            train[part.name] = max(before, LEAST_SECONDS, factor * part.share) if part.share else 0.0
            lengths[part.name] = pace * part.seconds + max(0.0, train[part.name] - before)
        return train, lengths

    least = length(parts, costs(0.0)[1], lanes)
    low, high = 0.0, left  # shares are at least about one: no part gets more than all
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if length(parts, costs(middle)[1], lanes) <= left else (low, middle)
    return TimePlan(*costs(low), least)


def runs_alone(part: PlannedPart, parts: Sequence[PlannedPart], unfinished: Collection[str]) -> bool:
    """Whether every other unfinished part has to wait for this one, or this one for it."""
    before, after = _all_needs(part.name, parts), {p.name for p in parts if part.name in _all_needs(p.name, parts)}
    return not set(unfinished) - before - after - {part.name}


def _all_needs(name: str, parts: Sequence[PlannedPart]) -> set[str]:
    direct = next((part.needs for part in parts if part.name == name), ())
    return set(direct).union(*(_all_needs(need, parts) for need in direct))
