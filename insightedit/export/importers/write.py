"""What an import made -> a folder, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from insightedit import files
from insightedit.export.checks import DTYPES, check_finite
from insightedit.export.importers.report import ImportReport

STORED = "stored"


@dataclass(frozen=True)
class Imported:
    """The outcome of an import: a whole pipeline, or a UNet alone.

    Attributes:
        card: fields of the model card.
        pipeline: finished pipeline; None where only a UNet was imported.
        unet: finished UNet; None where there is a pipeline.
        for_training: see `insightedit.export.folder.export_pipeline`.
    """

    card: dict[str, Any] = field(default_factory=dict)
    pipeline: Any = None
    unet: Any = None
    for_training: dict[str, Any] = field(default_factory=dict)


def check_output(folder: Path) -> None:
    """Refuse a place that is taken, before any work is done.

    Raises:
        ValueError: if the folder exists and is not empty, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already and is kept as it is: name a new folder with -o.")


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A folder beside the output, made before the work so that a place nobody can write to is found at once.

    Yields:
        An empty folder; gone when the block ends.

    Raises:
        ValueError: if it cannot be made.
    """
    with ExitStack() as stack:
        try:
            place = stack.enter_context(files.staging(folder))
        except OSError as error:
            raise ValueError(
                f"{folder} cannot be written ({error.strerror or error}): name a folder in a place that is yours "
                "with -o."
            ) from error
        yield place


def write_imported(imported: Imported, folder: Path, temporary: Path, report: ImportReport, dtype: str) -> Path:
    """Write model, card and report into `temporary`, then put them into place with one rename.

    Args:
        imported: what to write.
        folder: where to.
        temporary: see `staging`.
        report: written as `import_report.json`.
        dtype: fp32, fp16 or bf16; `stored` keeps what the files have.

    Returns:
        The folder.

    Raises:
        ValueError: if the weights do not fit `dtype`.
    """
    from insightedit.export.folder import export_pipeline

    modules = imported.pipeline.components if imported.pipeline is not None else {"unet": imported.unet}
    modules = {**modules, **imported.for_training}
    if dtype != STORED:
        _cast(modules, DTYPES[dtype])
    report.facts["dtype"] = dtype
    model = temporary / "new"
    if imported.pipeline is not None:
        stored = dtype if dtype != STORED else "as in the published files; merged layers in fp32"
        name = folder.name if folder.is_absolute() else folder.as_posix()
        export_pipeline(
            imported.pipeline,
            model,
            card={**imported.card, "dtype": stored, "name": name},
            for_training=imported.for_training,
        )
    else:
        imported.unet.save_pretrained(model / "unet")
        (model / "README.md").write_text(_unet_card(imported.card, folder), encoding="utf-8")
    report.write(model)
    files.replace_folder(model, folder, lambda _: False)
    return folder


def _cast(modules: dict[str, Any], dtype: torch.dtype) -> None:
    for name, module in modules.items():
        if isinstance(module, torch.nn.Module):
            module.to(dtype)
            check_finite(name, module, dtype)


def _unet_card(card: dict[str, Any], folder: Path) -> str:
    """The README.md of a UNet folder."""
    rows = "\n".join(f"| {base['role']} | {base['model']} | {base['license']} |" for base in card["bases"])
    return (
        "---\nlicense: other\nlicense_name: follows-the-base-models\nlicense_link: README.md\nlanguage: en\n"
        f"library_name: diffusers\ntags:\n- image-editing\n- insightedit\n---\n\n# {card['title']}\n\n"
        "A UNet that edits pictures, without the rest of a pipeline. Train an editor from it with\n"
        f"`generation.denoiser.model={folder.name}`.\n\n## Base models and licences\n\n| part | model | licence |\n"
        "| --- | --- | --- |\n"
        f"{rows}\n\nWhere every tensor came from: `import_report.json`.\n"
    )
