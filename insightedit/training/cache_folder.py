"""A folder of batches whose frozen outputs are known: `cache.json`, and safetensors files of some batches each.

`batches-00000000-00000064.safetensors` holds batches 0 to 63 of the stage's stream as `NUMBER/FIELD`. Files are whole
or absent, and any that do not overlap stand beside each other: a run that was killed, and several processes with a
range each, fill the same folder.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from insightedit.config.load import ConfigError
from insightedit.datasets.loader import StepLoader
from insightedit.datasets.mixture import Mixture
from insightedit.files import write_text
from insightedit.training.checkpoint import StageError, save_tensors
from insightedit.types import ComprehensionStates, EditBatch, EditCondition, FrozenOutputs, TokenBatch

FORMAT = 1  # of the folder; another one is refused
HEAD = "cache.json"
HELD_OUT = "held_out"  # folder within: the batches of the validation loss
NAME = re.compile(r"batches-(\d+)-(\d+)\.safetensors")
INNER: dict[str, Any] = {
    "tokens": TokenBatch, "frozen": FrozenOutputs, "states": ComprehensionStates, "condition": EditCondition,
}  # fmt: skip
"""Fields of a batch that hold further fields."""
MASK = "changed_mask"  # 0 or 1 in a batch, a byte a pixel in a file


@dataclass(frozen=True)
class CacheHead:
    """What `cache.json` says."""

    format: int
    facts: dict[str, Any]  # what the outputs follow from: a name in words -> a setting, or a digest
    holds: list[str]  # fields of `FrozenOutputs`, and `image_states`
    rests_on: list[str]  # parameters of comprehension and bridge that must not train
    reader: dict[str, Any] | None  # of a comprehension that need not be loaded: widths, ids, parameters
    random_state: (
        str  # of torch, hex, after comprehension was built: what is drawn next does not depend on its absence
    )
    made_with: dict[str, str]  # versions and device; others may round otherwise


class CacheFolder:
    """Batches of a folder by their numbers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = (NAME.fullmatch(path.name) for path in folder.glob("batches-*"))
        self.ranges = sorted((int(match[1]), int(match[2])) for match in found if match)
        self._opened: tuple[str, Any] | None = None

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """The ranges of batch numbers, from `first` and below `end`, that no file holds."""
        gaps = []
        for start, stop in [*self.ranges, (end, end)]:
            if start > first:
                gaps.append((first, min(start, end)))
            first = max(first, stop)
            if first >= end:
                break
        return gaps

    def num_batches(self) -> int:
        """How many batches there are; a StageError if some are missing between others."""
        end = max((stop for _, stop in self.ranges), default=0)
        if gaps := self.missing(0, end):
            told = ", ".join(f"{start} to {stop - 1}" for start, stop in gaps)
            raise StageError(
                f"{self.folder} lacks batches {told} of {end}: let the processes that make it end, or make the rest "
                "with the command that made it and --resume."
            )
        return end

    def write(self, first: int, batches: Sequence[EditBatch]) -> None:
        """Write batches, of which the first has the number `first`, into one file."""
        tensors = {
            f"{number}/{name}": value for number, batch in enumerate(batches, first) for name, value in _flat(batch)
        }
        end = first + len(batches)
        save_tensors(self.folder / f"batches-{first:08d}-{end:08d}.safetensors", tensors)
        self.ranges = sorted([*self.ranges, (first, end)])

    def read(self, number: int) -> EditBatch:
        """One batch; a StageError if its file is damaged."""
        start, end = self.ranges[bisect_right(self.ranges, (number, float("inf"))) - 1]
        path = self.folder / f"batches-{start:08d}-{end:08d}.safetensors"
        try:
            if self._opened is None or self._opened[0] != path.name:
                names: dict[int, list[str]] = {}
                file = safe_open(path, framework="pt")
                for name in file.keys():  # noqa: SIM118 - no mapping
                    names.setdefault(int(name.partition("/")[0]), []).append(name)
                self._opened = (path.name, (file, names))
            file, names = self._opened[1]
            # copies: in the file tensors begin at odd places, and where they lie decides about the last bits of results
            tensors = {name.partition("/")[2]: file.get_tensor(name).clone() for name in names[number]}
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise StageError(
                f"{path} cannot be read ({error}): remove it, and make it again with the command that made it and "
                "--resume."
            ) from error
        if MASK in tensors:
            tensors[MASK] = tensors[MASK].float()
        return _nested(EditBatch, tensors)


