"""Published checkpoints of other systems -> model folders of this package."""

from __future__ import annotations

import json
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from insightedit.files import replace_folder, staging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from insightedit.export.importers.mapping import Imported, ImportReport

STORED = "stored"
SYSTEMS = ("smartedit", "mgie", "mige", "instructpix2pix", "ip-adapter")
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
    """Turn a published checkpoint into a model folder; what went where is also in its `import_report.json`.

    Every tensor of the source is placed or named as dropped with the reason, every place of the model is filled, and
    what comes from a base model is named. If anything does not fit, nothing is written. No code in the files is run.

    Args:
        system: one of `SYSTEMS`.
        source: file or folder as published.
        output: new folder.
        bases: `PART=MODEL` texts, see docs/importing.md.
        step: training step, where the source holds several.
        dtype: fp32, fp16, bf16, or `stored` for what the files have.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if something does not fit, or `output` is taken.
    """
    from insightedit.export.checks import DTYPES
    from insightedit.export.importers.bases import parse_bases
    from insightedit.export.importers.mapping import ImportReport

    if system not in SYSTEMS:
        raise ValueError(f"{system!r} is no system that can be imported: take one of {', '.join(SYSTEMS)}.")
    if dtype not in (STORED, *DTYPES):
        raise ValueError(f"`dtype` {dtype!r} is unknown: take one of {', '.join((STORED, *DTYPES))}.")
    if step is not None and system not in WITH_STEPS:
        raise ValueError(f"--step {step}: {system} has no steps in its files; leave it out.")
    module = import_module(f"insightedit.export.importers.{system.replace('-', '_')}")
    chosen = parse_bases(system, bases, module.BASES)
    source, output = Path(source), Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} is there already and is kept as it is: name a new folder with -o.")
    report = ImportReport(system)
    with ExitStack() as stack:
        try:  # before the work, so that a place nobody can write to is found at once
            temporary = stack.enter_context(staging(output))
        except OSError as error:
            raise ValueError(
                f"{output} cannot be written ({error.strerror or error}): name a folder in a place that is yours "
                "with -o."
            ) from error
        steps = {"step": step} if system in WITH_STEPS else {}
        imported = module.convert(source, chosen, report, **steps)
        report.facts["dtype"] = dtype
        _write(imported, temporary / "new", output, dtype)
        told = {"system": system, "facts": report.facts, "counts": report.counts(), "parts": report.parts}
        text = json.dumps({**told, "files": report.files}, indent=1)
        (temporary / "new/import_report.json").write_text(text + "\n", encoding="utf-8")
        replace_folder(temporary / "new", output, lambda _: False)
    return report


def _write(imported: Imported, model: Path, output: Path, dtype: str) -> None:
    """Write a pipeline or a UNet with its card into the folder `model`, which is to be `output`."""
    from torch import nn

    from insightedit.export.checks import DTYPES, check_finite
    from insightedit.export.folder import export_pipeline

    modules = imported.pipeline.components if imported.pipeline is not None else {"unet": imported.unet}
    for name, module in {**modules, **imported.for_training}.items():
        if dtype != STORED and isinstance(module, nn.Module):
            check_finite(name, module.to(DTYPES[dtype]), DTYPES[dtype])
    if imported.pipeline is not None:
        stored = "as in the published files; merged layers in fp32" if dtype == STORED else dtype
        name = output.name if output.is_absolute() else output.as_posix()
        card = {**imported.card, "dtype": stored, "name": name}
        export_pipeline(imported.pipeline, model, card=card, for_training=imported.for_training)
        return
    imported.unet.save_pretrained(model / "unet")
    rows = "\n".join(f"| {base['role']} | {base['model']} | {base['license']} |" for base in imported.card["bases"])
    text = (
        "---\nlicense: other\nlicense_name: follows-the-base-models\nlicense_link: README.md\nlanguage: en\n"
        f"library_name: diffusers\ntags:\n- image-editing\n- insightedit\n---\n\n# {imported.card['title']}\n\n"
        "A UNet that edits pictures, without the rest of a pipeline. Train an editor from it with\n"
        f"`generation.denoiser.model={output.name}`.\n\n## Base models and licences\n\n| part | model | licence |\n"
        "| --- | --- | --- |\n"
        f"{rows}\n\nWhere every tensor came from: `import_report.json`.\n"
    )
    (model / "README.md").write_text(text, encoding="utf-8")
