"""The real model classes at a size that builds in a second: what every test of this project runs on."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from insightedit.miniatures.folders import tiny_root


@cache
def tiny_models() -> Path:
    """Root folder of the tiny base models (`clip/`, `llava/`, `sd/`), built once per machine; read only.

    Returns:
        Path whose parts are the same as `insightedit.miniatures.resolve("miniature:tiny/PART")`.
    """
    return tiny_root()
