"""What an import did with every tensor: a table for the eye, `import_report.json` for later."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

REPORT = "import_report.json"


@dataclass
class ImportReport:
    """Collected while a checkpoint is read and placed.

    Attributes:
        system: name of the system, e.g. `smartedit`.
        facts: step, vocabulary, adapter scaling and whatever else a reader may want to check.
        files: file name -> {name of a tensor there: our names, or why it was dropped}.
        parts: module -> how many of its tensors came from the source, which from a base, and which base.
    """

    system: str
    facts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, list[str] | str]] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, path: Path, old: str, new: list[str], reason: str = "") -> None:
        """One tensor of the source: where it went, or why it was dropped."""
        name = path.name if path.parent.name == "" else f"{path.parent.name}/{path.name}"
        self.files.setdefault(name, {})[old] = new or f"dropped: {reason}"

    def filled(self, part: str, *, from_source: int, from_base: list[str], base: str) -> None:
        """One module of ours: where its tensors came from."""
        self.parts[part] = {"from_source": from_source, "from_base": from_base, "base": base}

    def taken(self, part: str, base: str) -> None:
        """One module of ours that came from a base model whole."""
        self.parts[part] = {"from_source": 0, "from_base": "whole", "base": base}

    def counts(self) -> dict[str, dict[str, int]]:
        """File name -> tensors, of them mapped and dropped."""
        counted = {}
        for name, tensors in self.files.items():
            dropped = sum(isinstance(place, str) for place in tensors.values())
            counted[name] = {"tensors": len(tensors), "mapped": len(tensors) - dropped, "dropped": dropped}
        return counted

    def write(self, folder: Path) -> None:
        """Write `import_report.json` into a folder."""
        text = json.dumps(
            {
                "system": self.system,
                "facts": self.facts,
                "counts": self.counts(),
                "parts": self.parts,
                "files": self.files,
            },
            indent=1,
        )
        (folder / REPORT).write_text(text + "\n", encoding="utf-8")

    def tables(self) -> list[Table]:
        """Two tables for the terminal: what became of the files, and what the parts are made of."""
        from rich.table import Table

        files = Table("file", "tensors", "mapped", "dropped", title="read")
        for name, count in self.counts().items():
            files.add_row(name, *(str(count[key]) for key in ("tensors", "mapped", "dropped")))
        parts = Table("part", "from the checkpoint", "from a base", "base", title="written")
        for name, part in self.parts.items():
            of_base = part["from_base"]
            shown = of_base if isinstance(of_base, str) else str(len(of_base))
            parts.add_row(name, str(part["from_source"]), shown, part["base"])
        return [files, parts]
