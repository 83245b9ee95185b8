"""Which parameters a stage trains, by dotted patterns; everything else is frozen and stays in eval mode."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from insightedit.config.load import ConfigError


@dataclass(frozen=True)
class TrainableReport:
    """What `select_trainable` chose."""

    names: tuple[str, ...]  # trainable parameters in the editor's order
    trained: dict[str, int]  # numbers of trained weights per part (`bridge.qformer`, `unet.down_blocks`, ...)
    total: dict[str, int]  # numbers of all weights per part

    def table(self) -> str:
        """The counts as aligned text, one line per part and the sum below."""
        rows = [(part, self.trained.get(part, 0), count) for part, count in self.total.items()]
        rows.append(("all", sum(self.trained.values()), sum(self.total.values())))
        width = max(len(part) for part, _, _ in rows)
        lines = [f"{'part':<{width}} {'trained':>13} {'weights':>13}"]
        lines += [f"{part:<{width}} {trained:>13,} {count:>13,}" for part, trained, count in rows]
        return "\n".join(lines)


def select_trainable(editor: nn.Module, patterns: Sequence[str]) -> TrainableReport:
    """Train the parameters whose dotted name matches a pattern, freeze all others.

    Patterns are `fnmatch`'s, such as `bridge.qformer.*`; one that begins with `!` takes parameters out again. A
    ConfigError if one matches nothing, nothing is left to train, or a chosen parameter is quantised.
    """
    everything = dict(editor.named_parameters(remove_duplicate=False))  # tied weights answer to each of their names
    matched = matching([*everything, *getattr(editor, "absent", ())], patterns) & everything.keys()
    chosen = {id(everything[name]) for name in matched}
    names = []
    for name, parameter in editor.named_parameters():
        if id(parameter) in chosen:
            if not parameter.is_floating_point():
                raise ConfigError(
                    f"stage.trainable chose {name}, which is stored as {parameter.dtype}: quantised weights cannot be "
                    "trained. Train LoRA adapters on them, or set comprehension.quantization=none."
                )
            names.append(name)
        if parameter.is_floating_point():  # no other can have a gradient
            parameter.requires_grad_(id(parameter) in chosen)
    if not names:
        raise ConfigError(
            f"stage.trainable {list(patterns)} leaves nothing to train: its `!` patterns exclude everything."
        )
    trained: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for name, parameter in editor.named_parameters():
        part = ".".join(name.split(".")[:-1][:2]) or name
        total[part] += parameter.numel()
        if parameter.requires_grad:
            trained[part] += parameter.numel()
    return TrainableReport(tuple(names), dict(trained), dict(total))


def matching(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    """The names that patterns choose; a ConfigError if there is no pattern, or one matches nothing."""
    if not patterns:
        raise ConfigError("stage.trainable is empty: name what this stage trains, e.g. [bridge.qformer.*].")
    matched: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if fnmatchcase(name, pattern.removeprefix("!"))}
        if not found:
            prefixes = {".".join(n.split(".")[:depth]) + ".*" for n in names for depth in range(1, n.count(".") + 1)}
            near = difflib.get_close_matches(pattern.removeprefix("!"), [*sorted(prefixes), *names], n=4, cutoff=0.5)
            parts = sorted({name.split(".")[0] for name in names})
            hint = f"nearest: {', '.join(near)}" if near else f"parts: {', '.join(parts)}"
            raise ConfigError(f"stage.trainable: `{pattern}` matches none of the {len(names)} parameters ({hint}).")
        matched = matched - found if pattern.startswith("!") else matched | found
    return matched


def trainable_parameters(editor: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by name."""
    return {name: parameter for name, parameter in editor.named_parameters() if parameter.requires_grad}


def set_train_mode(module: nn.Module, training: bool | None = None) -> bool:
    """Put what is being trained into train mode and what is frozen into eval mode.

    A module trains if a parameter in it trains; one without parameters (dropout, activation) follows its parent, so
    LoRA's dropout is active inside an otherwise frozen language model. Returns the module's mode.
    """
    parameters = list(module.parameters())
    mode = any(p.requires_grad for p in parameters) if parameters else bool(training)
    module.training = mode
    for child in module.children():
        set_train_mode(child, mode)
    return mode
