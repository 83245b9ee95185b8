"""Where the miniature models live: ids to folders, and folders that appear or change all at once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from insightedit import files
from insightedit.miniatures.sizes import MINI, SIZES, TINY
from insightedit.modeling.pretrained import PREFIX, current_id

RECIPE_FILES = ("builders.py", "sizes.py", "tokenizer.py")  # what the cached tiny models depend on
MARKERS = {
    "clip": "clip/model.safetensors",
    "llava": "llava/model.safetensors",
    "sd": "sd/unet/config.json",
    "ip2p": "ip2p/unet/config.json",
    "blip2": "blip2/model.safetensors",
    "t5": "t5/model.safetensors",
    "pixart": "pixart/transformer/config.json",
}
INTERLEAVED = ("blip2", "t5", "pixart")  # what reads instructions with pictures, and draws
WAIT_SECONDS = 120.0
DEFAULT_ROOT = Path("runs/miniatures")
OLD_ROOT = Path("runs/foundation")  # where version 0.1 put them


def find_miniature(model_id: str) -> str:
    """The folder of `miniature:SIZE/PART`: SIZE one of SIZES, PART one of `MARKERS`; `foundation:` as 0.1 spelled it.

    Tiny ones are built with random weights into the user's cache on first use; the others lie below
    `$INSIGHTEDIT_MINIATURES`, or below `runs/miniatures/SIZE`. A FileNotFoundError says how to train what is not there.
    """
    model_id = current_id(model_id)
    size, _, part = model_id.removeprefix(PREFIX).partition("/")
    if size not in SIZES or part not in MARKERS:
        raise ValueError(
            f"{model_id!r} is not a miniature model: write {PREFIX}SIZE/PART with SIZE one of "
            f"{', '.join(sorted(SIZES))} and PART one of {', '.join(MARKERS)}"
        )
    root = tiny_root() if size == TINY.name else mini_root(size)
    if not (root / MARKERS[part]).is_file():
        command = "pixart" if part in INTERLEAVED else "all"
        raise FileNotFoundError(
            f"{model_id}: no model in {root / part}. Train the miniature base models with "
            f"`python -m insightedit.miniatures {command} --size {size}`, or set INSIGHTEDIT_MINIATURES to the folder "
            "that holds clip/, llava/, sd/ and the others."
        )
    return str(root / part)


def mini_root(size: str = MINI.name) -> Path:
    """`$INSIGHTEDIT_MINIATURES` if set (`$INSIGHTEDIT_FOUNDATION` counts, too), else `runs/miniatures/SIZE`."""
    chosen = os.environ.get("INSIGHTEDIT_MINIATURES") or os.environ.get("INSIGHTEDIT_FOUNDATION")
    return Path(chosen) if chosen else default_root(size)


def default_root(size: str) -> Path:
    """`runs/miniatures/SIZE` below the working directory, or `runs/foundation/SIZE` if models are there alone."""
    new, old = DEFAULT_ROOT / size, OLD_ROOT / size
    return old if old.is_dir() and not new.is_dir() else new


def tiny_root() -> Path:
    """The cached tiny models; built on first use, safely with several processes at once."""
    import torch
    import transformers

    recipe = transformers.__version__.encode()
    recipe += b"".join((Path(__file__).parent / name).read_bytes() for name in RECIPE_FILES)
    root = cache_dir() / f"miniatures-tiny-{hashlib.sha256(recipe).hexdigest()[:12]}"
    if _is_complete(root):
        return root
    # in a distributed run rank 0 builds: transformers saves nothing on the other ranks
    if not (torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank()):
        from insightedit.miniatures.builders import build

        with replace_folder(root, keep_existing=not root.is_dir()) as folder:
            build(TINY, folder)
        return root
    deadline = time.monotonic() + WAIT_SECONDS
    while not _is_complete(root):
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"rank 0 did not build the tiny models in {root} within {WAIT_SECONDS:.0f} s; build them before the "
                "launch with `python -c 'from insightedit.miniatures.folders import tiny_root; tiny_root()'`"
            )
        time.sleep(0.2)
    return root


def _is_complete(root: Path) -> bool:
    return all((root / marker).is_file() for marker in MARKERS.values())


def cache_dir() -> Path:
    """`$INSIGHTEDIT_CACHE`, else `insightedit` in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`)."""
    chosen = os.environ.get("INSIGHTEDIT_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "insightedit"


@contextmanager
def replace_folder(folder: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """An empty folder to be filled, which then takes the place of `folder`; if the body raises, that stays untouched.

    With `keep_existing`, a folder that has appeared there meanwhile stays, and the new one is dropped.
    """
    with files.staging(folder) as place:
        fresh = place / "new"
        fresh.mkdir()
        yield fresh
        files.open_to_others(fresh)
        if not keep_existing:
            files.replace_folder(fresh, folder, lambda _: True)
            return
        with suppress(OSError):  # a folder that is not empty cannot be renamed over
            fresh.rename(folder)
