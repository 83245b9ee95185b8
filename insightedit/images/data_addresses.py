"""Pictures inside data addresses, as pages and chat endpoints take them."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
