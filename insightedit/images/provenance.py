"""Writing edited pictures: atomically, and with a note of how they were made.

The note is what the IPTC asks for in pictures made with trained models: a digital source type in XMP
(`compositeWithTrainedAlgorithmicMedia` where the background was locked, else `trainedAlgorithmicMedia`), the
software, the instruction and the seed; PNG files also get them as text fields. PNG, JPEG, WebP and TIFF carry
the note, other formats do not. A picture that was left as it was says so, and names no source type. It is a
statement, not a signature: anybody can remove it. Metadata of the source is not copied, so a signature of the
source never claims the edit.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from insightedit.files import write_atomically
from insightedit.images.colour_profiles import is_srgb
from insightedit.images.picture_files import file_format
from insightedit.images.reading import Picture, read_picture, to_rgb

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
JPEG = (".jpg", ".jpeg", ".jfif")
LOSSY = {*JPEG, ".webp"}
WEBP_SIDE = 16_383  # pixels, of the format
MAX_NOTE = 8_000  # letters: a JPEG file holds 64 KB of XMP

_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmp:CreatorTool={software}{source_type}>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{description}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""

_MODES = {
    ".png": {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"},
    **{ending: {"L", "RGB", "CMYK"} for ending in JPEG},
    ".webp": {"RGB", "RGBA"},
    ".bmp": {"1", "L", "P", "RGB"},
    **{ending: {"1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"} for ending in (".tif", ".tiff")},
}


@dataclass(frozen=True)
class Provenance:
    """How a picture was made."""

    software: str  # name and version of the program
    instruction: str  # what the user asked for
    seed: int  # of the noise
    background_locked: bool  # whether pixels of the source remain in the picture
    warnings: tuple[str, ...] = ()  # why the picture may not be what was asked for
    understood_as: str | None = None  # what the model said that it would do
    confidence: float | None = None  # 0..1, that this was right
    is_changed: bool = True  # False for a picture that was left as it was

    @property
    def digital_source_type(self) -> str | None:
        """IPTC's address for the kind of picture; None for one that no model changed."""
        if not self.is_changed:
            return None
        return SOURCE_TYPES + ("compositeWithT" if self.background_locked else "t") + "rainedAlgorithmicMedia"

    def xmp(self) -> bytes:
        """The note as an XMP packet."""
        done = "Edited by instruction" if self.is_changed else "Left as it was, asked for"
        description = f"{done}: {self.instruction} (seed {self.seed})"
        description += "".join(f". Warning: {message}" for message in self.warnings)
        kind = self.digital_source_type
        return _XMP.format(
            software=quoteattr(self.software),
            source_type="" if kind is None else f"\n Iptc4xmpExt:DigitalSourceType={quoteattr(kind)}",
            description=escape(_plain(description[:MAX_NOTE])),
        ).encode("utf-8")


def save_picture(image: Image.Image, path: Path, provenance: Provenance | None = None) -> None:
    """Write a picture and its note as .png .jpg .jpeg .jfif .webp .bmp .tif or .tiff, whole or not at all.

    The mode is converted only where the format has no place for it and nothing visible is lost (CMYK to sRGB, in PNG
    floats and 32-bit integers to 16 bits), else the error says which format to take.

    Raises:
        ValueError: for an unknown ending, or a mode or colour profile that the format cannot hold.
        FileNotFoundError: if the folder does not exist.
    """
    suffix = path.suffix.lower()
    check_output(path)
    image = _fit_mode(image, suffix)
    options: dict[str, Any] = {key: image.info[key] for key in ("icc_profile", "dpi") if key in image.info}
    if suffix in JPEG:
        options["quality"] = 95
    if suffix == ".png":
        options["compress_level"] = 3  # of 9: half the time of Pillow's 6 for files of about the same size
    if suffix == ".webp":
        options["lossless"] = True
    if provenance is not None and suffix == ".png":
        text = options["pnginfo"] = PngInfo()
        text.add_text("Software", provenance.software)
        text.add_itxt("Instruction", _plain(provenance.instruction))
        text.add_text("Seed", str(provenance.seed))
        if provenance.warnings:
            text.add_itxt("Warning", _plain("\n".join(provenance.warnings)))
        if provenance.understood_as:
            text.add_itxt("Understood", _plain(provenance.understood_as))
        if provenance.confidence is not None:
            text.add_text("Confidence", f"{provenance.confidence:.3f}")
        if provenance.digital_source_type:
            text.add_text("DigitalSourceType", provenance.digital_source_type)
        text.add_itxt("XML:com.adobe.xmp", provenance.xmp().decode("utf-8"))
    elif provenance is not None and suffix.startswith(".tif"):
        options["tiffinfo"] = {700: provenance.xmp()}
    elif provenance is not None and suffix in LOSSY:
        options["xmp"] = provenance.xmp()
    with write_atomically(path) as aside:
        image.save(aside, format=Image.registered_extensions()[suffix], **options)


