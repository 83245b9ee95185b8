"""Imported folders of every system, made once; read only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from insightedit.export.importers import import_checkpoint
from tests.importers import published

if TYPE_CHECKING:
    from pathlib import Path


def drawing_bases(root: Path) -> list[str]:
    return [f"llava={root}/llava", f"vision={root}/clip", f"sd={root}/sd"]


def stored(folder: Path, part: str) -> dict[str, torch.Tensor]:
    """What a part's safetensors hold."""
    (path,) = (folder / part).glob("*.safetensors")
    return load_file(path)


@pytest.fixture(scope="session")
def made(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """system -> (folder, source tensors by file, report)."""
    work = tmp_path_factory.mktemp("imported")
    bases = drawing_bases(tiny_root)
    torch.manual_seed(1)
    out: dict[str, Any] = {}
    files = published.smartedit(tiny_root)
    source = published.write_smartedit(work / "smartedit-source", files)
    report = import_checkpoint("smartedit", source, work / "smartedit", bases=bases)
    out["smartedit"] = (work / "smartedit", files, report)
    files = {**published.mgie(tiny_root), "llava/pytorch_model-00001-of-00001.bin": published.llava_v1()}
    published.write(work / "mgie-source", {n: t for n, t in files.items() if "/" not in n})
    published.write(work, {"llava/pytorch_model-00001-of-00001.bin": files["llava/pytorch_model-00001-of-00001.bin"]})
    report = import_checkpoint("mgie", work / "mgie-source", work / "mgie", bases=[*bases, f"weights={work}/llava"])
    out["mgie"] = (work / "mgie", files, report)
    files = {"mige.pth": published.mige(tiny_root)}
    torch.save({"state_dict": files["mige.pth"], "epoch": 20, "optimizer": {"lr": 1e-5}}, work / "mige.pth")
    report = import_checkpoint("mige", work / "mige.pth", work / "mige", bases=mige_bases(tiny_root))
    out["mige"] = (work / "mige", files, report)
    files = {"unet": published.edit_unet(tiny_root)}
    config = (tiny_root / "ip2p/unet/config.json").read_text()
    (work / "ip2p-source/unet").mkdir(parents=True)
    (work / "ip2p-source/unet/config.json").write_text(config)
    save_file(files["unet"], work / "ip2p-source/unet/diffusion_pytorch_model.safetensors")
    report = import_checkpoint("instructpix2pix", work / "ip2p-source", work / "ip2p")
    out["instructpix2pix"] = (work / "ip2p", files, report)
    return out


def mige_bases(root: Path) -> list[str]:
    return [f"blip2={root}/blip2", f"t5={root}/t5", f"pixart={root}/pixart", f"vae={root}/sd"]


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8))
