"""Blip2T5Comprehension: an instruction with pictures in it -> text states that the denoiser reads.

Stock `transformers` classes: BLIP-2's vision tower and Q-Former turn a picture into a few tokens, which stand in the
input of a T5 encoder where the instruction says `<imagehere>`. Between the two stands bridging's feature fusion.

Source: MIGE, section 3.2.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoTokenizer, T5EncoderModel
from transformers.models.blip_2.configuration_blip_2 import Blip2Config
from transformers.models.blip_2.modeling_blip_2 import Blip2PreTrainedModel, Blip2QFormerModel, Blip2VisionModel

from insightedit.comprehension.base import Comprehension
from insightedit.comprehension.interleaved_tokenization import InterleavedTokenizer
from insightedit.modeling.offloading import execution_device, in_forward
from insightedit.modeling.pretrained import (
    load_pretrained,
    open_base_model,
    processor_path,
    recompute_activations,
    resolve_model_id,
)
from insightedit.types import ComprehensionStates, TokenBatch

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedTokenizerBase

    from insightedit.config.schema import Config

BLIP2, T5 = "a BLIP-2 in transformers' format", "a T5 in transformers' format"


class Blip2PictureEncoder(Blip2PreTrainedModel):
    """BLIP-2 without its language model: vision tower, Q-Former and projection, under their stock names.

    A stock BLIP-2 folder (`Salesforce/blip2-flan-t5-xxl`) loads as it is; its language model is passed over.

    Args:
        config: a stock `Blip2Config`.
    """

    _keys_to_ignore_on_load_unexpected = [r"^language_model\."]  # noqa: RUF012 - transformers' contract
    _keep_in_fp32_modules = ["query_tokens", "qformer"]  # noqa: RUF012 - as stock BLIP-2

    def __init__(self, config: Blip2Config) -> None:
        super().__init__(config)
        width = config.qformer_config.hidden_size
        self.vision_model = Blip2VisionModel._from_config(config.vision_config)
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, width))
        self.qformer = Blip2QFormerModel._from_config(config.qformer_config)
        self.language_projection = nn.Linear(width, config.text_config.hidden_size)
        self.post_init()

    @classmethod
    def from_stock(cls, model: str, dtype: torch.dtype = torch.float32) -> Blip2PictureEncoder:
        """Load a BLIP-2 folder or hub id, whole.

        Raises:
            ValueError: if the folder lacks weights of vision tower, Q-Former or projection.
        """
        return load_pretrained(cls, model, dtype=dtype)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pixels -> (N, Q, D) Q-Former tokens, D its own width (before the projection)."""
        patches = self.vision_model(pixel_values=pixel_values).last_hidden_state
        queries = self.query_tokens.expand(len(patches), -1, -1)
        return self.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state

    def project(self, tokens: Tensor) -> Tensor:
        """(N, Q, D) tokens -> (N, Q, D_text), the text encoder's input width."""
        with in_forward(self):
            return self.language_projection(tokens.to(self.language_projection.weight.dtype))


def load_vision_encoder(
    vision: str, dtype: torch.dtype = torch.float32
) -> tuple[Blip2PictureEncoder, BaseImageProcessor]:
    """BLIP-2 without language model, and its image processor, from a folder or hub id."""
    processor = load_pretrained(AutoImageProcessor, processor_path(vision, "image_processor"))
    return Blip2PictureEncoder.from_stock(vision, dtype), processor


def load_text_encoder(
    text_encoder: str, dtype: torch.dtype = torch.float32
) -> tuple[T5EncoderModel, PreTrainedTokenizerBase]:
    """T5's encoder (of a whole T5, too) and its tokenizer, from a folder or hub id."""
    tokenizer = load_pretrained(AutoTokenizer, processor_path(text_encoder, "tokenizer"))
    return load_pretrained(T5EncoderModel, text_encoder, dtype=dtype), tokenizer


