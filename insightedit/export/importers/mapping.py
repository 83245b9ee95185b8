"""Their names -> our names: rules that say where every tensor goes, and checks that none is lost or made up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from insightedit.export.importers.report import ImportReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from insightedit.export.importers.files import Checkpoint

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
SHOWN = 3  # names in an error message


@dataclass(frozen=True)
class Rule:
    r"""Where the tensors go whose whole name a pattern matches.

    Attributes:
        old: regular expression for their name.
        new: our name, with `\1` for the pattern's groups; several names take equal parts along the first axis; None
            drops the tensor.
        reason: why it is dropped.
        squeeze: leave out a first axis of length one.
    """

    old: str
    new: str | tuple[str, ...] | None
    reason: str = ""
    squeeze: bool = False

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
    """Rename every tensor of a file.

    Args:
        checkpoint: the file.
        rules: the first that matches counts.
        report: gets a line for each tensor.

    Returns:
        Tensors by our names, unchanged in dtype.

    Raises:
        ValueError: if a tensor is known to no rule, two go to one place, or one is not of finite 16 or 32 bit
            floats.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in checkpoint.tensors.items():
        matches = ((rule, rule.apply(name, tensor)) for rule in rules)
        rule, parts = next(((r, p) for r, p in matches if p is not None), (None, None))
        if rule is None or parts is None:
            unknown.append(name)
            continue
        if parts:
            check_floats(checkpoint, name, tensor)
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


def check_floats(checkpoint: Checkpoint, name: str, tensor: Tensor) -> None:
    """Refuse what is no weight.

    Raises:
        ValueError: for another dtype than 16 or 32 bit floats, and for numbers that are not finite.
    """
    if tensor.dtype not in FLOATS:
        kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATS)
        raise ValueError(
            f"{checkpoint.path}: {name} is {str(tensor.dtype).removeprefix('torch.')}, a weight is one of {kinds}. Use "
            "the file as it was published, not a quantised copy."
        )
    if not bool(tensor.isfinite().all()):
        raise ValueError(
            f"{checkpoint.path}: {name} holds numbers that are not finite: the file is damaged. Fetch it again."
        )


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
    """Put tensors in their places; none may be missing or left over. The module takes over their dtypes.

    Args:
        part: name of the module for messages and report.
        module: the module, its parameters on any device, `meta` included.
        given: tensors of the source by the module's own names.
        report: gets where each of the module's tensors came from.
        source: what the source is called.
        base: what takes the places that the source does not fill.
        base_name: what that is called.

    Raises:
        ValueError: if a place stays empty, a tensor has no place, or a shape differs.
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
    report.filled(part, from_source=len(places) - len(rest), from_base=sorted(rest), base=base_name)


def count_layers(names: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number in the pattern's group; 0 where nothing matches."""
    found = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1
