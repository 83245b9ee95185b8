"""The sizes of miniature base models, as plain numbers.

`tiny` exists for tests: it builds in seconds with random weights. `mini` is what the embedded default is trained on
where there are processor cores alone, `mini128` the same at twice the side, for an accelerator. Both are exported in
less than 48 MiB (docs/lab-notes.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Tower:
    """A transformer; its feed-forward layers are four times as wide."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class ClipSize:
    """CLIPModel: a vision and a text tower, as OpenAI's, only smaller."""

    vision: Tower
    text: Tower
    text_positions: int  # tokens, begin and end included; also the number of Q-Former queries
    projection_dim: int
    vocab_size: int  # upper bound; a small corpus may give fewer


@dataclass(frozen=True)
class LlavaSize:
    """The Llama part of LlavaForConditionalGeneration; its vision tower is CLIP's."""

    hidden_size: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    vocab_size: int  # upper bound, `<pad>` and `<image>` included


@dataclass(frozen=True)
class VaeSize:
    """An AutoencoderKL without mid-block attention, or an AutoencoderDC.

    AutoencoderDC folds pixels into channels first, so that nearly all its work is done on the small grid. On a CPU it
    trained two to three times as fast as an AutoencoderKL of the same size (docs/lab-notes.md).
    """

    kind: Literal["kl", "dc"]
    latent_channels: int
    block_out_channels: tuple[int, ...]  # the latent factor is 2 ** (len - 1)
    layers_per_block: int
    norm_num_groups: int


@dataclass(frozen=True)
class UNetSize:
    """Text-to-image UNet2DConditionModel."""

    block_out_channels: tuple[int, ...]
    layers_per_block: int
    cross_attention: tuple[bool, ...]  # per resolution, finest first
    heads: tuple[int, ...]  # per resolution
    global_text: bool  # pooled text states join the time embedding, which then scales and shifts every layer


@dataclass(frozen=True)
class ReaderSize:
    """BLIP-2's vision tower and Q-Former, and the T5 encoder that their tokens go into."""

    vision: Tower
    qformer: Tower
    text: Tower  # with feed-forward layers twice as wide
    num_queries: int  # tokens of one picture
    vocab_size: int  # upper bound, the sentinels included


@dataclass(frozen=True)
class PixartSize:
    """PixArtTransformer2DModel on the autoencoder's latents."""

    num_layers: int
    num_heads: int
    head_dim: int
    patch_size: int  # latent cells of one patch, along one side


@dataclass(frozen=True)
class Size:
    """One coherent set of miniature base models."""

    name: str
    image_size: int  # pixels, square
    patch_size: int  # pixels of one CLIP patch
    clip: ClipSize
    llava: LlavaSize
    vae: VaeSize
    unet: UNetSize
    reader: ReaderSize
    pixart: PixartSize

    @property
    def num_patches(self) -> int:
        """Vision patches of one picture, without the class token."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def latent_factor(self) -> int:
        """Pixels per latent cell along one side."""
        return 2 ** (len(self.vae.block_out_channels) - 1)


TINY = Size(
    name="tiny",
    image_size=32,
    patch_size=8,
    clip=ClipSize(Tower(32, 2, 2), Tower(32, 2, 2), text_positions=16, projection_dim=32, vocab_size=768),
    llava=LlavaSize(hidden_size=48, num_layers=2, num_heads=2, ffn_dim=96, vocab_size=512),
    vae=VaeSize("kl", latent_channels=4, block_out_channels=(16, 16, 32), layers_per_block=1, norm_num_groups=8),
    unet=UNetSize(
        block_out_channels=(32, 64), layers_per_block=1, cross_attention=(True, True), heads=(2, 2), global_text=False
    ),
    reader=ReaderSize(Tower(32, 2, 2), Tower(32, 2, 2), Tower(32, 2, 2), num_queries=4, vocab_size=512),
    pixart=PixartSize(num_layers=2, num_heads=2, head_dim=16, patch_size=2),
)

MINI = Size(
    name="mini",
    image_size=64,
    patch_size=8,
    clip=ClipSize(Tower(192, 5, 6), Tower(192, 4, 6), text_positions=40, projection_dim=192, vocab_size=2048),
    llava=LlavaSize(hidden_size=256, num_layers=4, num_heads=4, ffn_dim=512, vocab_size=2048),
    vae=VaeSize("dc", latent_channels=16, block_out_channels=(64, 64, 128), layers_per_block=3, norm_num_groups=0),
    unet=UNetSize(
        block_out_channels=(96, 160), layers_per_block=1, cross_attention=(False, True), heads=(3, 5), global_text=True
    ),
    reader=ReaderSize(Tower(192, 4, 6), Tower(192, 4, 6), Tower(192, 4, 6), num_queries=16, vocab_size=1024),
    pixart=PixartSize(num_layers=8, num_heads=4, head_dim=64, patch_size=2),
)

MINI128 = replace(
    MINI,
    name="mini128",
    image_size=128,
    unet=UNetSize(  # one grid more: the coarsest keeps its 8 x 8 cells
        block_out_channels=(64, 96, 160),
        layers_per_block=1,
        cross_attention=(False, True, True),
        heads=(2, 3, 5),
        global_text=True,
    ),
)

SIZES = {size.name: size for size in (TINY, MINI, MINI128)}


def get_size(name: str) -> Size:
    """The size called `name`; a ValueError names those that there are."""
    if name not in SIZES:
        raise ValueError(f"unknown miniature size {name!r}: choose one of {', '.join(sorted(SIZES))}")
    return SIZES[name]
