"""Checkpoint files of other projects -> tensors by name -> our names, with a report; nothing in them is ever executed.

Rules say where every tensor goes, and checks that none is lost or made up.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from rich.table import Table

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
SHOWN = 3  # names in an error message
MAX_NESTING = 8
_NESTED = "{path} nests its groups of tensors in each other without end: no file of weights does. Fetch it again."
ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """One file, read."""

    path: Path
    tensors: dict[str, Tensor]  # on the CPU; mapped from the file where its format allows, so not yet in memory


def source_files(source: Path) -> list[Path]:
    """All files below a source that a checkpoint may be in."""
    if not source.exists():
        raise FileNotFoundError(f"No checkpoint at {source}: give the folder or file that was published.")
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.suffix in ENDINGS)
    if not files:
        raise FileNotFoundError(
            f"{source} holds no file ending in {', '.join(ENDINGS)}: give the folder that was published."
        )
    return files


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of tensors.

    Pickles are read by `torch.load(weights_only=True)`, which builds tensors and plain containers and refuses
    everything else. A dictionary under `state_dict`, `model` or `module` alone or beside training state is taken in
    place of the whole; further nesting becomes dots (`{"image_proj": {"proj.weight": ...}}`).
    """
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint file {path}: name the file or folder as it was published.")
    if path.suffix not in ENDINGS:
        raise ValueError(f"{path} ends in {path.suffix or 'nothing'}: a checkpoint ends in {', '.join(ENDINGS)}.")
    held = _load(path)
    if not isinstance(held, dict):
        raise ValueError(
            f"{path} holds a {type(held).__name__}, not tensors by name: name the file that holds the weights."
        )
    for _ in range(MAX_NESTING):  # to the weights inside a training file with optimiser, counters and settings
        inner = [held[name] for name in ("state_dict", "module", "model") if isinstance(held.get(name), dict)]
        if not inner:
            break
        held = inner[0]
    else:
        raise ValueError(_NESTED.format(path=path))
    tensors = _flatten(path, held)
    if not tensors:
        raise ValueError(f"{path} holds no tensors: name the file that holds the weights.")
    return Checkpoint(path, tensors)


def _load(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        mapped = zipfile.is_zipfile(path)  # files from before torch 1.6 cannot be mapped
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles by another protocol; what cannot be read is told below
            return torch.load(path, weights_only=True, map_location="cpu", mmap=mapped)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no file of weights alone: it asks for code to be run, or is damaged. Nothing in it was run. "
            "Fetch it again from its authors, or ask them for safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, LookupError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read: it is cut off or damaged. Compare its size with the published one and fetch it "
            "again."
        ) from error


def _flatten(path: Path, held: dict[Any, Any]) -> dict[str, Tensor]:
    """Nested groups of tensors -> tensors by their dotted names."""
    tensors: dict[str, Tensor] = {}
    groups, seen = [("", held, 0)], set()
    while groups:
        prefix, group, depth = groups.pop()
        if id(group) in seen or depth > MAX_NESTING:  # a group within itself, or one that stands for very many
            raise ValueError(_NESTED.format(path=path))
        seen.add(id(group))
        for key, value in group.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict):
                groups.append((f"{name}.", value, depth + 1))
                continue
            if not isinstance(value, Tensor):
                raise ValueError(
                    f"{path}: {name} is a {type(value).__name__}, not a tensor: this is no file of weights as it was "
                    "published. Fetch it again."
                )
            # all its values have to lie in the file: not one value seen as very many
            is_plain = value.layout == torch.strided and not value.is_quantized and not value.is_meta
            if not is_plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(
                    f"{path}: {name} is no plain tensor (sparse, quantised, or larger than what the file holds): this "
                    "is no file of weights as it was published. Fetch it again."
                )
            tensors[name] = value.detach()
    return tensors


@dataclass(frozen=True)
class Imported:
    """The outcome of an import: a whole pipeline, or a UNet alone."""

    card: dict[str, Any]  # fields of the model card
    pipeline: Any = None
    unet: Any = None
    for_training: dict[str, Any] = field(default_factory=dict)  # see `insightedit.export.folder.export_pipeline`


@dataclass
class ImportReport:
    """What became of every tensor, collated while a checkpoint is read and placed; kept as `import_report.json`."""

    system: str
    facts: dict[str, Any] = field(
        default_factory=dict
    )  # step, edit tokens, adapter scaling, whatever is to be checked
    # file -> {tensor there: our names, or why it was dropped}
    files: dict[str, dict[str, list[str] | str]] = field(default_factory=dict)
    # module of ours -> how many of its tensors came from the source, which from a base, and which base
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, path: Path, old: str, new: list[str], reason: str = "") -> None:
        """One tensor of the source: where it went, or why it was dropped."""
        name = path.name if path.parent.name == "" else f"{path.parent.name}/{path.name}"
        self.files.setdefault(name, {})[old] = new or f"dropped: {reason}"

    def taken(self, base: str, *parts: str) -> None:
        """Modules of ours that came from a base model whole."""
        self.parts |= {part: {"from_source": 0, "from_base": "whole", "base": base} for part in parts}

    def counts(self) -> dict[str, dict[str, int]]:
        """File name -> tensors, of them mapped and dropped."""
        counted = {}
        for name, tensors in self.files.items():
            dropped = sum(isinstance(place, str) for place in tensors.values())
            counted[name] = {"tensors": len(tensors), "mapped": len(tensors) - dropped, "dropped": dropped}
        return counted

    def tables(self) -> list[Table]:
        """Two tables for the terminal: what became of the files, and what the parts are made of."""
        from rich.table import Table

        files = Table("file", "tensors", "mapped", "dropped", title="read")
        for name, count in self.counts().items():
            files.add_row(name, *map(str, count.values()))
        parts = Table("part", "from the checkpoint", "from a base", "base", title="written")
        for name, part in self.parts.items():
            of_base = part["from_base"]
            shown = of_base if isinstance(of_base, str) else str(len(of_base))
            parts.add_row(name, str(part["from_source"]), shown, part["base"])
        return [files, parts]