class Blip2T5Comprehension(Comprehension):
    """Encodes the pictures of an instruction (`encode_images`) and reads them with its words (`encode_text`).

    Args:
        picture_encoder: BLIP-2 without language model.
        text_encoder: T5 encoder.
        tokenizer: its tokenizer.
        image_processor: BLIP-2's.
        resolution: side in pixels of the square that the autoencoder sees.
        max_length: T, tokens of one instruction, pictures included; all are padded to it.
        max_references: most reference images of one instruction; the source comes on top.
        source_in_text: see `InterleavedTokenizer`.

    Raises:
        ValueError: if the projection does not fit the text encoder's width.
    """

    reads_references: ClassVar[bool] = True
    tokenizer: InterleavedTokenizer

    def __init__(
        self,
        picture_encoder: Blip2PictureEncoder,
        text_encoder: T5EncoderModel,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        *,
        resolution: int,
        max_length: int = 256,
        max_references: int = 4,
        source_in_text: bool = True,
    ) -> None:
        super().__init__()
        self.picture_encoder = picture_encoder
        self.text_encoder = text_encoder
        given, wanted = picture_encoder.language_projection.out_features, text_encoder.config.d_model
        if given != wanted:
            raise ValueError(
                f"this BLIP-2 projects its tokens to width {given}, the text encoder reads width {wanted}: name "
                "models that belong together, e.g. Salesforce/blip2-flan-t5-xxl with google/flan-t5-xxl."
            )
        self.tokenizer = InterleavedTokenizer(
            tokenizer,
            image_processor,
            tokens_per_image=picture_encoder.config.num_query_tokens,
            resolution=resolution,
            max_length=max_length,
            max_references=max_references,
            source_in_text=source_in_text,
        )

    @classmethod
    def from_pretrained(
        cls, vision: str, text_encoder: str, *, dtype: torch.dtype = torch.float32, **options: Any
    ) -> Blip2T5Comprehension:
        """BLIP-2 and T5 (or its encoder) from folders or hub ids, in eval mode; `options` are the class's."""
        encoder, image_processor = load_vision_encoder(vision, dtype)
        words, tokenizer = load_text_encoder(text_encoder, dtype)
        return cls(encoder, words, tokenizer, image_processor, **options).eval()

    @classmethod
    def build(cls, config: Config, dtype: torch.dtype | None = None) -> Blip2T5Comprehension:
        """See `Comprehension`; float32, because all of it trains."""
        part: Any = config.comprehension
        with open_base_model("comprehension.vision", part.vision, BLIP2) as folder:
            encoder, image_processor = load_vision_encoder(folder)
        with open_base_model("comprehension.text_encoder", part.text_encoder, T5) as folder:
            text_encoder, tokenizer = load_text_encoder(folder)
        return cls(encoder, text_encoder, tokenizer, image_processor, **_options(config)).eval()

    @classmethod
    def build_tokenizer(cls, config: Config) -> InterleavedTokenizer:
        """See `Comprehension`."""
        part: Any = config.comprehension
        vision, text_encoder = resolve_model_id(part.vision), resolve_model_id(part.text_encoder)
        return InterleavedTokenizer.from_pretrained(vision, text_encoder, **_options(config))

    @property
    def device(self) -> torch.device:
        """Where the text encoder reads its tokens."""
        return execution_device(self.text_encoder)

    @property
    def token_width(self) -> int:
        """D, width of the Q-Former's tokens."""
        return self.picture_encoder.config.qformer_config.hidden_size

    @property
    def hidden_size(self) -> int:
        """D_text, width of the text states."""
        return self.text_encoder.config.d_model

    def parts(self) -> dict[str, Any]:
        """Both models, image processor and tokenizer."""
        return {
            "picture_encoder": self.picture_encoder,
            "image_processor": self.tokenizer.image_processor,
            "text_encoder": self.text_encoder,
            "tokenizer": self.tokenizer.text_tokenizer,
        }

    def forward(self, tokens: TokenBatch, image_tokens: Tensor | None = None) -> ComprehensionStates:
        """States of the text encoder, (B, T, D_text), and their mask; arguments as `encode_text`."""
        return ComprehensionStates(self.encode_text(tokens, image_tokens), attention_mask=tokens.attention_mask)

    def tokenize(self, *arguments: Any, **options: Any) -> TokenBatch:
        """Words and pictures as tensors on the CPU; arguments as `InterleavedTokenizer.tokenize`."""
        return self.tokenizer.tokenize(*arguments, **options)

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """N pictures (N, 3, H, W), as BLIP-2's image processor makes them -> (N, Q, D) Q-Former tokens."""
        tower = self.picture_encoder.vision_model
        return self.picture_encoder(pixel_values.to(execution_device(self.picture_encoder), tower.dtype))

    def encode_text(self, tokens: TokenBatch, image_tokens: Tensor | None) -> Tensor:
        """Words and pictures together, in their order.

        Args:
            tokens: from `tokenize`.
            image_tokens: (N, Q, D) fused tokens of the batch's N pictures; None where it has none.

        Returns:
            (B, T, D_text) states of the text encoder.

        Raises:
            ValueError: if pictures and their positions in the text differ in number.
        """
        with in_forward(self.text_encoder):
            inputs_embeds = self.text_encoder.get_input_embeddings()(tokens.input_ids)
        positions = tokens.image_positions
        wanted = 0 if positions is None else int(positions.sum())
        given = 0 if image_tokens is None else image_tokens.shape[0] * image_tokens.shape[1]
        if wanted != given:
            raise ValueError(
                f"the batch has room for {wanted} picture tokens and got {given}: make the batch with this reader's "
                "own `tokenize`, and give `encode_text` the tokens of all its pictures."
            )
        if positions is not None and image_tokens is not None:
            projected = self.picture_encoder.project(image_tokens).to(inputs_embeds)
            inputs_embeds = inputs_embeds.masked_scatter(positions[..., None], projected)
        return self.text_encoder(inputs_embeds=inputs_embeds, attention_mask=tokens.attention_mask).last_hidden_state

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the text encoder's layers in the backward pass; memory for time, in train mode only."""
        recompute_activations(self.text_encoder)


def _options(config: Config) -> dict[str, Any]:
    part: Any = config.comprehension
    return {
        "resolution": config.generation.resolution,
        "max_length": part.max_length,
        "max_references": part.max_references,
        "source_in_text": part.source_in_text,
    }
