"""Measuring editors that are no pipeline of ours: write the sources out, read the edited pictures back.

`dump_samples` writes `sources/ID.png`, `references/ID-0.png` and so on as far as the task has them, and
`instructions.jsonl`, never the targets; any program edits the pictures, or draws them, and saves each under the
same ID; `read_results` gives them to `insightedit.evaluation.scenes.benchmark.evaluate`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from insightedit.evaluation.scenes.benchmark import SceneStream, sample_id
from insightedit.files import check_folder, write_text
from insightedit.images.provenance import save_picture
from insightedit.images.reading import is_picture_file, read_picture, to_rgb

if TYPE_CHECKING:
    from insightedit.evaluation.scenes.benchmark import EditFn, Sample


def sample_ids(*, count: int, size: int, split: str, seed: int, pairs: int = 0, task: str = "editing") -> list[str]:
    """Names of all samples in the order in which `evaluate` takes them."""
    names = [sample_id(split, size, seed, i, task=task) for i in range(count)]
    return names + [sample_id(split, size, seed, i, letter, task) for i in range(pairs) for letter in "ab"]


def dump_samples(
    folder: Path,
    sampler: SceneStream,
    *,
    count: int,
    size: int,
    split: str,
    seed: int,
    pairs: int = 0,
    progress: Callable[[int], object] | None = None,
    task: str = "editing",
) -> Path:
    """Write sources, references and instructions for another editor.

    Returns:
        Path of `instructions.jsonl`, one line per sample: id, source (if there is one), references (one for each
        `<imagehere>`, if there are any), instruction, task (the kind of sample), category.

    Raises:
        ValueError: if `folder` is a file.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    names = sample_ids(count=count, size=size, split=split, seed=seed, pairs=pairs, task=task)
    for name, sample in zip(names, _samples(sampler, count, pairs), strict=True):
        line = {"id": name, **_save_pictures(folder, name, sample), "instruction": sample.instruction}
        lines.append(json.dumps({**line, "task": sample.task, "category": sample.category}, ensure_ascii=False))
        if progress is not None:
            progress(1)
    path = folder / "instructions.jsonl"
    write_text(path, "\n".join(lines) + "\n")
    return path


def _save_pictures(folder: Path, name: str, sample: Sample) -> dict[str, Any]:
    """Write what the sample gives, and say where it lies."""
    paths: dict[str, Any] = {}
    if sample.source is not None:
        paths["source"] = f"sources/{name}.png"
        (folder / "sources").mkdir(exist_ok=True)
        save_picture(Image.fromarray(sample.source), folder / paths["source"])
    if sample.references:
        paths["references"] = [f"references/{name}-{i}.png" for i in range(len(sample.references))]
        (folder / "references").mkdir(exist_ok=True)
        for path, picture in zip(paths["references"], sample.references, strict=True):
            save_picture(Image.fromarray(picture), folder / path)
    return paths


def _samples(sampler: SceneStream, count: int, pairs: int) -> Iterator[Sample]:
    yield from (sampler[i] for i in range(count))
    for i in range(pairs):
        yield from sampler.pair(i)


def read_results(folder: Path, names: Sequence[str]) -> EditFn:
    """An edit function that reads finished pictures instead of editing.

    Args:
        folder: holds `ID.png` (or .webp, .jpg, .bmp, .tif) for every id. A picture of another size than the
            sample's is brought to it by PIL's bicubic filter, as the benchmarks of the field do.
        names: ids in the order in which `evaluate` takes the samples.

    Raises:
        FileNotFoundError: if the folder or some pictures are missing; names the first ones.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder {folder}: --results names the folder that holds the edited pictures.")
    found = {path.stem: path for path in folder.iterdir() if is_picture_file(path)}
    missing = [name for name in names if name not in found]
    if missing:
        some = ", ".join(f"{name}.png" for name in missing[:3])
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of {len(names)} pictures, e.g. {some}: edit the pictures that "
            "--dump writes with the same --task, --count, --size, --split, --seed and --pairs, and keep their names."
        )
    queue = iter(names)

    def edit(samples: Sequence[Sample]) -> list[np.ndarray]:
        return [fit(to_rgb(read_picture(found[next(queue)])), sample.target.shape) for sample in samples]

    return edit


def fit(rgb: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W, 3) uint8 at the height and width of `shape`, by PIL's bicubic filter."""
    if rgb.shape == shape:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
