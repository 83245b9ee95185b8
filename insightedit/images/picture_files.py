"""Files of pictures: which there are, the one way to open them, and data addresses that hold pictures."""

from __future__ import annotations

import base64
import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, PngImagePlugin, UnidentifiedImageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SIDE = 16_384  # pixels
MAX_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs

# Explicit, since Pillow goes by content: an EPS named .png would start Ghostscript. Of layered or vector formats
# (PSD, WMF) only a preview could be read.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
PICTURE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif"}
    | {".tiff", ".webp"}
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

# Pillow stops at 1 MB of text or profile a chunk: whole pictures with long prompts or printer profiles do not open.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


class PictureError(ValueError):
    """A picture that cannot be used: damaged, of no known kind, empty, too large, or with values out of range."""


def is_picture_file(path: str | os.PathLike) -> bool:
    """Whether a file found in a folder is to be taken for a picture: by its ending, nothing is opened.

    Hidden files (`._photo.jpg` of macOS), folders, pipes and links that lead nowhere are none.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURE_SUFFIXES or path.name.startswith("."):
        return False
    with suppress(OSError):
        return path.is_file()
    return False


@contextmanager
def open_picture(source: Any, name: str | None = None) -> Iterator[Image.Image]:
    """The package's only way to open a picture: one list of formats, one limit of size, one type of error.

    It takes a path, content, binary file object or Pillow image, and raises as `reading.read_picture`; whatever Pillow
    raises while the image is decoded inside becomes a `PictureError`, too.
    """
    if not (isinstance(source, str | os.PathLike | bytes | Image.Image) or hasattr(source, "read")):
        raise TypeError(
            f"`image` is a {type(source).__name__}; pass a path, bytes, a binary file, a PIL image, an array "
            "(H, W, C) or a tensor (C, H, W)."
        )
    name = name or name_of(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata are no faults, and large pictures have our own limit
            if isinstance(source, Image.Image):
                check_size(*source.size, name)
                yield source
                return
            with _stream(source, name) as stream, _opened(stream, name) as image:
                check_size(*image.size, name)
                yield image
    except (PictureError, FileNotFoundError):
        raise
    except UnidentifiedImageError as error:
        kinds = ", ".join((*FORMATS, "HEIC"))
        raise PictureError(
            f"{name} is not an image that can be read here ({kinds}): convert it to PNG or JPEG."
        ) from error
    except Image.DecompressionBombError as error:
        raise PictureError(_too_large(name, "more pixels than that")) from error
    except MemoryError as error:
        raise PictureError(f"{name} needs more memory than there is: scale it down.") from error
    except Exception as error:
        # for damaged data Pillow raises anything: RuntimeError, SyntaxError, struct.error, zlib.error ...
        told = str(error) or type(error).__name__
        raise PictureError(f"{name} is damaged or cut off ({told}): copy or export it again.") from error


def file_format(path: str | os.PathLike) -> str | None:
    """Pillow's name of a picture file's format, by its content: "JPEG", "PNG"."""
    with open_picture(path) as opened:
        return "JPEG" if opened.format == "MPO" else opened.format  # several JPEGs in one, as telephones write them


def name_of(source: Any) -> str:
    """What messages call a picture: its path in letters that can be printed."""
    if isinstance(source, str | os.PathLike):
        return str(source).encode("utf-8", "replace").decode()
    return "the given image"


@contextmanager
def _stream(source: Any, name: str) -> Iterator[IO[bytes]]:
    """A seekable binary file; only what is opened here is closed."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    if hasattr(source, "read"):
        yield source if source.seekable() else io.BytesIO(source.read())
        return
    try:
        kind = os.stat(source).st_mode  # a pipe is refused before it is opened, which would wait for a writer
        if stat.S_ISDIR(kind):
            raise PictureError(f"{name} is a folder, not an image: name one picture in it.")
        if not stat.S_ISREG(kind):
            raise PictureError(f"{name} is a pipe or device, not a file: save the picture in a file.")
        file = open(source, "rb")  # noqa: SIM115
    except PictureError:
        raise
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character in it
        raise FileNotFoundError(f"No file at {name}: check the path of the image.") from error
    except OSError as error:
        raise PictureError(f"{name} cannot be read ({error.strerror}): check its name and rights.") from error
    with file:
        yield file


def _opened(stream: IO[bytes], name: str) -> Image.Image:
    """Pillow's image, its header read; HEIC through pillow-heif."""
    start = stream.tell()
    head = stream.read(64)
    stream.seek(start)
    if not (head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS) or b"avi" in head[8:]:
        return Image.open(stream, formats=FORMATS)
    try:
        from pillow_heif import open_heif
    except ImportError:
        raise PictureError(
            f"{name} is a HEIC picture: `pip install insightedit[heic]` to read it, or convert it to JPEG or PNG."
        ) from None
    heif = open_heif(stream)
    check_size(*heif.size, name)
    return heif.to_pillow()


def check_size(width: int, height: int, name: str) -> None:
    """Refuse what has no pixel, or more than memory and time are meant for."""
    if width < 1 or height < 1:
        raise PictureError(f"{name} is empty ({width} x {height} px): give a picture with at least one pixel.")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise PictureError(_too_large(name, f"{width:,} x {height:,} px"))


def _too_large(name: str, size: str) -> str:
    return (
        f"{name} is too large ({size}): the limit is {MAX_SIDE:,} px a side, {MAX_PIXELS:,} pixels in all; "
        "scale it down or cut out the part to edit."
    )


def data_address(data: bytes, media_type: str) -> str:
    """`data:MEDIA_TYPE;base64,...`."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def picture_address(picture: Image.Image, file_format: str = "PNG", **options: Any) -> str:
    """A picture, of a mode that Pillow's format can hold, inside a data address; nothing but its pixels."""
    buffer = io.BytesIO()
    Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(buffer, format=file_format, **options)
    return data_address(buffer.getvalue(), f"image/{file_format.lower()}")


def figure_address(figure: Figure) -> str:
    """A plot as SVG inside a data address, without date and random names: equal plots give equal bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "insightedit", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return data_address(buffer.getvalue(), "image/svg+xml")
