"""Miniature counterparts of what a real run downloads: a CLIP, a LLaVA and a text-to-image diffusion model.

They live in the stock classes and folder formats of transformers and diffusers, so that everything else in this
package meets them on the same loading path as LLaVA-1.5 and Stable Diffusion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from insightedit.miniatures.sizes import Size


def build(size: str | Size, root: str | Path, seed: int = 0) -> Path:
    """Build every miniature base model with random weights; see `insightedit.miniatures.builders.build`.

    Args:
        size: "tiny", "mini", or a `Size` of your own.
        root: folder that gets a folder for each part.
        seed: of the weights; the same seed gives the same bytes.

    Returns:
        `root` as a path.
    """
    from insightedit.miniatures.builders import build as build_folders

    return build_folders(size, root, seed)
