"""Files are written whole or not at all, and say how they were made."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageCms

from insightedit.images.picture_files import file_format
from insightedit.images.provenance import Provenance, check_output, save_picture, save_unchanged
from insightedit.images.reading import read_picture, to_pil, to_rgb
from tests.profiles import adobe_rgb, grey, inks

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


def test_a_picture_that_was_left_as_it_was_names_no_model_as_its_maker():
    left = Provenance("insightedit", "make it winter", 3, True, ("nothing was changed",), is_changed=False)
    assert left.digital_source_type is None
    note = left.xmp().decode()
    assert "Left as it was, asked for: make it winter (seed 3). Warning: nothing was changed" in note
    assert "DigitalSourceType" not in note
    ElementTree.fromstring(note[note.index("<x:xmpmeta") : note.index("<?xpacket end")])


@pytest.mark.parametrize(("ending", "is_copy"), [(".jpg", True), (".jpeg", True), (".png", False), (".webp", False)])
def test_what_was_left_as_it_was_is_a_copy_where_the_format_is_the_same(tmp_path, picture_of, ending, is_copy):
    source = tmp_path / "several.jpg"  # two pictures in one file, as telephones write them
    picture_of("RGB", (20, 10)).save(
        source, format="MPO", save_all=True, append_images=[picture_of("RGB", (20, 10), 1)]
    )
    assert file_format(source) == "JPEG"
    picture, out = to_pil(read_picture(source)), tmp_path / f"out{ending}"
    note = Provenance("insightedit", "make it winter", 3, True, is_changed=False)
    assert save_unchanged(source, picture, out, note) is is_copy
    assert (out.read_bytes() == source.read_bytes()) is is_copy
    with Image.open(out) as written:
        np.testing.assert_array_equal(np.asarray(written), np.asarray(picture))
    with pytest.raises(ValueError, match="Cannot write 'out.docx'"):
        save_unchanged(source, picture, tmp_path / "out.docx", note)


def test_without_the_lock_all_is_the_models():
    assert Provenance("x", "y", 1, background_locked=False).digital_source_type.endswith("/trainedAlgorithmicMedia")


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
        ("I", ".png", "I;16"),
        ("I", ".tif", "I"),
        ("F", ".png", "I;16"),
        ("F", ".tif", "F"),
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
        ("I;16", "out.jpg", "cannot hold the picture's 16 bits: write a .png or .tif"),
        ("F", "out.webp", "cannot hold the picture's floats: write a .png or .tif"),
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

    check_output(Path("a.PNG"))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_deep_grey_is_written_with_16_bits(tmp_path, picture_of, mode):
    picture = read_picture(picture_of(mode, (6, 4)))
    save_picture(to_pil(picture), tmp_path / "out.png")
    wanted = picture.colour if mode == "I" else np.rint(picture.colour * 65535)
    np.testing.assert_array_equal(read_picture(tmp_path / "out.png").colour, wanted)


def test_the_wide_formats_limits_are_known_before_any_work(tmp_path):
    wide = read_picture(np.zeros((1, 16_384, 3), np.uint8))
    check_output(tmp_path / "out.png", wide)
    with pytest.raises(ValueError, match="hold up to 16,383 px a side: write a .png"):
        check_output(tmp_path / "out.webp", wide)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jfif", ".tif", ".webp"])
def test_a_colour_profile_is_written(tmp_path, picture_of, suffix):
    image = picture_of("RGB", (8, 8))
    image.info["icc_profile"] = adobe_rgb()
    save_picture(image, tmp_path / f"out{suffix}")
    again = read_picture(tmp_path / f"out{suffix}")
    assert again.info["icc_profile"] == adobe_rgb()
    if suffix not in (".jpg", ".jfif"):
        np.testing.assert_array_equal(again.colour, np.asarray(image))


@pytest.mark.parametrize(("mode", "profile"), [("RGB", adobe_rgb()), ("L", grey(1.0))])
def test_a_format_without_profiles_is_refused_before_any_work(tmp_path, picture_of, mode, profile):
    image = picture_of(mode, (8, 8))
    image.info["icc_profile"] = profile
    with pytest.raises(ValueError, match=".bmp files cannot hold the picture's colour profile: write a .png"):
        check_output(tmp_path / "out.bmp", read_picture(image))
    with pytest.raises(ValueError, match="colour profile"):
        save_picture(image, tmp_path / "out.bmp")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.info["icc_profile"] = srgb
    save_picture(image, tmp_path / "out.bmp")  # which is what a file without a profile means


@pytest.mark.parametrize(("mode", "suffix", "profile"), [("CMYK", ".png", inks()), ("LA", ".webp", grey(1.0))])
def test_what_is_converted_keeps_its_look(tmp_path, picture_of, mode, suffix, profile):
    image = picture_of(mode, (8, 8))
    image.info["icc_profile"] = profile
    save_picture(image, tmp_path / f"out{suffix}")
    again = read_picture(tmp_path / f"out{suffix}")
    assert "icc_profile" not in again.info
    np.testing.assert_allclose(to_rgb(again).astype(int), to_rgb(read_picture(image)), atol=1)


def test_resolution_stays_and_none_is_made_up(tmp_path, picture_of):
    image = picture_of("RGB", (8, 8))
    image.save(tmp_path / "none.tif")
    image.save(tmp_path / "some.tif", dpi=(300, 200))
    for name, wanted in (("none", None), ("some", (300, 200))):
        image = to_pil(read_picture(tmp_path / f"{name}.tif"))
        for suffix in (".png", ".tif", ".jpg", ".bmp"):
            save_picture(image, tmp_path / f"out{suffix}", NOTE)
            dpi = read_picture(tmp_path / f"out{suffix}").info.get("dpi")
            told = (96, 96) if suffix == ".bmp" and wanted is None else wanted  # that format always tells one
            assert dpi == (None if told is None else pytest.approx(told, abs=0.1)), (name, suffix)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("words", ["bell \x07 and null \0", "half \ud83d", "none \ufffe", "&<" * 40_000])
def test_any_words_make_a_well_formed_note(tmp_path, picture_of, suffix, words):
    path = tmp_path / f"out{suffix}"
    save_picture(picture_of("RGB", (16, 16)), path, replace(NOTE, instruction=words))
    with Image.open(path) as saved:
        packet = saved.info.get("xmp") or saved.info["XML:com.adobe.xmp"]
    packet = packet.decode() if isinstance(packet, bytes) else packet
    text = "".join(ElementTree.fromstring(packet.split("?>", 1)[1].rsplit("<?xpacket", 1)[0]).itertext())
    assert words[:4] in text
    assert ("\ufffd" in text) == (len(words) < 100)
