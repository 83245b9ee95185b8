"""Instructions and pictures -> what the interleaved reader reads. Holds no weights, so a data worker can have it."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from insightedit.comprehension.base import RecordTokenizer
from insightedit.comprehension.prompts import TASK_PREFIXES, check_placeholders, place_source
from insightedit.images.reading import pixels_to_tensor, squash
from insightedit.modeling.pretrained import load_pretrained, processor_path
from insightedit.types import REFERENCE_PLACEHOLDER, EditRecord, Task, TokenBatch, task_of

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


class InterleavedTokenizer(RecordTokenizer):
    """Task sentence, words and room for the pictures' tokens, padded to one length.

    Args:
        tokenizer: T5's.
        image_processor: BLIP-2's.
        tokens_per_image: Q, positions that one picture takes.
        resolution: side in pixels of the square that the autoencoder sees.
        max_length: T of every batch.
        max_references: most reference images of one instruction.
        source_in_text: whether the source picture gets a place among the words; without, only the denoiser sees it
            (MIGE's ablation "without multimodal instruction").
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        *,
        tokens_per_image: int,
        resolution: int,
        max_length: int,
        max_references: int,
        source_in_text: bool = True,
    ) -> None:
        self.text_tokenizer: Any = tokenizer
        self.image_processor: Any = image_processor
        self.tokens_per_image = tokens_per_image
        self.resolution = resolution
        self.max_length = max_length
        self.max_references = max_references
        self.source_in_text = source_in_text
        control = sorted(
            {*self.text_tokenizer.all_special_tokens, *self.text_tokenizer.get_added_vocab()}, key=len, reverse=True
        )
        self._control_tokens = re.compile("|".join(re.escape(token) for token in control))
        self._warned = False

    @classmethod
    def from_pretrained(cls, vision: str, text_encoder: str, **options: Any) -> InterleavedTokenizer:
        """What `Blip2T5Comprehension.from_pretrained` tokenises with, from folders or hub ids, without any weights.

        Args:
            vision: BLIP-2, or the `picture_encoder/` of a model folder.
            text_encoder: T5, or the `text_encoder/` of a model folder.
            **options: resolution, max_length, max_references, source_in_text of the class.
        """
        from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

        config: Any = load_pretrained(AutoConfig, vision)
        return cls(
            load_pretrained(AutoTokenizer, processor_path(text_encoder, "tokenizer")),
            load_pretrained(AutoImageProcessor, processor_path(vision, "image_processor")),
            tokens_per_image=config.num_query_tokens,
            **options,
        )

    def tokenize(
        self,
        instructions: Sequence[str],
        sources: Sequence[np.ndarray | None],
        references: Sequence[Sequence[np.ndarray]],
        *,
        shorten: bool = False,
    ) -> TokenBatch:
        """Build a batch.

        The source picture, where there is one, gets a placeholder of its own (`place_source`). Without one the task
        is to draw from blank, with one and references it is to put the subject in, with one alone it is to edit.

        Args:
            instructions: B texts, each with one `<imagehere>` for each of its reference images.
            sources: B pictures (H, W, 3) uint8 RGB of any size, None for a blank canvas.
            references: B lists of pictures, which may be empty.
            shorten: cut what is too long at its end instead of refusing it; never a picture.

        Returns:
            Batch with `input_ids`, `attention_mask`, `image_positions` (B, T) and, where it has N > 0 pictures,
            `pixel_values` (N, 3, S, S) and `reference_pixels` (N, 3, H, W).

        Raises:
            ValueError: if placeholders and references differ in number, or a text is too long.
        """
        rows, pictures = [], []
        for text, source, own in zip(instructions, sources, references, strict=True):
            check_placeholders(text, len(own), self.max_references)
            words, in_order = " ".join(text.split()), list(own)
            if source is not None and self.source_in_text:
                words, place = place_source(words)
                in_order.insert(place, source)  # pictures stand in reading order
            rows.append(self._row(words, task_of(source is not None, bool(own)), shorten=shorten))
            pictures += in_order
        ids, positions = (torch.tensor(values) for values in zip(*rows, strict=True))
        # a row ends with its end-of-text token; pads before it stand in pictures' places, and count
        length = self.max_length - (ids.flip(1) != self.text_tokenizer.pad_token_id).int().argmax(dim=1)
        mask = torch.arange(self.max_length) < length[:, None]
        if not pictures:
            return TokenBatch(ids, mask.long(), image_positions=positions)
        return TokenBatch(
            ids,
            mask.long(),
            pixel_values=self.image_processor(images=pictures, return_tensors="pt").pixel_values,
            image_positions=positions,
            reference_pixels=torch.stack([pixels_to_tensor(squash(image, self.resolution)) for image in pictures]),
        )

    def tokenize_records(
        self, records: Sequence[EditRecord], indices: Sequence[int], *, align: bool = False
    ) -> TokenBatch:
        """See `RecordTokenizer`; there are no paraphrases to choose from.

        Raises:
            ValueError: if a record has no picture to draw.
        """
        lacking = [record.key for record in records if record.target_image is None]
        if lacking:
            raise ValueError(
                f"record {lacking[0]} has no target picture, and everything here is drawn: let `data.sources` hold "
                "only kinds with targets (scenes, subjects, subject_edits)."
            )
        return self.tokenize(
            [record.instruction for record in records],
            [record.source_image for record in records],
            [record.reference_images for record in records],
            shorten=True,
        )

    def image_slots(self, tokens: TokenBatch) -> Tensor:
        """See `RecordTokenizer`."""
        assert tokens.image_positions is not None, "this tokenizer's batches have them"
        return tokens.image_positions

    def _row(self, text: str, task: Task, *, shorten: bool) -> tuple[list[int], list[bool]]:
        """(T,) ids, pad where a picture stands, and (T,) whether one does."""
        segments = [self._ids(segment) for segment in text.split(REFERENCE_PLACEHOLDER)]
        prefix, end = self._ids(TASK_PREFIXES[task]), [self.text_tokenizer.eos_token_id]
        room = self.max_length - len(prefix) - len(end) - (len(segments) - 1) * self.tokens_per_image
        excess = sum(map(len, segments)) - room
        if excess > 0:
            self._cut(segments, excess, text, shorten=shorten)
        picture = [self.text_tokenizer.pad_token_id] * self.tokens_per_image
        ids, positions = [*prefix, *segments[0]], [False] * (len(prefix) + len(segments[0]))
        for segment in segments[1:]:
            ids += [*picture, *segment]
            positions += [True] * len(picture) + [False] * len(segment)
        filler = [self.text_tokenizer.pad_token_id] * (self.max_length - len(ids) - len(end))
        return [*ids, *end, *filler], [*positions, *[False] * (len(end) + len(filler))]

    def _ids(self, text: str) -> list[int]:
        """Tokens of a piece of text; control tokens in it are read as ordinary characters."""
        plain = self._control_tokens.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        return self.text_tokenizer(plain.strip(), add_special_tokens=False).input_ids if plain.strip() else []

    def _cut(self, segments: list[list[int]], excess: int, text: str, *, shorten: bool) -> None:
        """Take `excess` tokens off the end of the text, in place."""
        if not shorten or excess > sum(map(len, segments)):
            pictures = len(segments) - 1
            raise ValueError(
                f"the instruction {text[:40]!r} is {excess} tokens too long: this model reads {self.max_length}, "
                f"{pictures * self.tokens_per_image} of which its {pictures} pictures take. Use a shorter one, or "
                "fewer pictures."
            )
        if not self._warned:
            logger.warning("an instruction was cut by %d tokens to %d; said once.", excess, self.max_length)
            self._warned = True
        for segment in reversed(segments):
            dropped = min(excess, len(segment))
            del segment[len(segment) - dropped :]
            excess -= dropped
