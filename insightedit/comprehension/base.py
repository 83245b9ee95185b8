"""What an editor asks of the model that reads; a further one is a file with a subclass of `Comprehension`.

`insightedit.comprehension.llava` is the worked example, `insightedit.comprehension.blip2_t5` one whose instructions
hold pictures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from insightedit.modeling.offloading import execution_device
from insightedit.types import Answer, ComprehensionStates, EditRecord, TokenBatch

if TYPE_CHECKING:
    from insightedit.config.schema import Config


class RecordTokenizer(ABC):
    """Words and pictures -> `TokenBatch`; holds no weights, so that a data worker can have it.

    Attributes:
        text_tokenizer: the stock tokenizer inside.
    """

    text_tokenizer: Any

    @abstractmethod
    def tokenize_records(
        self, records: Sequence[EditRecord], indices: Sequence[int], *, align: bool = False
    ) -> TokenBatch:
        """A training batch; what is too long is cut.

        Args:
            records: B records.
            indices: their B places in the stream, which may choose among paraphrases.
            align: stage 1, where records without a picture are captions.

        Raises:
            ValueError: if a record cannot be read.
        """

    @abstractmethod
    def image_slots(self, tokens: TokenBatch) -> Tensor:
        """(B, T) bool: which positions pictures take."""


class Comprehension(nn.Module, ABC):
    """Reads instruction and picture; what it understood goes to the bridge as `ComprehensionStates`.

    Attributes:
        reads_references: whether instructions hold pictures (`<imagehere>`), so that there may be reference images
            and no source: a blank canvas. Then batches have `reference_pixels`, `encode_images` gives their tokens,
            and the bridge's `fuse` joins these with the pictures' latents before `forward` gets them.
        tokenizer: makes its batches.
    """

    reads_references: ClassVar[bool] = False
    tokenizer: RecordTokenizer

    @classmethod
    @abstractmethod
    def build(cls, config: Config, dtype: torch.dtype | None = None) -> Comprehension:
        """Load the base models that a config names, ready to train, in eval mode.

        Args:
            config: whole config.
            dtype: of frozen weights; None = as they are stored.

        Raises:
            ConfigError: by the setting's key, if a base model cannot be loaded.
        """

    @classmethod
    @abstractmethod
    def build_tokenizer(cls, config: Config) -> RecordTokenizer:
        """The `tokenizer` of what `build` gives, without loading weights."""

    @abstractmethod
    def forward(self, tokens: TokenBatch, image_tokens: Tensor | None = None) -> ComprehensionStates:
        """One pass over a batch of `tokenizer`.

        Args:
            tokens: B rows.
            image_tokens: (N, Q, D) fused tokens of the pictures in the instructions, for who `reads_references`.
        """

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """D, width of the states that the bridge reads."""

    @property
    def vision_hidden_size(self) -> int:
        """D_vis, width of `image_features`, which BIM reads; 0 where there are none."""
        return 0

    @property
    def edit_token_ids(self) -> list[int]:
        """Ids of the R edit tokens; none where the states are not read at such tokens."""
        return []

    @property
    def device(self) -> torch.device:
        """Where it reads its tokens."""
        return execution_device(self)

    @property
    def edit_embeddings(self) -> Tensor | None:
        """(R, D) input embeddings of the edit tokens; None where there are none."""
        return None

    def tokenize(
        self, instructions: Sequence[str], images: Sequence[Any] | None, *, replies: Sequence[str | None] | None = None
    ) -> TokenBatch:
        """B instructions and B pictures (H, W, 3) uint8 RGB as they are read when used; on the CPU.

        Args:
            instructions: what to change.
            images: sources; None where there are none.
            replies: texts that it wrote itself before the edit.
        """
        sources = images or [None] * len(instructions)
        answers = replies or [None] * len(instructions)
        records = [
            EditRecord("request", words, source_image=source, reply=answer)
            for words, source, answer in zip(instructions, sources, answers, strict=True)
        ]
        return self.tokenizer.tokenize_records(records, range(len(records)))

    def answer(
        self,
        questions: Sequence[str],
        images: Sequence[Any] | None,
        max_new_tokens: int = 64,
        no_repeat_ngram_size: int = 0,
    ) -> list[Answer]:
        """Answer in words, greedily: visual questions, expressive instructions. Only for who can write.

        Args:
            questions: B of them.
            images: B pictures as in `tokenize`; None for text only.
            max_new_tokens: longest answer, in tokens.
            no_repeat_ngram_size: no sequence of so many tokens occurs twice in question and answer together; 0 for no
                such limit.

        Returns:
            B answers; in a batch the same as alone, their probabilities up to rounding.
        """
        raise NotImplementedError(f"{type(self).__name__} writes no words: take a model whose language model answers.")

    def generate_text(
        self,
        questions: Sequence[str],
        images: Sequence[Any] | None,
        max_new_tokens: int = 64,
        no_repeat_ngram_size: int = 0,
    ) -> list[str]:
        """The words alone of `answer`."""
        answers = self.answer(questions, images, max_new_tokens, no_repeat_ngram_size)
        return [answer.text for answer in answers]

    @classmethod
    def from_parts(cls, parts: dict[str, Any], settings: Mapping[str, Any]) -> Comprehension:
        """What reads in a loaded model.

        Args:
            parts: as `parts` gave them when the model was saved; those that a folder does not have are None.
            settings: the config's, as plain values.
        """
        raise NotImplementedError(f"{cls.__name__} says not how it is made of a saved model's parts: `from_parts`.")

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """What a model folder keeps of it: folder name -> model, tokenizer or processor; live, not copied."""

    def merge(self) -> dict[str, Any]:
        """`parts` without adapters, which are folded into copies of their models; for an export with its weights."""
        return self.parts()

    def enable_gradient_checkpointing(self) -> None:
        """Recompute layers in the backward pass; memory for time, in train mode only. Nothing where it cannot."""

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """What the image encoder alone makes of pictures, (N, 3, S, S) -> (N, Q, D).

        Who `reads_references` has to tell (the tokens that the bridge fuses). For others it lets a cache keep the image
        encoder's part (`forward` then takes `tokens.image_states` in place of pixels); without it, the whole runs.
        """
        raise NotImplementedError(f"{type(self).__name__} reads no pictures inside instructions.")
