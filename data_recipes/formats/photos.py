"""A folder of photos, as it lies on a disk."""

from __future__ import annotations

from data_recipes.formats.reading import Listed, place_of
from data_recipes.runner.inputs import Input, InputConfig
from data_recipes.runner.records import Record
from insightedit.datasets.reading import picture_files, read_pixels, unique_keys
from insightedit.images.reading import PICTURE_SUFFIXES


def open_folder(config: InputConfig) -> Input:
    """Every picture below a folder, or one file, in the natural order of the names.

    Pictures come upright (EXIF), in RGB, and not longer than `max_side`; hidden files are left out, a file that links
    show twice is taken once. The key is the path without its ending, `trip/IMG 2.jpg` -> `trip-IMG_2`.

    Raises:
        ValueError: if the config names no path.
        FileNotFoundError: if there is no such folder, or no picture in it.
    """
    place = place_of(config)
    root = place.parent if place.is_file() else place
    files = [place] if place.is_file() else picture_files(place)
    if not files:
        raise FileNotFoundError(
            f"{place} holds no pictures: files have to end in {', '.join(sorted(PICTURE_SUFFIXES))}, at any depth."
        )
    keys = unique_keys(path.relative_to(root).with_suffix("").as_posix() for path in files)

    def make(number: int) -> Record:
        path = files[number]
        image = read_pixels(path, config.max_side)
        return Record(keys[number], image=image, notes={"file": path.relative_to(root).as_posix()})

    return Listed(keys, make)
