"""Writing edited pictures: atomically, and with a note of how they were made.

The note is what the IPTC asks for in pictures made with trained models: a digital source type in XMP
(`compositeWithTrainedAlgorithmicMedia` where the background was locked, else `trainedAlgorithmicMedia`), the
software, the instruction and the seed; PNG files also get them as text fields. PNG, JPEG, WebP and TIFF carry
the note, other formats do not. It is a statement, not a signature: anybody can remove it. Metadata of the
source is not copied, so a signature of the source never claims the edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from insightedit.files import write_atomically

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
LOSSY = {".jpg", ".jpeg", ".webp"}

_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmp:CreatorTool={software}
 Iptc4xmpExt:DigitalSourceType={source_type}>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{description}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""

_MODES = {
    ".png": {"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"},
    ".jpg": {"L", "RGB", "CMYK"},
    ".jpeg": {"L", "RGB", "CMYK"},
    ".webp": {"RGB", "RGBA"},
    ".bmp": {"1", "L", "P", "RGB"},
    ".tif": {"1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I"},
    ".tiff": {"1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I"},
}


@dataclass(frozen=True)
class Provenance:
    """How a picture was made.

    Attributes:
        software: name and version of the program.
        instruction: what the user asked for.
        seed: of the noise.
        background_locked: whether pixels of the source remain in the picture.
        warnings: why the picture may not be what was asked for.
    """

    software: str
    instruction: str
    seed: int
    background_locked: bool
    warnings: tuple[str, ...] = ()

    @property
    def digital_source_type(self) -> str:
        """IPTC's address for the kind of picture."""
        return SOURCE_TYPES + ("compositeWithT" if self.background_locked else "t") + "rainedAlgorithmicMedia"

    def xmp(self) -> bytes:
        """The note as an XMP packet."""
        description = f"Edited by instruction: {self.instruction} (seed {self.seed})"
        description += "".join(f". Warning: {message}" for message in self.warnings)
        return _XMP.format(
            software=quoteattr(self.software),
            source_type=quoteattr(self.digital_source_type),
            description=escape(description),
        ).encode("utf-8")

    def png_text(self) -> PngInfo:
        """The note as PNG text fields, XMP included."""
        text = PngInfo()
        text.add_text("Software", self.software)
        text.add_itxt("Instruction", self.instruction)
        text.add_text("Seed", str(self.seed))
        if self.warnings:
            text.add_itxt("Warning", "\n".join(self.warnings))
        text.add_text("DigitalSourceType", self.digital_source_type)
        text.add_itxt("XML:com.adobe.xmp", self.xmp().decode("utf-8"))
        return text


def save_picture(image: Image.Image, path: Path, provenance: Provenance | None = None) -> None:
    """Write a picture; an old file is replaced only once the new one is whole.

    Args:
        image: any mode; CMYK and 16-bit pictures are converted to RGB or 8 bits only where the format has no
            place for them and nothing visible is lost, else the error says which format to take.
        path: ending one of .png .jpg .jpeg .webp .bmp .tif .tiff.
        provenance: the note to write.

    Raises:
        ValueError: for an unknown ending, or a mode that the format cannot hold.
        FileNotFoundError: if the folder does not exist.
    """
    suffix = path.suffix.lower()
    check_suffix(path)
    image = _fit_mode(image, suffix)
    options: dict[str, Any] = {key: image.info[key] for key in ("icc_profile", "dpi") if key in image.info}
    if suffix in (".jpg", ".jpeg"):
        options["quality"] = 95
    if suffix == ".webp":
        options["lossless"] = True
    if provenance is not None and suffix == ".png":
        options["pnginfo"] = provenance.png_text()
    elif provenance is not None and suffix in (".jpg", ".jpeg", ".webp", ".tif", ".tiff"):
        options["xmp" if not suffix.startswith(".tif") else "tiffinfo"] = (
            provenance.xmp() if not suffix.startswith(".tif") else {700: provenance.xmp()}
        )
    file_format = Image.registered_extensions()[suffix]
    with write_atomically(path) as aside:
        image.save(aside, format=file_format, **options)


def check_suffix(path: Path) -> None:
    """Refuse a file ending that no picture can be written to, before any work is done.

    Raises:
        ValueError: names the endings that can be written.
    """
    if path.suffix.lower() not in _MODES:
        raise ValueError(
            f"Cannot write {path.name!r}: name a file that ends in one of {', '.join(sorted(_MODES))}."
        )


def _fit_mode(image: Image.Image, suffix: str) -> Image.Image:
    if image.mode in _MODES[suffix]:
        return image
    if image.mode in ("LA", "RGBA") and suffix != ".webp":
        raise ValueError(f"{suffix} files cannot hold the picture's transparency: write a .png instead.")
    if image.mode in ("I;16", "I"):
        raise ValueError(f"{suffix} files cannot hold the picture's 16 bits: write a .png or .tif instead.")
    converted = image.convert("RGBA" if image.mode == "LA" else "RGB")
    if image.mode == "CMYK":
        converted.info.pop("icc_profile", None)  # it describes inks
    return converted
