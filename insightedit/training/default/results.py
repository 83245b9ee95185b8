"""What a run leaves: the record of every part, and its results in files small enough to be carried."""

from __future__ import annotations

import json
import math
import platform
import shutil
import tarfile
from pathlib import Path
from typing import Any

from insightedit.files import MARKER, installed_versions, write_text
from insightedit.miniatures.folders import replace_folder
from insightedit.training.default.parts import DRAFT, MODEL, WORLDS, PlannedPart, Settings
from insightedit.training.default.state import RunState, trained

CALIBRATION = "confidence_calibration"  # in a model's index, by `insightedit calibrate`
RECORD, PIECES = "record.json", "pieces"
MAX_PIECES = 7  # and the record: eight files
MIB = 1024 * 1024
PACKAGES = ("insightedit", "torch", "transformers", "diffusers", "peft", "tokenizers", "numpy")


def finish(settings: Settings, parts: tuple[PlannedPart, ...], state: RunState) -> list[Path]:
    """Write the record, copy the model where it is wanted, pack the results; the places that a user looks at."""
    settings.results.mkdir(parents=True, exist_ok=True)
    carry_calibration(settings.runs / DRAFT, settings.results / MODEL)
    record = settings.results / RECORD
    write_text(record, json.dumps(run_record(settings, parts, state), indent=1) + "\n")
    places = [settings.results / MODEL, record]
    if settings.export is not None:
        with replace_folder(settings.export) as fresh:
            shutil.copytree(settings.results / MODEL, fresh, dirs_exist_ok=True)
        places.append(settings.export)
    if settings.shard_mb is not None:
        places += split(settings.results, settings.runs / PIECES, int(settings.shard_mb * MIB))
    return places


def run_record(settings: Settings, parts: tuple[PlannedPart, ...], state: RunState) -> dict[str, Any]:
    """Everything that the numbers of a card come from: parts, time, machine, versions, measurements."""
    told = {}
    for part in parts:
        held = state.parts[part.name]
        found = trained(part, settings)
        row: dict[str, Any] = {"command": _portable(held.command, settings)}
        row["wall_minutes"] = round(held.seconds / 60, 2)
        if found:
            row |= {
                "steps": found["step"],
                "trained_minutes": round(found["seconds"] / 60, 2),
                "last": found["losses"],
            }
        metrics = part.folder(settings) / "metrics.json" if part.folder is not None else None
        if metrics is not None and metrics.is_file():
            row["held_out"] = json.loads(metrics.read_text(encoding="utf-8"))
        told[part.name] = row
    model = settings.results / MODEL
    return {
        "minutes": round(state.seconds / 60, 2),
        "asked_minutes": settings.minutes,
        "pixels": WORLDS[settings.size].pixels,
        "seed": 0,  # of all parts; no part is given another
        "parts": told,
        "machine": machine(settings),
        "versions": installed_versions(*PACKAGES),
        "model_bytes": sum(file.stat().st_size for file in model.rglob("*") if file.is_file()),
        "measured": {path.parent.name: _headline(path) for path in sorted(settings.results.glob("*/report.json"))},
    }


def _portable(command: list[str], settings: Settings) -> str:
    """A command with the names that `stages/default.sh` has for its folders: others, who read it, have other ones."""
    told = " ".join(command)
    for name, place in (("$PACK", settings.pack), ("$RUNS", settings.runs)):
        told = told if place is None else told.replace(str(place), name)
    return told


def carry_calibration(measured: Path, model: Path) -> None:
    """Give the exported model the confidence that was calibrated on the same weights before they were measured."""
    before, after = measured / MARKER, model / MARKER
    told = json.loads(before.read_text(encoding="utf-8")) if before.is_file() else {}
    if CALIBRATION in told and after.is_file():
        index = json.loads(after.read_text(encoding="utf-8")) | {CALIBRATION: told[CALIBRATION]}
        write_text(after, json.dumps(index, indent=2, sort_keys=True) + "\n")


def machine(settings: Settings) -> dict[str, Any]:
    """What it ran on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": len(settings.cores),
        "bfloat16": [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags],
        "accelerator": settings.accelerator or None,
        "system": platform.platform(),
    }


def _headline(report: Path) -> Any:
    """The model's row of a report and its protocol, or the whole of one of another form."""
    found = json.loads(report.read_text(encoding="utf-8"))
    if isinstance(found, dict) and found.get("rows") and "protocol" in found:
        return {"protocol": found["protocol"], "model": found["rows"][0]}
    return found


def check_export(place: Path) -> None:
    """Refuse, before any work, a place for the model that holds something else."""
    if place.exists() and not (place / MARKER).is_file():
        raise ValueError(f"EXPORT {place} is there and holds no model: name another folder.")


def split(folder: Path, out: Path, limit: int) -> list[Path]:
    """Pack a folder as one tar file cut into pieces of at most `limit` bytes: `cat PIECES | tar -x` joins them.

    A file of weights alone is larger than what some machines give back, so shards of a model would not do.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    whole = out / "whole"
    with tarfile.open(whole, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.add(path, Path(folder.name) / path.relative_to(folder))
    size = whole.stat().st_size
    count = -(-size // limit)
    if count > MAX_PIECES:
        whole.unlink()
        raise ValueError(
            f"{folder} takes {size / MIB:.1f} MiB, which is {count} pieces of {limit / MIB:g} MiB, and {MAX_PIECES} "
            f"are allowed: set SHARD_MB={math.ceil(size / MAX_PIECES / MIB)} or more."
        )
    pieces = []
    with whole.open("rb") as file:
        for number in range(count):
            piece = out / f"{folder.name}.tar.{number:02d}"
            piece.write_bytes(file.read(limit))
            pieces.append(piece)
    whole.unlink()
    record = folder / RECORD
    if record.is_file():
        shutil.copy(record, out / RECORD)
        pieces.append(out / RECORD)
    return pieces
