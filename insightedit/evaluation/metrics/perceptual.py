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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from insightedit.evaluation.metrics.masks import FullMaskError, MaskedPair, to_unit

if TYPE_CHECKING:
    from types import ModuleType

Net = Literal["squeeze", "alex", "vgg"]

MIN_SIDE = 32  # pixels; below, a pooling layer of AlexNet or SqueezeNet has nothing to pool
BATCH_SIZE = 4  # pairs; VGG needs about 0.2 GB for each of 256 px


class Source(NamedTuple):
    """What an LPIPS net is made of.

    `weights` is torchvision's enumeration of the trunk's weights, `heads` the first 16 hex digits of the SHA-256 of
    the file with the heads.
    """

    weights: str
    heads: str


SOURCES: dict[Net, Source] = {
    "squeeze": Source("SqueezeNet1_1_Weights", "4a5350f23600cb79"),
    "alex": Source("AlexNet_Weights", "df73285e35b22355"),
    "vgg": Source("VGG16_Weights", "a78928a0af1e5f0f"),
}

Pair = tuple[np.ndarray, np.ndarray, np.ndarray | None]


class TrunkError(FileNotFoundError):
    """The trunk's weights are not on disk, or are not what they should be."""


class Perceptual:
    """An LPIPS net on its device; made by `build_perceptual`.

    Attributes:
        identity: what was measured with, for records: "net", "heads" and "trunk" (hex digits of their files, or
            "random:<seed>", or "given"), "lpips" (its version).
    """

    def __init__(self, network: nn.Module, *, identity: dict[str, str], device: str | torch.device) -> None:
        self.identity = identity
        self._device = torch.device(device)
        self._network = network.eval().requires_grad_(False).to(self._device)

    def distance(self, first: np.ndarray, second: np.ndarray, *, keep: np.ndarray | None = None) -> float:
        """LPIPS of one pair; see `distances`."""
        return next(self.distances([(first, second, keep)]))

    def distances(self, pairs: Iterable[Pair], *, batch_size: int = BATCH_SIZE) -> Iterator[float]:
        """LPIPS of many pairs, in their order; pairs are drawn as they are needed, `batch_size` at most in memory.

        Args:
            pairs: (first, second, keep): two (H, W, 3), uint8 or floats in 0..1, and None for the mean over all
                layers' maps as published, or (H, W) bool for the mean of the spatial map over these pixels.
            batch_size: pairs that go through the net together; neighbours of one size only.

        Yields:
            0 or more; 0 for equal pictures.

        Raises:
            FullMaskError: if a `keep` has no pixel.
            ValueError: if shapes differ, a side is below 32, values are out of range, or `batch_size` is below 1.
            TypeError: if a dtype is wrong.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; at least one pair goes through the net.")
        batch: list[Pair] = []
        for first, second, keep in pairs:
            _check(first, second, keep)
            if batch and (len(batch) == batch_size or not _fits(batch[0], first, keep)):
                yield from self._measure(batch)
                batch = []
            batch.append((first, second, keep))
        if batch:
            yield from self._measure(batch)

    def background_distances(self, pairs: Iterable[MaskedPair], *, batch_size: int = BATCH_SIZE) -> Iterator[float]:
        """LPIPS of masked pairs: `paper` over the black-painted frame, `strict` over the kept pixels' map.

        Args:
            pairs: from `paper_pair` or `strict_pair`.
            batch_size: see `distances`.

        Yields:
            As `distances`.
        """
        return self.distances(((pair.source, pair.edited, pair.region) for pair in pairs), batch_size=batch_size)

    def _measure(self, batch: list[Pair]) -> list[float]:
        """One pass through the net, in full float32 on every device."""
        self._network.spatial = batch[0][2] is not None
        firsts = self._to_tensor([first for first, _, _ in batch])
        seconds = self._to_tensor([second for _, second, _ in batch])
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            values = self._network(firsts, seconds).cpu().double().numpy()[:, 0]  # [b, h, w] or [b, 1, 1]
        return [
            float(value.mean() if keep is None else value[keep].mean())
            for value, (_, _, keep) in zip(values, batch, strict=True)
        ]

    def _to_tensor(self, pictures: list[np.ndarray]) -> Tensor:
        """(B, 3, H, W) float32 in -1..1."""
        units = np.stack([to_unit(picture, "picture") for picture in pictures])
        return rearrange(torch.from_numpy(units * 2.0 - 1.0), "b h w c -> b c h w").float().to(self._device)


def build_perceptual(
    net: Net = "squeeze",
    *,
    trunk: Path | nn.Module | None = None,
    random_seed: int | None = None,
    device: str | torch.device = "cpu",
) -> Perceptual:
    """An LPIPS net with the v0.1 heads.

    Args:
        net: "squeeze", "alex" or "vgg".
        trunk: file of torchvision's weights, or a module that returns the feature maps that the heads want; None
            takes the file from torchvision's folder.
        random_seed: instead of weights, a random trunk of this seed: for tests only.
        device: where to compute.

    Raises:
        TrunkError: if the weights are missing, damaged or of another network.
        ValueError: if there is no such net, `trunk` and `random_seed` are both given, `lpips` is missing or ships
            other heads.
    """
    if net not in SOURCES:
        raise ValueError(f'net is "{net}"; LPIPS has {", ".join(SOURCES)}.')
    if trunk is not None and random_seed is not None:
        raise ValueError("`trunk` and `random_seed` exclude each other: give one of them.")
    package = _lpips()
    network = _empty_network(package, net)
    if isinstance(trunk, nn.Module):
        network.net, origin = trunk, "given"
    elif random_seed is not None:
        _fill_at_random(network.net, random_seed)
        origin = f"random:{random_seed}"
    else:
        origin = _load_trunk(network.net, trunk or trunk_path(net), net)
    heads = heads_path(net)
    network.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False, assign=True)
    identity = {
        "net": net,
        "heads": check_digest(heads, SOURCES[net].heads, "pip install --force-reinstall lpips==0.1.4"),
        "trunk": origin,
        "lpips": _version_of("lpips"),
    }
    return Perceptual(network, identity=identity, device=device)


def trunk_path(net: Net) -> Path:
    """Where torchvision keeps the trunk's weights: in `checkpoints` of torch's hub folder (see `TORCH_HOME`).

    Raises:
        TrunkError: if the file is not there, with the command that gets it.
    """
    from torchvision import models

    name = SOURCES[net].weights
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
    return Path(_lpips().__path__[0]) / "weights" / "v0.1" / f"{net}.pth"


def check_digest(path: Path, prefix: str, remedy: str) -> str:
    """First 16 hex digits of a file's SHA-256.

    Args:
        path: of the file.
        prefix: hex digits that the SHA-256 has to begin with.
        remedy: what gets the right file.

    Raises:
        TrunkError: if it begins otherwise.
    """
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if not digest.startswith(prefix):
        raise TrunkError(
            f"{path} is not the file that LPIPS was published with (SHA-256 {digest[:16]}..., not {prefix}...): "
            f"{remedy}."
        )
    return digest[:16]


def _lpips() -> ModuleType:
    try:
        import lpips
    except ImportError as error:
        raise ValueError(
            "LPIPS needs the package lpips, which is not installed: pip install 'insightedit[eval]'."
        ) from error
    return lpips


def _version_of(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _empty_network(package: ModuleType, net: Net) -> Any:
    """The `lpips.LPIPS` module without values, which saves VGG's 0.5 GB of unused layers."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.filterwarnings("ignore", category=UserWarning)  # lpips asks torchvision in its old words
        network = package.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    network.scaling_layer = package.ScalingLayer()
    return network


