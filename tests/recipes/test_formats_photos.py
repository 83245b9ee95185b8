"""A folder of photos: order, rotation, links, hidden files, damage."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from data_recipes.runner.inputs import InputConfig, open_input
from insightedit.datasets.reading import Finder, ReadError, inside, read_region_of, unique_keys
from tests.recipes.format_files import noise, opened, records, rejected, save


def test_photos_come_in_natural_order_with_keys_that_files_can_hold(tmp_path):
    for name in ("b/photo 10.png", "b/photo 9.png", "a.PNG", "a.jpg"):
        save(tmp_path / name, noise(0), **({"format": "PNG"} if name.endswith("PNG") else {}))
    (tmp_path / "notes.txt").write_text("no picture")
    found = records(opened("folder", tmp_path))
    assert [one.key for one in found] == ["a", "a-2", "b-photo_9", "b-photo_10"]
    assert found[2].notes == {"file": "b/photo 9.png"}
    assert not any(one.is_pair for one in found)


def test_hidden_files_are_left_out_and_links_are_followed_once(tmp_path):
    root, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    save(root / "a.png", noise(0))
    save(root / ".hidden.png", noise(1))
    save(root / ".cache/c.png", noise(1))
    save(root / "__MACOSX/d.png", noise(1))
    save(elsewhere / "e.png", noise(2))
    (root / "again.png").symlink_to(root / "a.png")
    (root / "more").symlink_to(elsewhere)
    (root / "loop").symlink_to(root)
    (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = opened("folder", root)
    assert len(found) == 3
    assert found[0].key == "a"
    assert rejected(found, 1)[0] == "file is missing"
    assert found[2].key == "more-e"


def test_photos_are_upright_rgb_and_not_too_long(tmp_path):
    picture = Image.fromarray(noise(0, (30, 60)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    picture.save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(noise(1)[..., 0]).save(tmp_path / "b.png")
    Image.fromarray(noise(2)[..., 0].astype(np.uint16) * 257).save(tmp_path / "c.png")
    Image.new("RGBA", (8, 4), (10, 20, 30, 0)).save(tmp_path / "d.png")
    big = opened("folder", tmp_path, max_side=20)
    assert [one.image.shape for one in records(big)] == [(20, 10, 3), (17, 20, 3), (17, 20, 3), (4, 8, 3)]
    found = records(opened("folder", tmp_path))
    assert found[0].image.shape == (60, 30, 3)
    assert np.array_equal(found[1].image[..., 2], noise(1)[..., 0])
    assert np.array_equal(found[2].image[..., 0], noise(2)[..., 0])
    assert found[3].image[0, 0].tolist() == [255, 255, 255], "what is transparent is white"


def test_damaged_photos_are_told_apart(tmp_path):
    save(tmp_path / "a.png", noise(0, (64, 64)))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    (tmp_path / "b.jpg").write_text("<html>not found</html>")
    (tmp_path / "c.webp").write_bytes(b"")
    found = opened("folder", tmp_path)
    assert rejected(found, 0)[0] == "picture cannot be read"
    reason, detail = rejected(found, 1)
    assert reason == "picture cannot be read"
    assert detail.startswith(f"{tmp_path / 'b.jpg'} is not an image that can be read here")
    assert rejected(found, 2)[0] == "picture cannot be read"


def test_one_file_is_a_folder_of_one(tmp_path):
    found = opened("folder", save(tmp_path / "my photo.png", noise(3)))
    assert [one.key for one in records(found)] == ["my_photo"]
    with pytest.raises(IndexError, match="there is no record 1: there are 1, counted from 0."):
        found[1]


def test_wrong_paths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="source.path is missing: kind folder reads files, name their folder."):
        open_input(InputConfig("folder"))
    with pytest.raises(FileNotFoundError, match="nothing is there: check the path"):
        opened("folder", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no pictures: files have to end in .avif, .bmp"):
        opened("folder", tmp_path)


def test_masks_are_white_or_a_hole(tmp_path):
    region = np.zeros((6, 8), bool)
    region[1:3, 2:5] = True
    white = save(tmp_path / "w.png", region.astype(np.uint8) * 255)
    hole = save(tmp_path / "h.png", np.dstack([noise(0, (6, 8)), np.where(region, 0, 255).astype(np.uint8)]))
    opaque = save(
        tmp_path / "o.png",
        np.dstack([np.repeat(region[..., None] * np.uint8(255), 3, 2), np.full((6, 8), 255, np.uint8)]),
    )
    for path in (white, hole, opaque):
        assert np.array_equal(read_region_of(path), region)


def test_keys_are_unique_and_never_hold_a_slash():
    assert unique_keys(["a/b", "a-b", "a b", "", "a-b-2"]) == ["a-b", "a-b-2", "a_b", "record", "a-b-2-2"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.png", "a/../../b.png", "C:\\a.png", "..\\a.png"])
def test_paths_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(ReadError, match="path leads out of the folder"):
        inside(tmp_path, name)


def test_pictures_of_other_machines_are_found_by_name(tmp_path):
    save(tmp_path / "x/a.png", noise(0))
    save(tmp_path / "x/b.png", noise(0))
    save(tmp_path / "y/b.png", noise(0))
    finder = Finder(tmp_path)
    assert finder.find("/authors/disk/a.png") == tmp_path / "x/a.png"
    assert finder.find("C:\\data\\a.png") == tmp_path / "x/a.png"
    assert finder.find("y/b.png") == tmp_path / "y/b.png"
    with pytest.raises(ReadError, match="several files have that name: b.png: x/b.png, y/b.png"):
        finder.find("/else/b.png")
    with pytest.raises(ReadError, match="file is missing: gone.png"):
        finder.find("gone.png")
    with pytest.raises(ReadError, match="record is incomplete: '' in place of a picture's name"):
        finder.find("")
