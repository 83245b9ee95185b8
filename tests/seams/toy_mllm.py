"""A further MLLM, whole in one file: bytes and picture patches through one transformer layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import rearrange
from torch import Tensor, nn

from insightedit.comprehension.base import Comprehension, RecordTokenizer
from insightedit.config.schema import ComprehensionConfig
from insightedit.images.reading import squash
from insightedit.types import ComprehensionStates, EditRecord, TokenBatch

BYTES, LENGTH, SIDE, PATCH = 256, 48, 16, 4


class ByteTokenizer(RecordTokenizer):
    """The instruction's bytes, and behind them the R edit tokens."""

    def __init__(self, num_edit_tokens: int) -> None:
        self.edit_token_ids = [BYTES + number for number in range(num_edit_tokens)]

    def tokenize_records(
        self, records: Sequence[EditRecord], indices: Sequence[int], *, align: bool = False
    ) -> TokenBatch:
        rows = [list(r.instruction.encode()[:LENGTH].ljust(LENGTH)) + self.edit_token_ids for r in records]
        ids = torch.tensor(rows)
        pixels = np.stack([squash(r.source_image, SIDE) for r in records])
        return TokenBatch(ids, torch.ones_like(ids), pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)

    def image_slots(self, tokens: TokenBatch) -> Tensor:
        return torch.zeros_like(tokens.input_ids, dtype=torch.bool)


class ToyMllm(ModelMixin, ConfigMixin):
    """What learns, and what a model folder keeps."""

    @register_to_config
    def __init__(self, width: int = 32, num_edit_tokens: int = 4) -> None:
        super().__init__()
        self.words = nn.Embedding(BYTES + num_edit_tokens, width)
        self.patches = nn.Linear(3 * PATCH**2, width)
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, BYTES + num_edit_tokens)

    def forward(self, tokens: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
        seen = self.patches(rearrange(tokens.pixel_values, "b c (h p) (w q) -> b (h w) (c p q)", p=PATCH, q=PATCH))
        states = self.layer(torch.cat([seen, self.words(tokens.input_ids)], dim=1))[:, seen.shape[1] :]
        loss = F.cross_entropy(self.head(states[:, :-1]).flatten(0, 1), tokens.input_ids[:, 1:].flatten())
        return states, seen, loss


@dataclass
class ToySettings(ComprehensionConfig):
    """What stands below `comprehension` where the kind is the toy."""

    kind: str = "tests.seams.toy_mllm:ToyComprehension"
    num_edit_tokens: int = 4


class ToyComprehension(Comprehension):
    """Between the toy and the editor."""

    settings = ToySettings

    def __init__(self, mllm: ToyMllm) -> None:
        super().__init__()
        self.mllm = mllm
        self.tokenizer = ByteTokenizer(mllm.config.num_edit_tokens)

    @classmethod
    def build(cls, config: Any, dtype: torch.dtype | None = None) -> ToyComprehension:
        return cls(ToyMllm(num_edit_tokens=config.comprehension.num_edit_tokens))

    @classmethod
    def build_tokenizer(cls, config: Any) -> ByteTokenizer:
        return ByteTokenizer(config.comprehension.num_edit_tokens)

    @classmethod
    def from_parts(cls, parts: dict[str, Any], settings: Mapping[str, Any]) -> ToyComprehension:
        return cls(parts["mllm"])

    @property
    def hidden_size(self) -> int:
        return self.mllm.config.width

    @property
    def vision_hidden_size(self) -> int:
        return self.mllm.config.width

    @property
    def edit_token_ids(self) -> list[int]:
        return self.tokenizer.edit_token_ids

    def parts(self) -> dict[str, Any]:
        return {"mllm": self.mllm}

    def forward(self, tokens: TokenBatch, image_tokens: Tensor | None = None) -> ComprehensionStates:
        states, seen, loss = self.mllm(tokens)
        return ComprehensionStates(states[:, LENGTH:], seen, loss)