def save_unchanged(source: Path, image: Image.Image, path: Path, provenance: Provenance) -> bool:
    """Write a picture that nothing was done to; gives whether the file is a copy, byte for byte.

    It is where the ending names the format of the file `source`. Elsewhere `image`, as it was read from that, is
    written as `save_picture` does: its pixels, upright, without loss where the format has none.
    """
    check_output(path)
    is_copy = file_format(source) == Image.registered_extensions()[path.suffix.lower()]
    if is_copy:
        with write_atomically(path) as aside:
            shutil.copyfile(source, aside)
    else:
        save_picture(image, path, provenance)
    return is_copy


def check_output(path: Path, picture: Picture | None = None) -> None:
    """Refuse a file that a picture cannot be written to, before any work is done; None: by its ending alone."""
    suffix = path.suffix.lower()
    if suffix not in _MODES:
        raise ValueError(f"Cannot write {path.name!r}: name a file that ends in one of {', '.join(sorted(_MODES))}.")
    if picture is not None and picture.mode is not None:
        _check_mode(picture.mode, picture.info, suffix)
        if suffix == ".webp" and max(picture.size) > WEBP_SIDE:
            raise ValueError(f".webp files hold up to {WEBP_SIDE:,} px a side: write a .png instead.")


def _check_mode(mode: str, info: Mapping[str, Any], suffix: str) -> None:
    if suffix == ".bmp" and mode in ("L", "RGB") and not is_srgb(info.get("icc_profile"), len(mode)):
        raise ValueError(".bmp files cannot hold the picture's colour profile: write a .png instead.")
    if mode in _MODES[suffix] or suffix == ".png":
        return
    if mode in ("LA", "RGBA") and suffix != ".webp":
        raise ValueError(f"{suffix} files cannot hold the picture's transparency: write a .png instead.")
    if mode in ("I;16", "I", "F"):
        depth = "floats" if mode == "F" else "16 bits"
        raise ValueError(f"{suffix} files cannot hold the picture's {depth}: write a .png or .tif instead.")


def _fit_mode(image: Image.Image, suffix: str) -> Image.Image:
    _check_mode(image.mode, image.info, suffix)
    if image.mode in _MODES[suffix]:
        return image
    if image.mode in ("I", "F"):  # PNG: 0..65535, [0, 1]
        values = np.rint(np.asarray(image) * (65535.0 if image.mode == "F" else 1.0)).astype(np.uint16)
        fitted = Image.fromarray(values)
        fitted.info.update(image.info)
        return fitted
    picture = read_picture(image)
    rgb = to_rgb(replace(picture, alpha=None))  # sRGB, so the profile is not written
    fitted = Image.fromarray(rgb)
    if picture.alpha is not None:
        fitted.putalpha(Image.fromarray(picture.alpha))
    fitted.info.update({key: value for key, value in picture.info.items() if key != "icc_profile"})
    return fitted


def _plain(text: str) -> str:
    """A text as XML can hold it: control characters and halves of characters become the sign for that."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