@dataclass(frozen=True)
class Rule:
    """Where the tensors go whose whole name a pattern matches."""

    old: str  # regular expression
    # our name, with `\1` for the pattern's groups; several take equal parts along the first axis; None drops the tensor
    new: str | tuple[str, ...] | None
    reason: str = ""  # why it is dropped
    squeeze: bool = False  # leave out a first axis of length one

    def apply(self, name: str, tensor: Tensor) -> dict[str, Tensor] | None:
        """Our names and tensors; None where the rule does not match."""
        found = re.fullmatch(self.old, name)
        if found is None:
            return None
        if self.new is None:
            return {}
        names = (self.new,) if isinstance(self.new, str) else self.new
        value = tensor[0] if self.squeeze and tensor.ndim > 1 and tensor.shape[0] == 1 else tensor
        if value.ndim == 0 or value.shape[0] % len(names):
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, which does not come apart into {len(names)} equal parts."
            )
        parts = value.chunk(len(names)) if len(names) > 1 else (value,)
        return {found.expand(new): part for new, part in zip(names, parts, strict=True)}


def translate(checkpoint: Checkpoint, rules: Sequence[Rule], report: ImportReport) -> dict[str, Tensor]:
    """Rename every tensor of a file, by the first rule that matches; the report gets a line for each."""
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in checkpoint.tensors.items():
        matches = ((rule, rule.apply(name, tensor)) for rule in rules)
        rule, parts = next(((r, p) for r, p in matches if p is not None), (None, None))
        if rule is None or parts is None:
            unknown.append(name)
            continue
        if parts and tensor.dtype not in FLOATS:
            kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATS)
            raise ValueError(
                f"{checkpoint.path}: {name} is {str(tensor.dtype).removeprefix('torch.')}, a weight is one of {kinds}. "
                "Use the file as it was published, not a quantised copy."
            )
        if parts and not bool(tensor.isfinite().all()):
            raise ValueError(
                f"{checkpoint.path}: {name} holds numbers that are not finite: the file is damaged. Fetch it again."
            )
        if twice := sorted(set(parts) & set(renamed)):
            raise ValueError(
                f"{checkpoint.path}: {name} goes where another tensor is already ({twice[0]}): two naming schemes are "
                "mixed in this file. Use it as it was published."
            )
        renamed |= parts
        report.note(checkpoint.path, name, list(parts), rule.reason)
    if unknown:
        raise ValueError(
            f"{checkpoint.path} holds {len(unknown)} tensors that do not belong there, e.g. "
            f"{', '.join(sorted(unknown)[:SHOWN])}: is it another file's place, or another system's file?"
        )
    return renamed


def fill(
    part: str,
    module: nn.Module,
    given: Mapping[str, Tensor],
    report: ImportReport,
    *,
    source: str,
    base: Mapping[str, Tensor] | None = None,
    base_name: str = "",
) -> None:
    """Put tensors, named as the module does, in their places; none may be missing or left over.

    `base` takes the places that the source does not fill. The module, which may be on `meta`, takes over their dtypes.
    """
    places = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    rest = {name: tensor for name, tensor in (base or {}).items() if name not in given}
    held = {**given, **rest}
    if extra := sorted(set(held) - set(places)):
        raise ValueError(
            f"{source} holds {len(extra)} tensors that the {part} has no place for, e.g. {', '.join(extra[:SHOWN])}: "
            "the base model is of another size, or of another kind."
        )
    if missing := sorted(set(places) - set(held)):
        raise ValueError(
            f"{source} lacks {len(missing)} of {len(places)} tensors of the {part}, e.g. "
            f"{', '.join(missing[:SHOWN])}: the file is not whole, or the base model is larger."
        )
    for name, shape in places.items():
        if tuple(held[name].shape) != shape:
            raise ValueError(
                f"{source}: {name} of the {part} has shape {tuple(held[name].shape)} and its place has {shape}: name a "
                "base model of the size that the checkpoint was trained on."
            )
    module.load_state_dict({name: held[name] for name in places}, assign=True)
    module.requires_grad_(False).eval()
    report.parts[part] = {"from_source": len(places) - len(rest), "from_base": sorted(rest), "base": base_name}


def count_layers(names: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number in the pattern's group; 0 where nothing matches."""
    found = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1


def needed(tensors: Mapping[str, Tensor], name: str, path: Path) -> Tensor:
    """A tensor without which nothing can be built."""
    if name not in tensors:
        raise ValueError(f"{path} lacks the tensor for {name}: the file is not whole. Fetch it again.")
    return tensors[name]
