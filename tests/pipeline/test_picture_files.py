"""What is a picture, and what is none: one type of error that names the file, whatever is wrong with it."""

from __future__ import annotations

import os
import socket
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from insightedit.images.background import compute_edit_map, paste_edit
from insightedit.images.colour_profiles import from_srgb, is_srgb
from insightedit.images.reading import PictureError, is_picture_file, read_labels, read_picture, read_rgb, to_rgb
from tests.picture_kinds import CONTAINERS, encoded
from tests.profiles import adobe_rgb, grey, inks

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
PSD = b"8BPS\0\1" + b"\0" * 6 + b"\0\3" + b"\0\0\0\4\0\0\0\4" + b"\0\x08\0\3" + b"\0" * 12 + b"\0\0" + b"\xff" * 48


def test_what_counts_as_a_picture_in_a_folder(tmp_path, picture_of):
    picture_of("RGB", (4, 4)).save(tmp_path / "a.png")
    for name in (
        "b.JPG",
        "c.avif",
        "d.jfif",
        "e.heic",
        "f.tiff",
        "._b.jpg",
        ".hidden.png",
        "notes.txt",
        "png",
        "g.svg",
    ):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "linked.png").symlink_to("a.png")
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    found = sorted(path.name for path in tmp_path.iterdir() if is_picture_file(path))
    assert found == ["a.png", "b.JPG", "c.avif", "d.jfif", "e.heic", "f.tiff", "linked.png"]


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match="pipe.png is a pipe or device, not a file: save the picture in a file"):
        read_picture(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
        with pytest.raises(PictureError, match="is a pipe or device"):
            read_picture(tmp_path / "s.png")


@pytest.mark.parametrize("content", [EPS, PSD, b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"hello"])
def test_only_pictures_are_opened(tmp_path, monkeypatch, content):
    monkeypatch.setenv("PATH", str(tmp_path))  # with a Ghostscript that would tell
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(PictureError, match=r"a.png is not an image that can be read here \(AVIF, .*HEIC\): convert"):
        read_picture(tmp_path / "a.png")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("name", ["no.png", "no\0.png", "no\udcff.png", "folder/no.png", "a.png/no.png"])
def test_there_is_no_such_file(tmp_path, picture_of, name):
    picture_of("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match=r"No file at .*no.*\.png: check the path of the image") as caught:
        read_picture(tmp_path / name)
    str(caught.value).encode()  # can be printed


@pytest.mark.parametrize(("name", "why"), [("n" * 300 + ".png", "File name too long"), ("loop.png", "symbolic links")])
def test_a_name_that_leads_nowhere(tmp_path, name, why):
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(PictureError, match=f"cannot be read .*{why}.*: check its name and rights"):
        read_picture(tmp_path / name)


def damaged(content: bytes, seed: int) -> bytes:
    """Cut off, one page of 512 bytes lost, or some bytes turned."""
    rng = np.random.default_rng(seed)
    place = int(rng.integers(8, len(content)))
    if seed % 3 == 0:
        return content[:place]
    if seed % 3 == 1:
        return content[:place] + b"\0" * min(512, len(content) - place) + content[place + 512 :]
    values = bytearray(content)
    for index in rng.integers(8, len(content), 4):
        values[index] ^= int(rng.integers(1, 256))
    return bytes(values)


@pytest.mark.parametrize("container", CONTAINERS)
def test_damage_is_one_error_that_names_the_file(tmp_path, container):
    kinds = {"RGB", "P", "L", "EXIF 6", "CMYK of inks", "I;16", "RGBA"}
    contents = [content for kind, one, content in encoded() if one == container and kind in kinds and content]
    path, told = tmp_path / f"a{CONTAINERS[container]}", []
    for seed in range(150 // len(contents)):
        for content in contents:
            path.write_bytes(damaged(content, seed))
            try:
                pixels = read_rgb(path)
            except PictureError as error:
                told.append(str(error))
            else:
                assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
    assert len(told) > 10
    assert all(str(path) in message and len(message) < 400 for message in told)


def test_memory_that_is_not_there(picture_of):
    class Huge(Image.Image):
        def load(self):
            raise MemoryError

    image = Huge()
    image._size = (9, 9)
    with pytest.raises(PictureError, match="the given image needs more memory than there is: scale it down"):
        read_picture(image)


@pytest.mark.parametrize("chunk", ["tEXt", "zTXt", "iTXt", "iCCP"])
def test_a_whole_picture_with_long_texts_is_read(tmp_path, picture_of, chunk):
    image, text, options = picture_of("RGB", (9, 7)), PngInfo(), {}
    if chunk == "iTXt":
        text.add_itxt("prompt", "ä" * 2_000_000, zip=True)
    elif chunk == "iCCP":
        options["icc_profile"] = adobe_rgb() + b"\0" * 2_000_000
    else:
        text.add_text("prompt", "x" * 2_000_000, zip=chunk == "zTXt")
    image.save(tmp_path / "a.png", pnginfo=text, **options)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").colour, np.asarray(image))


def test_texts_without_end_are_refused_by_name(tmp_path, picture_of):
    text = PngInfo()
    text.add(b"zTXt", b"bomb\0\0" + zlib.compress(b"\0" * 80_000_000, 1))
    picture_of("RGB", (9, 7)).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(PictureError, match=r"a.png is damaged or cut off \(Decompressed data too large"):
        read_picture(tmp_path / "a.png")


def test_a_picture_with_broken_metadata_is_read_as_it_lies(tmp_path, picture_of):
    image = picture_of("RGB", (9, 7))
    for number, exif in enumerate((b"Exif\0\0garbage!", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0")):
        path = tmp_path / f"{number}.png"
        image.save(path, exif=exif)
        np.testing.assert_array_equal(read_rgb(path), np.asarray(image))


def test_label_pictures_keep_their_numbers(tmp_path, picture_of):
    image = picture_of("P", (9, 7))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), np.asarray(image))
    assert read_rgb(tmp_path / "a.png").shape == (7, 9, 3)


class TestHeic:
    def test_as_any_other(self, tmp_path, picture_of):
        pillow_heif = pytest.importorskip("pillow_heif")
        image = picture_of("RGB", (64, 48))
        exif = Image.Exif()
        exif[0x0112] = 6
        pillow_heif.from_pillow(image).save(tmp_path / "a.heic", quality=-1, exif=exif.tobytes())
        picture = read_picture(tmp_path / "a.heic")
        assert picture.size == (48, 64), "upright"
        np.testing.assert_array_equal(read_rgb((tmp_path / "a.heic").read_bytes()), to_rgb(picture))
        (tmp_path / "b.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:900])
        with pytest.raises(PictureError, match="b.heic is damaged or cut off"):
            read_picture(tmp_path / "b.heic")

    def test_without_the_extra(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
        for given, name in ((content, "the given image"), (tmp_path / "a.heic", "a.heic")):
            (tmp_path / "a.heic").write_bytes(content)
            with pytest.raises(PictureError, match=rf"{name} is a HEIC picture: `pip install insightedit\[heic\]`"):
                read_picture(given)


@pytest.mark.parametrize(("mode", "profile"), [("RGB", adobe_rgb()), ("L", grey(1.0)), ("CMYK", inks())])
def test_an_edit_has_the_colours_it_was_drawn_with(picture_of, mode, profile):
    """In the picture's own profile; outside of the edit its numbers stay, bit for bit."""
    image = picture_of(mode, (64, 64))
    image.info["icc_profile"] = profile
    picture = read_picture(image)
    ground = np.full((32, 32, 3), 100, np.float32)
    drawn = ground.copy()
    drawn[8:24, 8:24] = 40
    edited, mask = paste_edit(picture, compute_edit_map(drawn, ground), None, background_lock=True)
    np.testing.assert_array_equal(edited.colour[~mask], picture.colour[~mask])
    assert edited.info["icc_profile"] == profile
    wanted = 40 if mode != "CMYK" else to_rgb(edited)[32, 32]  # ink tables of a few nodes are no exact inverse
    np.testing.assert_allclose(to_rgb(edited)[26:38, 26:38], np.broadcast_to(wanted, (12, 12, 3)), atol=4)


def test_profiles_that_say_nothing():
    for profile in (None, b"", b"garbage", inks(), grey(1.0)):
        assert is_srgb(profile, 3)
    assert not is_srgb(adobe_rgb(), 3)
    with pytest.raises(ValueError, match="the colour profile says nothing about 3 channels: ask `is_srgb` first"):
        from_srgb(np.zeros((1, 1, 3), np.float32), b"garbage", 3)
