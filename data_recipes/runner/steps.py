"""What a step is, what it is given, and what its settings may be."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from data_recipes.runner.records import Record, Rejected

Outcome = Record | Rejected
CHECK = "check"  # metadata of a setting's field: value -> what is wrong with it, "" if nothing is


@dataclass(frozen=True)
class Context:
    """What a step is given beside its records."""

    seed: int  # of the run
    step: str  # name of the step that runs
    backends: Mapping[str, Any]  # by name, those that the step `needs`; see `data_recipes.backends`

    def rng(self, record: Record) -> np.random.Generator:
        """Randomness that belongs to a record and a step."""
        told = f"{self.seed}/{self.step}/{record.key}".encode()
        return np.random.default_rng(int.from_bytes(hashlib.sha256(told).digest()[:8], "little"))

    def backend(self, name: str) -> Any:
        """A backend; ValueError if the config names none."""
        if name not in self.backends:
            raise ValueError(
                f"the step {self.step} needs a {name}, and the config names none: add backends.{name}, e.g. "
                f"`{name}: {{kind: oracle}}` for scenes."
            )
        return self.backends[name]


class Step(ABC):
    """One step of a recipe; subclasses are dataclasses whose fields are their settings.

    What comes out depends on the record, the step's settings, the backends and the seed only, never on the other
    records of a batch or on what was done before: so a run can be stopped, split and repeated.
    """

    name: str = ""  # unique within a recipe, e.g. "masks"; rejects are counted under it
    # names of the backends it calls ("chat", "detector", "segmenter", "inpainter", "judge"); where steps run as
    # separate workers, only these are loaded
    needs: tuple[str, ...] = ()
    prompts: ClassVar[Mapping[str, str]] = {}  # task -> what models are asked, for the manifest

    def __post_init__(self) -> None:
        """Refuse settings that fail the check of their field; the `ValueError` names them as the config does."""
        for one in fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            if CHECK in one.metadata and (fault := one.metadata[CHECK](value)):
                raise ValueError(f"steps.{self.name}.{one.name} {fault}")

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides about the results besides the backends, ready for JSON: the fields."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @abstractmethod
    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """What becomes of each of B records, which models may take as one batch.

        B lists: one changed record, several (keys below the record's own), or one `Rejected`.
        """

    def reject(self, record: Record, reason: str, detail: str = "") -> Rejected:
        """A `Rejected` of this step."""
        return Rejected(record.key, self.name, reason, detail)

    def batched(
        self,
        records: Sequence[Record],
        settled: Callable[[Record], Outcome | None],
        work: Callable[[list[Record]], Iterable[Outcome]],
    ) -> list[list[Outcome]]:
        """Outcomes of B records: those that `settled` knows already, and for all others together what `work` gives."""
        outcomes = [settled(record) for record in records]
        left = [record for record, outcome in zip(records, outcomes, strict=True) if outcome is None]
        found = iter(work(left) if left else ())
        return [[next(found) if outcome is None else outcome] for outcome in outcomes]


class EachRecord(Step):
    """A step that takes its records one by one: implement `one`."""

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """See `Step`."""
        found = (self.one(record, context) for record in records)
        return [out if isinstance(out, list) else [out] for out in found]

    @abstractmethod
    def one(self, record: Record, context: Context) -> Outcome | list[Outcome]:
        """What becomes of one record."""


def through(step: Step, outcomes: Sequence[Outcome], context: Context) -> list[Outcome]:
    """What a step that gives one for each makes of records; what is refused already stays as it is."""
    records = [one for one in outcomes if isinstance(one, Record)]
    found = iter(step(records, context) if records else ())
    return [next(found)[0] if isinstance(one, Record) else one for one in outcomes]


def setting(default: Any, check: Callable[[Any], str]) -> Any:
    """A field of a step with a check: value -> what is wrong with it, as in "is 0: it has to be at least 1."."""
    return field(default=default, metadata={CHECK: check})


def attempts(default: int = 3) -> Any:
    """How often a question is asked until its answer is usable: a whole number, at least 1."""

    def check(value: Any) -> str:
        is_good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        return "" if is_good else f"is {value!r}: it has to be a whole number, at least 1."

    return setting(default, check)


def at_least(default: int, least: int = 1) -> Any:
    """A number that may not be smaller than `least`."""
    return setting(default, lambda value: "" if value >= least else f"is {value}: it has to be at least {least}.")


def up_to(default: float, most: float, what: str = "it has to be") -> Any:
    """A number from 0 to `most`."""
    return setting(default, lambda value: "" if 0 <= value <= most else f"is {value}: {what} from 0 to {most:g}.")


def share(default: float, most: float = 1, of: str = "") -> Any:
    """A number from 0 to `most`, a share of what `of` says."""
    return up_to(default, most, f"it is a share of {of}," if of else "it is a share,")


def some_of(choices: Sequence[str]) -> Any:
    """A list of some of the choices; all of them by default."""

    def check(chosen: Sequence[str]) -> str:
        wrong = next((one for one in chosen if one not in choices), None)
        return "" if wrong is None else f"has {wrong!r}: choose of {', '.join(choices)}."

    return setting(tuple(choices), check)


def one_of(default: str, choices: Sequence[str]) -> Any:
    """One of the choices."""
    told = f"choose one of {', '.join(choices)}."
    return setting(default, lambda value: "" if value in choices else f"is {value!r}: {told}")
