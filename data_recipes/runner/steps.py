"""What a step is, and what it is given."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from data_recipes.runner.records import Record, Rejected

Outcome = Record | Rejected


class Step(Protocol):
    """One step of a recipe.

    What comes out depends on the record, the step's settings, the backends and the seed only, never on the other
    records of a batch or on what was done before: so a run can be stopped, split and repeated.

    Attributes:
        name: unique within a recipe, e.g. "masks"; rejects are counted under it.
        needs: names of the backends it calls ("chat", "detector", "segmenter", "inpainter", "judge"); where steps run
            as separate workers, only these are loaded.
        settings: all that decides about its results besides the backends, ready for JSON.
        prompts: name -> text of what models are asked, for the manifest; empty without models.
    """

    @property
    def name(self) -> str:
        """See above."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """See above."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """See above."""
        ...

    @property
    def prompts(self) -> Mapping[str, str]:
        """See above."""
        ...

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """What becomes of each record.

        Args:
            records: B records; models may take them as one batch.
            context: backends and randomness.

        Returns:
            B lists: one changed record, several (keys below the record's own), or one `Rejected`.
        """
        ...


@dataclass(frozen=True)
class Context:
    """What a step is given beside its records.

    Attributes:
        seed: of the run.
        step: name of the step that runs.
        backends: by name, those that the step `needs`; see `data_recipes.backends`.
    """

    seed: int
    step: str
    backends: Mapping[str, Any]

    def rng(self, record: Record) -> np.random.Generator:
        """Randomness that belongs to a record and a step."""
        told = f"{self.seed}/{self.step}/{record.key}".encode()
        return np.random.default_rng(int.from_bytes(hashlib.sha256(told).digest()[:8], "little"))

    def backend(self, name: str) -> Any:
        """A backend.

        Raises:
            ValueError: if the config names none.
        """
        if name not in self.backends:
            raise ValueError(
                f"the step {self.step} needs a {name}, and the config names none: add backends.{name}, e.g. "
                f"`{name}: {{kind: oracle}}` for scenes."
            )
        return self.backends[name]


class DataclassStep:
    """A step that is a dataclass: its fields are its settings. Without prompts, unless it says so."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All fields."""
        return dict(vars(self))

    @property
    def prompts(self) -> Mapping[str, str]:
        """None."""
        return {}


class EachRecord(DataclassStep, ABC):
    """A step that takes its records one by one: implement `one`."""

    name: str = ""
    needs: tuple[str, ...] = ()

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """See `Step`."""
        found = (self.one(record, context) for record in records)
        return [out if isinstance(out, list) else [out] for out in found]

    @abstractmethod
    def one(self, record: Record, context: Context) -> Outcome | list[Outcome]:
        """What becomes of one record."""

    def reject(self, record: Record, reason: str, detail: str = "") -> Rejected:
        """A `Rejected` of this step."""
        return Rejected(record.key, self.name, reason, detail)
