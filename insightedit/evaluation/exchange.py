"""Measuring editors that are no pipeline of ours: write the sources out, read the edited pictures back.

`dump_samples` writes `sources/ID.png` and `instructions.jsonl`, never the targets; any program edits the
pictures and saves each under the same ID; `read_results` gives them to
`insightedit.evaluation.scenes.evaluate`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from insightedit.evaluation.scenes import Sampler, sample_id
from insightedit.imaging import read_picture, to_rgb
from insightedit.provenance import save_picture, write_atomically

if TYPE_CHECKING:
    from data_recipes.scenes import EditSample
    from insightedit.evaluation.scenes import EditFn

ENDINGS = (".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def sample_ids(*, count: int, size: int, split: str, seed: int, pairs: int = 0) -> list[str]:
    """Names of all samples in the order in which `evaluate` takes them."""
    names = [sample_id(split, size, seed, i) for i in range(count)]
    return names + [sample_id(split, size, seed, i, letter) for i in range(pairs) for letter in "ab"]


def dump_samples(
    folder: Path,
    sampler: Sampler,
    *,
    count: int,
    size: int,
    split: str,
    seed: int,
    pairs: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write sources and instructions for another editor.

    Args:
        folder: made if missing; files of the same name are replaced.
        sampler: where scenes come from.
        count: scenes.
        size: pixels.
        split: of the scenes, part of the names.
        seed: of the scenes, part of the names.
        pairs: minimal pairs.
        progress: called with 1 after each sample.

    Returns:
        Path of `instructions.jsonl`, one line per sample: id, source, instruction, task, category.

    Raises:
        ValueError: if `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder to write the samples to.")
    (folder / "sources").mkdir(parents=True, exist_ok=True)
    lines = []
    names = sample_ids(count=count, size=size, split=split, seed=seed, pairs=pairs)
    for name, sample in zip(names, _samples(sampler, count, pairs), strict=True):
        save_picture(Image.fromarray(sample.source), folder / "sources" / f"{name}.png")
        line = {"id": name, "source": f"sources/{name}.png", "instruction": sample.instruction}
        lines.append(
            json.dumps({**line, "task": sample.task, "category": sample.category}, ensure_ascii=False)
        )
        if progress is not None:
            progress(1)
    path = folder / "instructions.jsonl"
    write_atomically(path, lambda file: file.write(("\n".join(lines) + "\n").encode("utf-8")))
    return path


def _samples(sampler: Sampler, count: int, pairs: int) -> Iterator[EditSample]:
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
        raise FileNotFoundError(
            f"No folder {folder}: --results names the folder that holds the edited pictures."
        )
    found = {path.stem: path for path in folder.iterdir() if path.suffix.lower() in ENDINGS}
    missing = [name for name in names if name not in found]
    if missing:
        some = ", ".join(f"{name}.png" for name in missing[:3])
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of {len(names)} pictures, e.g. {some}: edit the pictures that "
            "--dump writes with the same --count, --size, --split, --seed and --pairs, and keep their names."
        )
    queue = iter(names)

    def edit(samples: Sequence[EditSample]) -> list[np.ndarray]:
        return [_fit(to_rgb(read_picture(found[next(queue)])), sample.source.shape) for sample in samples]

    return edit


def _fit(rgb: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if rgb.shape == shape:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
