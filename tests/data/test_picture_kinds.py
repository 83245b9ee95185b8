"""29 kinds of pictures in 7 containers: whoever reads one sees what the model sees when it edits it, bit for bit."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from insightedit.config.schema import SourceConfig
from insightedit.datasets.notes import picture_size
from insightedit.datasets.reading import read_pixels, read_region_of
from insightedit.datasets.sources import Source, build_source
from insightedit.evaluation.metrics.masks import read_grey
from insightedit.images.reading import read_picture, read_rgb, to_rgb
from tests.picture_kinds import CONTAINERS, KINDS, RAW, SIZE, encoded, noise, stripes
from tests.recipes.format_files import opened

CANNOT = {  # what Pillow writes in no such file
    "PNG": {"CMYK", "YCbCr", "LAB", "HSV", "I", "F", "CMYK of inks"},
    "JPEG": {"LA", "RGBA", "P", "LAB", "HSV", "I;16", "I;16B", "I", "F", "P transparent"},
    "WEBP": set(),
    "TIFF": {"HSV"},
    "AVIF": set(),
    "BMP": {"LA", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I;16B", "I", "F", "CMYK of inks"},
    "GIF": {"CMYK", "YCbCr", "LAB", "HSV", "P transparent", "CMYK of inks"},
}
NAMES = ("source", "target")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("kinds")
    found = {}
    for kind, container, content in encoded():
        if content is not None:
            path = folder / f"{kind.replace(' ', '_').replace(';', '-')}{CONTAINERS[container]}"
            path.write_bytes(content)
            found[kind, container] = path
    return found


@pytest.fixture(scope="module")
def wanted(files) -> list[np.ndarray]:
    """What `edit` shows the model, for every file in order."""
    return [to_rgb(read_picture(path)) for path in files.values()]


def seen_in_training(source: Source, wanted: list[np.ndarray]) -> None:
    assert len(source) % len(wanted) == 0, "every record is read, in turn"
    for index, pixels in enumerate(wanted):
        record = source[index]
        for shown in (record.source_image, record.target_image):
            np.testing.assert_array_equal(shown, pixels, err_msg=record.key)


def source_of(kind: str, path: Path) -> Source:
    return build_source(SourceConfig(kind=kind, path=str(path)), size=32, seed=0)


def test_the_table_is_as_large_as_it_says(files):
    kinds = {*KINDS, *RAW}
    assert len(kinds) >= 25
    assert len(CONTAINERS) >= 6
    cannot = {name: {*none, *(RAW if name != "PNG" else ())} for name, none in CANNOT.items()}
    assert {(k, c) for k in kinds for c in CONTAINERS} - set(files) == {
        (k, c) for c, none in cannot.items() for k in none
    }
    assert len(files) > 150


@pytest.mark.parametrize("kind", sorted({*KINDS, *RAW}))
def test_the_pixels_are_right(files, kind):
    """In a container without loss: against what the kind means, written down once more."""
    rgb, grey, alpha = noise(3), noise(1), stripes()
    deep = grey.astype(np.uint16) * 256 + 128
    shown = np.rint(deep * (255 / 65535)).astype(np.uint8)
    over_white = {}
    for name, planes in (("LA", np.repeat(grey, 3, 2)), ("RGBA", rgb), ("RGBA 16 bit", noise(4)[..., :3])):
        own = noise(4)[..., 3] if "16" in name else alpha
        share = own.astype(np.float32)[..., None] / 255
        over_white[name] = np.rint(planes * share + 255 * (1 - share)).astype(np.uint8)
    clear = np.where((rgb == rgb[5, 5]).all(axis=2, keepdims=True), 255, rgb)
    turns = [rgb, rgb[:, ::-1], rgb[::-1, ::-1], rgb[::-1], *[None] * 4]
    across = rgb.transpose(1, 0, 2)
    turns[4:] = [across, across[:, ::-1], across[::-1, ::-1], across[::-1]]
    means = {f"EXIF {n}": turn for n, turn in enumerate(turns, 1)}
    means |= {"L": np.repeat(grey, 3, 2), "RGB": rgb, "RGB one clear colour": clear, "RGB 16 bit": rgb, **over_white}
    means |= dict.fromkeys(("I;16", "I;16B", "I"), np.repeat(shown, 3, 2))
    means["F"] = np.repeat(np.rint(deep.astype(np.float32) / np.float32(65535) * 255).astype(np.uint8), 3, 2)
    if kind in means:
        path = files.get((kind, "PNG")) or files[kind, "TIFF"]
        np.testing.assert_array_equal(read_rgb(path), means[kind])
    pixels = read_rgb(files.get((kind, "PNG")) or files.get((kind, "TIFF")) or files[kind, "WEBP"])
    assert pixels.shape[1::-1] == (SIZE[::-1] if kind in {f"EXIF {n}" for n in range(5, 9)} else SIZE)
    assert np.ptp(pixels) > 100, "neither black nor white nor flat"


def test_a_file_is_its_content_its_stream_and_its_image(files, wanted):
    for path, pixels in zip(files.values(), wanted, strict=True):
        with path.open("rb") as stream, Image.open(path) as image:
            for given in (path.read_bytes(), stream, image, str(path)):
                np.testing.assert_array_equal(read_rgb(given), pixels, err_msg=path.name)
            assert not stream.closed, "what is given stays open"


def test_training_on_paths(tmp_path, files, wanted):
    (tmp_path / "set").symlink_to(next(iter(files.values())).parent)
    rows = [dict.fromkeys(NAMES, f"set/{path.name}") | {"instruction": "turn"} for path in files.values()]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen_in_training(source_of("jsonl", tmp_path), wanted)


@pytest.mark.parametrize("told", [True, False], ids=["features", "plain"])
def test_training_on_content_in_tables(tmp_path, files, wanted, told):
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    values = [{"bytes": path.read_bytes(), "path": path.name} for path in files.values()]
    table = {**dict.fromkeys(NAMES, values), "instruction": ["turn"] * len(values)}
    kind = ImageFeature() if told else {"bytes": Value("binary"), "path": Value("string")}
    features = Features({**dict.fromkeys(NAMES, kind), "instruction": Value("string")})
    made = Dataset.from_dict(table, features=features)
    made.to_parquet(tmp_path / "train.parquet")
    seen_in_training(source_of("parquet", tmp_path), wanted)
    made.save_to_disk(tmp_path / "arrow")
    seen_in_training(source_of("arrow", tmp_path / "arrow"), wanted)


def test_training_on_members_of_tars(tmp_path, files, wanted):
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for number, path in enumerate(files.values()):
            members = dict.fromkeys((f"{name}.png" for name in NAMES), path.read_bytes())
            members["json"] = b'{"instruction": "turn"}'
            for name, content in members.items():
                info = tarfile.TarInfo(f"{number:06d}.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    seen_in_training(source_of("webdataset", tmp_path), wanted)


def test_recipes_the_doctor_and_the_evaluation(tmp_path, files, wanted):
    rows = [dict.fromkeys(NAMES, path.name) | {"instruction": "turn"} for path in files.values()]
    folder = next(iter(files.values())).parent
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = opened("jsonl", folder)  # what recipes and the doctor go through
    photos = opened("folder", folder)
    assert len(records) == len(photos) == len(wanted)
    by_name = {photos[i].notes["file"]: photos[i].image for i in range(len(photos))}
    for number, (path, pixels) in enumerate(zip(files.values(), wanted, strict=True)):
        for shown in (
            records[number].source,
            records[number].target,
            by_name[path.name],
            read_pixels(path),
            read_pixels(path.read_bytes()),
        ):
            np.testing.assert_array_equal(shown, pixels, err_msg=path.name)
        assert picture_size(path) == pixels.shape[1::-1], path.name
        grey = np.asarray(Image.fromarray(pixels).convert("L"))
        np.testing.assert_array_equal(read_grey(path), grey, err_msg=path.name)
        if read_picture(path).alpha is None:
            np.testing.assert_array_equal(read_region_of(path), grey >= 128, err_msg=path.name)


def test_what_a_viewer_sees_of_a_profile(files):
    """The reds of Adobe are redder, grey of gamma 1 is lighter, and the numbers themselves stay."""
    plain, adobe = read_picture(files["RGB", "PNG"]), read_picture(files["RGB of Adobe", "PNG"])
    np.testing.assert_array_equal(plain.colour, adobe.colour)
    assert np.abs(to_rgb(plain).astype(int) - to_rgb(adobe)).max() > 30
    linear = read_picture(files["grey of gamma 1", "PNG"])
    middle = (linear.colour > 40) & (linear.colour < 200)
    assert (to_rgb(linear)[..., :1][middle] > linear.colour[middle] + 15).all()