def write_head(folder: Path, head: CacheHead) -> None:
    """Write `cache.json`."""
    write_text(folder / HEAD, json.dumps(vars(head), indent=1) + "\n", durable=True)


def read_head(folder: Path, key: str) -> CacheHead:
    """What a cache's `cache.json` says; a StageError, which begins with `key`, if the folder is none."""
    path = folder / HEAD
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        version = told["format"]
        if version == FORMAT:
            return CacheHead(**told)
    except FileNotFoundError:
        raise StageError(f"{key} {folder} holds no {HEAD}: name a folder that `insightedit cache` made.") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StageError(f"{key} {folder}: its {HEAD} cannot be read ({error}); make the cache anew.") from error
    raise StageError(
        f"{key} {folder} has the format {version}, this version of insightedit reads {FORMAT}: make the cache anew."
    )


class CachedBatches(Dataset):
    """Batches of a folder as a `StepLoader` asks for them; numbers and samples stand as in the stream itself."""

    def __init__(self, folder: CacheFolder, mixture: Mixture, *, batch_size: int, rank: int, world_size: int) -> None:
        self.folder, self.mixture = folder, mixture
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.offset, self.repeats = 0, False
        self.count = folder.num_batches()

    def __getitem__(self, step: int) -> EditBatch | ConfigError:
        before, rest = divmod(self.offset, self.batch_size)
        number = before + step * self.world_size + self.rank
        if rest:
            return StageError(
                f"the run goes on at sample {self.offset}, which is no multiple of train.batch_size {self.batch_size}: "
                "go on with the earlier batch size, or without data.cache."
            )
        if number >= self.count and not self.repeats:
            return StageError(past_the_end(self.folder.folder, self.count * self.batch_size))
        try:
            return self.folder.read(number % self.count)
        except StageError as error:  # raised in a worker, it would carry the worker's traceback
            return error


def past_the_end(folder: Path, samples: int) -> str:
    """What to do where a cache is shorter than a run."""
    return (
        f"data.cache {folder} holds {samples} samples, and this run takes more: make more of them (`insightedit cache` "
        "with a larger --count and --resume), lower train.max_steps, or begin again from the first with "
        "data.cache_repeat=true."
    )


class CachedLoader(StepLoader):
    """A `StepLoader` whose batches come from a cache."""

    def __init__(self, batches: CachedBatches, *, num_workers: int = 0, prefetch_factor: int = 4) -> None:
        super().__init__(
            batches.mixture,
            None,  # type: ignore[arg-type] # nothing is collated
            batch_size=batches.batch_size,
            rank=batches.rank,
            world_size=batches.world_size,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
        )
        self.batches: Any = batches


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, Tensor]]:
    """The tensors of a batch as they are stored, by dotted field."""
    for name, part in vars(value).items():
        if is_dataclass(part):
            yield from _flat(part, f"{prefix}{name}.")
        elif isinstance(part, Tensor):
            stored = part.detach().bool() if name == MASK else part.detach()
            yield prefix + name, stored.clone()  # safetensors takes no two views of one storage


def _nested(cls: Any, tensors: Mapping[str, Any]) -> Any:
    """The dataclass of dotted fields."""
    fields: dict[str, Any] = {}
    for name, value in tensors.items():
        outer, dot, inner = name.partition(".")
        if dot:
            fields.setdefault(outer, {})[inner] = value
        else:
            fields[outer] = value
    return cls(**{name: _nested(INNER[name], v) if isinstance(v, dict) else v for name, v in fields.items()})
