"""Files are written whole or not at all, and say how they were made."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from insightedit.imaging import read_picture
from insightedit.provenance import Provenance, check_suffix, save_picture

NOTE = Provenance("insightedit 1", 'make <it> "red" & größer', 7, background_locked=True)


def test_png_says_how_it_was_made(tmp_path, picture_of):
    image = picture_of("RGB", (5, 5))
    save_picture(image, tmp_path / "out.png", NOTE)
    with Image.open(tmp_path / "out.png") as saved:
        assert saved.tobytes() == image.tobytes()
        assert saved.text["Instruction"] == NOTE.instruction
        assert saved.text["Seed"] == "7"
        assert saved.text["Software"] == "insightedit 1"
        assert saved.text["DigitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_xmp_names_the_digital_source_type(tmp_path, picture_of, suffix):
    path = tmp_path / f"out{suffix}"
    save_picture(picture_of("RGB", (16, 16)), path, NOTE)
    with Image.open(path) as saved:
        packet = saved.info.get("xmp") or saved.info["XML:com.adobe.xmp"]
    packet = packet.decode() if isinstance(packet, bytes) else packet
    root = ElementTree.fromstring(packet.split("?>", 1)[1].rsplit("<?xpacket", 1)[0])
    names = {name: value for node in root.iter() for name, value in node.attrib.items()}
    key = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    assert names[key] == NOTE.digital_source_type
    assert NOTE.instruction in "".join(root.itertext())


def test_without_the_lock_all_is_the_models():
    assert Provenance("x", "y", 1, background_locked=False).digital_source_type.endswith(
        "/trainedAlgorithmicMedia"
    )


@pytest.mark.parametrize(
    ("mode", "suffix", "back"),
    [
        ("I;16", ".png", "I;16"),
        ("LA", ".png", "LA"),
        ("L", ".jpg", "L"),
        ("CMYK", ".jpg", "CMYK"),
        ("CMYK", ".png", "RGB"),
        ("L", ".webp", "RGB"),
        ("LA", ".webp", "RGBA"),
        ("RGBA", ".tif", "RGBA"),
        ("RGB", ".bmp", "RGB"),
    ],
)
def test_modes(tmp_path, picture_of, mode, suffix, back):
    image = picture_of(mode, (6, 4))
    save_picture(image, tmp_path / f"out{suffix}", NOTE)
    again = read_picture(tmp_path / f"out{suffix}")
    assert again.mode == back
    if suffix != ".jpg" and mode == back:
        np.testing.assert_array_equal(again.colour, read_picture(image).colour)


@pytest.mark.parametrize(
    ("mode", "name", "message"),
    [
        ("RGBA", "out.jpg", "cannot hold the picture's transparency: write a .png"),
        ("I;16", "out.jpg", "cannot hold the picture's 16 bits"),
        ("RGB", "out.xyz", "Cannot write 'out.xyz': name a file that ends in one of .bmp"),
        ("RGB", "out", "Cannot write 'out'"),
    ],
)
def test_what_cannot_be_written(tmp_path, picture_of, mode, name, message):
    with pytest.raises(ValueError, match=message):
        save_picture(picture_of(mode, (4, 4)), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_no_folder(tmp_path, picture_of):
    with pytest.raises(FileNotFoundError, match=r"No folder .*make it first"):
        save_picture(picture_of("RGB", (4, 4)), tmp_path / "no" / "out.png")


def test_suffix_check():
    from pathlib import Path

    check_suffix(Path("a.PNG"))