def _fill_at_random(trunk: nn.Module, seed: int) -> None:
    """Kaiming-normal weights, biases of 0, on the CPU; the global random state stays as it is."""
    generator = torch.Generator().manual_seed(seed)
    trunk.to_empty(device="cpu")
    for name, values in trunk.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(values)
        else:
            nn.init.kaiming_normal_(values, nonlinearity="relu", generator=generator)


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


def _check(first: np.ndarray, second: np.ndarray, keep: np.ndarray | None) -> None:
    if first.shape != second.shape:
        raise ValueError(f"the pictures have shapes {first.shape} and {second.shape}: bring them to one size first.")
    if min(first.shape[:2]) < MIN_SIDE:
        raise ValueError(f"the pictures have {first.shape[1]} x {first.shape[0]} px; LPIPS needs {MIN_SIDE} each way.")
    if keep is None:
        return
    if keep.dtype != np.bool_:
        raise TypeError(f"keep has dtype {keep.dtype}; it is bool: cut the mask first.")
    if keep.shape != first.shape[:2]:
        raise ValueError(f"keep has shape {keep.shape}, the pictures {first.shape}: take both in one size.")
    if not keep.any():
        raise FullMaskError("no pixel is left to compare: check the mask, or widen it by less.")


def _fits(pair: Pair, first: np.ndarray, keep: np.ndarray | None) -> bool:
    """Whether another pair can go through the net together with `pair`."""
    return pair[0].shape == first.shape and (pair[2] is None) == (keep is None)
