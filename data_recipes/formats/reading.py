"""Records by number, and why one of them cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_recipes.runner.inputs import InputConfig
from data_recipes.runner.records import Record, Rejected
from insightedit.datasets.pairs import FAULTS_OF_FIELDS
from insightedit.datasets.reading import FIELDS, ReadError

STEP = "read"


@dataclass(frozen=True)
class Listed:
    """Records by number, read when they are asked for.

    Attributes:
        keys: of the records, each once, in order.
        make: number -> record; raises `ReadError`.
    """

    keys: Sequence[str]
    make: Callable[[int], Record]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Record | Rejected:
        if not 0 <= index < len(self.keys):
            raise IndexError(f"there is no record {index}: there are {len(self.keys)}, counted from 0.")
        try:
            return self.make(index)
        except ReadError as error:
            return Rejected(error.key or self.keys[index], STEP, error.reason, error.detail)
        except FAULTS_OF_FIELDS as error:
            told = " ".join(f"{type(error).__name__} {error}".split())
            return Rejected(self.keys[index], STEP, FIELDS, told[:200])


def place_of(config: InputConfig) -> Path:
    """The file or folder that a config names.

    Raises:
        ValueError: if it names none.
        FileNotFoundError: if there is no such file or folder.
    """
    if config.path is None:
        raise ValueError(f"source.path is missing: kind {config.kind} reads files, name their folder.")
    if not Path(config.path).exists():
        raise FileNotFoundError(f"source.path is {config.path}, and nothing is there: check the path.")
    return Path(config.path)
