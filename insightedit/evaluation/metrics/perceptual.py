"""LPIPS: the distance of two pictures in the features of an ImageNet network, through the package `lpips`.

`lpips` ships the linear heads only; the trunk under them (SqueezeNet 1.1, AlexNet or VGG-16) comes from
torchvision. Nothing is ever downloaded here: the trunk's file has to lie where torchvision keeps it, or be named,
and `TrunkError` says how to get it. A random trunk under the real heads measures nothing that was published; it
serves tests, and its numbers carry its name (`Perceptual.identity`).

Which net: SmartEdit and InsightEdit report SqueezeNet, most papers AlexNet, training losses use VGG.

Source: Zhang et al. 2018, v0.1 heads.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from torch import nn

from insightedit.evaluation.metrics.masks import check_keep, check_same_size, to_unit
from insightedit.evaluation.metrics.pretrained import Device

Net = Literal["squeeze", "alex", "vgg"]

MIN_SIDE = 32  # pixels; below, a pooling layer of AlexNet or SqueezeNet has nothing to pool
# torchvision's enumerations of the trunks' weights, and the first 16 hex digits of the SHA-256 of the heads' files
TRUNKS: dict[Net, str] = {"squeeze": "SqueezeNet1_1_Weights", "alex": "AlexNet_Weights", "vgg": "VGG16_Weights"}
HEADS: dict[Net, str] = {"squeeze": "4a5350f23600cb79", "alex": "df73285e35b22355", "vgg": "a78928a0af1e5f0f"}


class TrunkError(FileNotFoundError):
    """The trunk's weights are not on disk, or are not what they should be."""


class Perceptual:
    """An LPIPS net on its device; made by `build_perceptual`.

    `identity` says what was measured with: "net", "heads" and "trunk" (digests or "random:<seed>"), "lpips" (version).
    """

    def __init__(self, network: nn.Module, *, identity: dict[str, str], device: Device) -> None:
        self.identity = identity
        self._device = torch.device(device)
        self._network = network.eval().requires_grad_(False).to(self._device)

    def distance(self, first: np.ndarray, second: np.ndarray, *, keep: np.ndarray | None = None) -> float:
        """LPIPS of a pair, 0 for equal pictures, in full float32 on every device; arguments and errors as in `pixels`.

        With `keep`, the mean of the spatial map over these pixels; without, over all layers' maps, as published.
        """
        check_same_size(first, second)
        if min(first.shape[:2]) < MIN_SIDE:
            raise ValueError(
                f"the pictures have {first.shape[1]} x {first.shape[0]} px; LPIPS needs {MIN_SIDE} each way."
            )
        if keep is not None:
            check_keep(keep, first)
        # published: each layer's map is averaged by itself; with `keep` the maps are first brought to the picture's
        # size and added up, so that single pixels can be left out
        self._network.spatial = keep is not None
        # lpips expects (B, 3, H, W) in -1..1
        signed = (torch.from_numpy(to_unit(one, "picture") * 2.0 - 1.0).float() for one in (first, second))
        inputs = [rearrange(one, "h w c -> 1 c h w").to(self._device) for one in signed]
        # TF32 rounds to 10 bits, which the third decimal would show
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            values = self._network(*inputs).cpu().double().numpy()[0, 0]  # [h, w] or [1, 1]
        return float(values.mean() if keep is None else values[keep].mean())


def build_perceptual(
    net: Net = "squeeze", *, trunk: Path | None = None, random_seed: int | None = None, device: Device = "cpu"
) -> Perceptual:
    """An LPIPS net with the v0.1 heads.

    `trunk` is a file of torchvision's weights, None for that in its folder; `random_seed` makes a random one, for
    tests.
    """
    if net not in HEADS:
        raise ValueError(f'net is "{net}"; LPIPS has {", ".join(HEADS)}.')
    if trunk is not None and random_seed is not None:
        raise ValueError("`trunk` and `random_seed` exclude each other: give one of them.")
    try:
        import lpips
    except ImportError as error:
        raise ValueError(
            "LPIPS needs the package lpips, which is not installed: pip install 'insightedit[eval]'."
        ) from error
    with warnings.catch_warnings(), torch.device("meta"):  # without values: VGG has 0.5 GB of layers that are unused
        warnings.filterwarnings("ignore", category=UserWarning)  # lpips asks torchvision in its old words
        network = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    network.scaling_layer = lpips.ScalingLayer()  # its constants are made with it, and no file holds them
    if random_seed is not None:
        # Kaiming-normal weights, biases of 0, on the CPU; the global random state stays as it is
        generator = torch.Generator().manual_seed(random_seed)
        for name, values in network.net.to_empty(device="cpu").named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(values)
            else:
                nn.init.kaiming_normal_(values, nonlinearity="relu", generator=generator)
        origin = f"random:{random_seed}"
    else:
        origin = _load_trunk(network.net, trunk or trunk_path(net), net)
    heads = heads_path(net)
    network.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False, assign=True)
    identity = {
        "net": net,
        "heads": check_digest(heads, HEADS[net], "pip install --force-reinstall lpips==0.1.4"),
        "trunk": origin,
        "lpips": version("lpips"),
    }
    return Perceptual(network, identity=identity, device=device)


def trunk_path(net: Net) -> Path:
    """Where torchvision keeps the trunk's weights: in `checkpoints` of torch's hub folder (see `TORCH_HOME`)."""
    from torchvision import models

    name = TRUNKS[net]
    weights = getattr(models, name).IMAGENET1K_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]
    if not path.is_file():
        command = f'python -c "from torchvision.models import {name} as W; W.IMAGENET1K_V1.get_state_dict()"'
        raise TrunkError(
            f"LPIPS ({net}) needs the ImageNet weights {path.name}, and {path} is not there: run {command} where "
            f"there is a network ({weights.meta['_file_size']:.0f} MB from {weights.url}), or copy the file there."
        )
    return path


def heads_path(net: Net) -> Path:
    """File of the v0.1 linear heads in the package `lpips`."""
    return Path(str(files("lpips"))) / "weights" / "v0.1" / f"{net}.pth"


def check_digest(path: Path, prefix: str, remedy: str) -> str:
    """First 16 hex digits of a file's SHA-256; TrunkError, with the remedy, if it does not begin with the prefix."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if not digest.startswith(prefix):
        raise TrunkError(
            f"{path} is not the file that LPIPS was published with (SHA-256 {digest[:16]}..., not {prefix}...): "
            f"{remedy}."
        )
    return digest[:16]


def _load_trunk(trunk: nn.Module, path: Path, net: Net) -> str:
    """Take the features' weights from torchvision's file; returns hex digits of its SHA-256."""
    if not path.is_file():
        raise TrunkError(f"No file at {path}: check the path of the trunk's weights.")
    promised = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)  # as torchvision names its files
    digest = check_digest(path, promised[1] if promised else "", "delete it and get it again")
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
        wanted = {key: "features." + key.split(".", 1)[1] for key in trunk.state_dict()}  # slice2.3.x -> 3.x
        trunk.load_state_dict({key: given[name] for key, name in wanted.items()}, assign=True)
    except Exception as error:  # a pickle of anything else fails in many ways
        raise TrunkError(
            f"{path} does not hold torchvision's weights of LPIPS's trunk ({net}): {type(error).__name__}: {error}"
        ) from error
    return f"sha256:{digest}"
