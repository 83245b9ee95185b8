"""Pictures of a scenes report: outputs as they come, then source, target and mask of the samples that are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from insightedit.evaluation.core.run_folder import PICTURES, RunSample, shorten, write_samples
from insightedit.evaluation.reporting.choice import choose
from insightedit.evaluation.reporting.reading import read_report_run
from insightedit.evaluation.scenes.benchmark import starting_picture
from insightedit.evaluation.scenes.metrics import largest_change
from insightedit.images.provenance import save_picture
from insightedit.images.reading import is_picture_file

if TYPE_CHECKING:
    from insightedit.evaluation.scenes.benchmark import EditFn, Sample, SceneStream


def keep_pictures(edit_fn: EditFn, folder: Path, names: Sequence[str]) -> EditFn:
    """The same edit function, which also writes what it returns as `pictures/ID.png`."""
    queue = iter(names)

    def edit(samples: Sequence[Sample]) -> Sequence[np.ndarray]:
        pictures = edit_fn(samples)
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            save_picture(Image.fromarray(picture), folder / PICTURES / f"{next(queue)}.png")
        return pictures

    return edit


def write_examples(
    folder: Path, sampler: SceneStream, names: Sequence[str], pictures: Path | None = None
) -> list[Path]:
    """Write `samples.jsonl`, and source, target, mask and references of every sample that a sheet shows.

    Args:
        folder: of a scenes report.
        sampler: of its scenes.
        names: names[i] is the id of `sampler[i]`.
        pictures: folder with the outputs, any file type of `read_results`; `pictures` in the report's if not given.

    Returns:
        The path of `samples.jsonl`.

    Raises:
        FileNotFoundError: if there is no report.
    """
    run = read_report_run(folder)
    categories = dict.fromkeys(run.column(run.order).categories.values())
    chosen = {name for kind in (None, *categories) for block in choose(run, category=kind) for name in block.names}
    where = pictures or folder / PICTURES
    outputs = {path.stem: path for path in sorted(where.iterdir()) if is_picture_file(path)}
    samples = [
        _write_example(folder, name, sampler[index], outputs.get(name))
        for index, name in enumerate(names)
        if name in chosen
    ]
    return [write_samples(samples, folder)]


def write_scenes_html(
    folder: Path, sampler: SceneStream, names: Sequence[str], pictures: Path | None = None
) -> list[Path]:
    """Write `report.html` and the contact sheets beside a scenes report; arguments as of `write_examples`."""
    from insightedit.evaluation.reporting.html_report import write_html_report

    write_examples(folder, sampler, names, pictures)
    return write_html_report([folder])


def _write_example(folder: Path, name: str, sample: Sample, output: Path | None) -> RunSample:
    start = starting_picture(sample)
    mask = np.where(largest_change(start, sample.target) > 0, 255, 0).astype(np.uint8)
    parts = {"sources": start, "targets": sample.target, "masks": mask}
    paths = {part: _save(folder / part / f"{name}.png", rgb, folder) for part, rgb in parts.items()}
    references = [
        _save(folder / "references" / f"{name}-{number}.png", rgb, folder)
        for number, rgb in enumerate(sample.references)
    ]
    return RunSample(
        name,
        sample.instruction,
        category=str(sample.category),
        source=paths["sources"],
        target=paths["targets"],
        mask=paths["masks"],
        references=tuple(references),
        outputs=() if output is None else ({"seed": None, "path": shorten(output, folder)},),
    )


def _save(path: Path, pixels: np.ndarray, folder: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(Image.fromarray(pixels), path)
    return shorten(path, folder)
