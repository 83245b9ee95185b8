"""Published checkpoints of other systems -> model folders of this package."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from insightedit.export.importers.report import ImportReport

SYSTEMS = {
    "smartedit": "insightedit.export.importers.smartedit:import_smartedit",
    "mgie": "insightedit.export.importers.mgie:import_mgie",
    "mige": "insightedit.export.importers.mige:import_mige",
    "instructpix2pix": "insightedit.export.importers.instructpix2pix:import_instructpix2pix",
    "ip-adapter": "insightedit.export.importers.ip_adapter:import_ip_adapter",
}
WITH_STEPS = ("smartedit",)  # whose folders may hold several training steps

__all__ = ["SYSTEMS", "import_checkpoint"]


def import_checkpoint(
    system: str,
    source: str | Path,
    output: str | Path,
    *,
    bases: Sequence[str] = (),
    step: int | None = None,
    dtype: str = "stored",
) -> ImportReport:
    """Turn a published checkpoint into a model folder.

    Every tensor of the source is placed or named as dropped with the reason, every place of the model is filled, and
    what comes from a base model is named. If anything does not fit, nothing is written. No code in the files is run.

    Args:
        system: one of `SYSTEMS`.
        source: file or folder as published.
        output: new folder.
        bases: `PART=MODEL` texts, see docs/importing.md.
        step: training step, where the source holds several.
        dtype: fp32, fp16, bf16, or `stored` for what the files have.

    Returns:
        What went where; also in `output/import_report.json`.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if something does not fit, or `output` is taken.
    """
    from insightedit.export.checks import DTYPES
    from insightedit.export.importers.bases import parse_bases
    from insightedit.export.importers.report import ImportReport
    from insightedit.export.importers.write import STORED, check_output, staging, write_imported

    if system not in SYSTEMS:
        raise ValueError(f"{system!r} is no system that can be imported: take one of {', '.join(SYSTEMS)}.")
    if dtype not in (STORED, *DTYPES):
        raise ValueError(f"`dtype` {dtype!r} is unknown: take one of {', '.join((STORED, *DTYPES))}.")
    if step is not None and system not in WITH_STEPS:
        raise ValueError(f"--step {step}: {system} has no steps in its files; leave it out.")
    module_name, function = SYSTEMS[system].split(":")
    module = import_module(module_name)
    chosen = parse_bases(system, bases, module.BASES)
    source, output = Path(source), Path(output)
    check_output(output)
    report = ImportReport(system)
    with staging(output) as temporary:
        steps = {"step": step} if system in WITH_STEPS else {}
        imported = getattr(module, function)(source, chosen, report, **steps)
        write_imported(imported, output, temporary, report, dtype)
    return report
