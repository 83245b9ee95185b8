"""Texts and pictures -> what the MLLM reads. Needs the processor only, so a data worker can hold it without weights."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from insightedit.comprehension.base import RecordTokenizer
from insightedit.comprehension.edit_tokens import EDIT_TOKEN, add_edit_words, edit_token_names
from insightedit.comprehension.prompts import (
    FEW,
    IMAGE_TOKEN,
    TemplateSet,
    Turn,
    caption_turn,
    chat_turn,
    edit_turn,
    question_turn,
)
from insightedit.images.reading import read_rgb
from insightedit.modeling.pretrained import load_pretrained, processor_path
from insightedit.types import EditRecord, TokenBatch

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, ProcessorMixin

logger = logging.getLogger(__name__)

IGNORE = -100  # torch's label for "no loss here"
Picture = Image.Image | np.ndarray


class EditTokenizer(RecordTokenizer):
    """Prompt + reply + R edit tokens, as padded tensors.

    Args:
        processor: the MLLM's processor, whose tokenizer knows the edit tokens.
        edit_tokens: their names, in order.
        max_positions: longest sequence the model can read, in tokens.
        templates: the paraphrases that `template_indices` choose from.
        max_length: tokens that `tokenize_records` cuts a sequence to; None: `max_positions`.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        edit_tokens: Sequence[str],
        max_positions: int,
        templates: TemplateSet = FEW,
        max_length: int | None = None,
    ) -> None:
        self.processor: Any = processor
        self.text_tokenizer = self.processor.tokenizer
        self.max_length = max_length
        self.templates = templates
        self.edit_text = "".join(edit_tokens)
        self.num_edit_tokens = len(edit_tokens)
        self.max_positions = max_positions
        added = sorted({*self.processor.tokenizer.get_added_vocab(), IMAGE_TOKEN}, key=len, reverse=True)
        self._control_tokens = re.compile("|".join(re.escape(token) for token in added))
        self._warned = False

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        num_edit_tokens: int,
        edit_token: str = EDIT_TOKEN,
        templates: TemplateSet = FEW,
        max_length: int | None = None,
    ) -> EditTokenizer:
        """What `LlavaComprehension.from_pretrained` tokenises with, from a folder or hub id, without its weights."""
        from transformers import AutoConfig

        config = load_pretrained(AutoConfig, model)
        processor: Any = load_processor(model, config)
        add_edit_words(processor.tokenizer, edit_token, num_edit_tokens)
        max_positions = config.get_text_config().max_position_embeddings
        return cls(processor, edit_token_names(edit_token, num_edit_tokens), max_positions, templates, max_length)

    def tokenize(
        self,
        instructions: Sequence[str],
        images: Sequence[Picture] | None,
        *,
        replies: Sequence[str | None] | None = None,
        caption: bool = False,
        chats: Sequence[bool] | None = None,
        template_indices: Sequence[int] | None = None,
        max_length: int | None = None,
    ) -> TokenBatch:
        """Build a batch for one prefill.

        Control tokens inside a text (`<image>`, `<img_3>`, `</s>`) are read as ordinary characters. Pictures are
        squeezed to the MLLM's square without cropping, so that its patches cover what the autoencoder sees.

        Args:
            instructions: B instructions, or captions.
            images: B pictures, PIL or (H, W, 3) uint8 RGB of any size; None for text only.
            replies: B replies (an entry may be None) in place of the template's.
            caption: ask for a picture of a caption, text only (stage 1).
            chats: B flags; a chat's question stands without a template, its reply ends with the end-of-text token,
                and its edit tokens carry no labels. None: no row is a chat.
            template_indices: B numbers that choose the paraphrase; all 0 when None, as at inference.
            max_length: tokens of a whole sequence, image placeholders and edit tokens included. What is too long
                loses the end of its instruction or reply, whichever is longer first, never an edit token.
                None does not shorten: a text too long for the model is an error.

        Returns:
            Right-padded batch; labels on reply and edit tokens, in chats on the reply and its end.

        Raises:
            ValueError: if lengths of the arguments differ, a chat has no reply, or a sequence cannot be made short
                enough.
            TypeError: if a picture is of the wrong kind.
        """
        turns = self._turns(instructions, images, replies, caption, chats, template_indices)
        texts = [turn.prompt + turn.reply + self._after_reply(turn) for turn in turns]
        encoded = self._encode(texts, images, padding_side="right")
        ids, mask, offsets = encoded["input_ids"], encoded["attention_mask"], encoded["offset_mapping"]
        # offsets count characters of the text with expanded placeholders; measured from the end they fit `turns`
        starts = offsets[..., 0] - offsets[..., 1].amax(dim=1, keepdim=True)
        starts = starts.masked_fill(offsets[..., 1] == 0, -(2**31))
        reply_start = torch.tensor([-len(turn.reply + self._after_reply(turn)) for turn in turns])
        answer_end = torch.tensor([0 if turn.draws else -len(self.edit_text) for turn in turns])
        is_answer = (starts >= reply_start[:, None]) & (starts < answer_end[:, None])
        labels = ids.masked_fill(~is_answer | (mask == 0), IGNORE)
        limit = min(max_length or self.max_positions, self.max_positions)
        if ids.shape[1] > limit:
            keep = self._keep(turns, starts, mask, limit, shorten=max_length is not None)
            ids, mask, labels = self._compact(ids, mask, labels, keep)
        return TokenBatch(ids, mask, labels, encoded.get("pixel_values"))

    def tokenize_records(
        self, records: Sequence[EditRecord], indices: Sequence[int], *, align: bool = False
    ) -> TokenBatch:
        """See `RecordTokenizer`; a record without a picture to draw is a chat, its `reply` what is said.

        Raises:
            ValueError: if only some have a picture, or a text cannot be made short enough.
        """
        has_images = records[0].source_image is not None
        if any((record.source_image is not None) != has_images for record in records):
            raise ValueError(
                "stage 1 was given records with and without pictures in one batch: let `data.sources` hold only "
                "kinds with pictures (resolved) or only kinds without (captions)."
            )
        replies = [record.reply for record in records]
        return self.tokenize(
            [(not has_images and record.caption) or record.instruction for record in records],
            [record.source_image for record in records] if has_images else None,  # type: ignore[misc]
            replies=replies if any(replies) else None,
            caption=not has_images,
            chats=None if align else [record.reply is not None and not record.is_edit for record in records],
            template_indices=list(indices),
            max_length=self.max_length,
        )

    def image_slots(self, tokens: TokenBatch) -> Tensor:
        """See `RecordTokenizer`."""
        return tokens.input_ids == self.text_tokenizer.convert_tokens_to_ids(self.processor.image_token)

    def tokenize_questions(self, questions: Sequence[str], images: Sequence[Picture] | None) -> TokenBatch:
        """Prompts without reply and edit tokens, left-padded: what generation starts from."""
        _check_lengths(questions, images=images)
        turns = [question_turn(self._plain(question), has_image=images is not None) for question in questions]
        encoded = self._encode([turn.prompt for turn in turns], images, padding_side="left")
        return TokenBatch(encoded["input_ids"], encoded["attention_mask"], None, encoded.get("pixel_values"))

    def _turns(
        self,
        instructions: Sequence[str],
        images: Sequence[Picture] | None,
        replies: Sequence[str | None] | None,
        caption: bool,
        chats: Sequence[bool] | None,
        template_indices: Sequence[int] | None,
    ) -> list[Turn]:
        if caption and images is not None:
            raise ValueError("caption=True is text only, but images were given: pass images=None or caption=False.")
        _check_lengths(instructions, images=images, replies=replies, chats=chats, template_indices=template_indices)
        indices = [0] * len(instructions) if template_indices is None else template_indices
        replies = [None] * len(instructions) if replies is None else replies
        answers = [None if reply is None else self._plain(reply) for reply in replies]
        plain = [self._plain(text) for text in instructions]
        if caption:
            templates = self.templates.captions
            return [
                caption_turn(t, i, reply=a, templates=templates)
                for t, i, a in zip(plain, indices, answers, strict=True)
            ]
        is_chat = [False] * len(plain) if chats is None else chats
        return [
            self._turn(t, i, a, c, images is not None)
            for t, i, a, c in zip(plain, indices, answers, is_chat, strict=True)
        ]

    def _turn(self, text: str, index: int, answer: str | None, is_chat: bool, has_image: bool) -> Turn:
        if not is_chat:
            return edit_turn(text, index, has_image=has_image, reply=answer, templates=self.templates.edits)
        if not answer:
            raise ValueError(f"the chat {text[:40]!r} has no reply: give one, or chats=False for an edit.")
        return chat_turn(text, answer, has_image=has_image)

    def _after_reply(self, turn: Turn) -> str:
        """What follows the assistant's words."""
        return self.edit_text if turn.draws else self.processor.tokenizer.eos_token + self.edit_text

    def _plain(self, text: str) -> str:
        """One line, control tokens taken apart so that the tokenizer does not see them."""
        return self._control_tokens.sub(lambda found: f"{found[0][0]} {found[0][1:]}", " ".join(text.split()))

    def _encode(self, texts: list[str], images: Sequence[Picture] | None, *, padding_side: str) -> dict[str, Tensor]:
        """One processor call: (B, T) ids and mask, (B, T, 2) offsets, (B, 3, S, S) pixels where there are images."""
        pictures = {}
        if images is not None:
            image_token = self.processor.image_token
            texts = [text.replace(IMAGE_TOKEN, image_token) for text in texts] if image_token != IMAGE_TOKEN else texts
            square = {"size": _square(self.processor.image_processor), "do_center_crop": False}
            pictures = {"images": [_rgb(image) for image in images], "images_kwargs": square}
        text_options = {"padding": True, "padding_side": padding_side, "return_offsets_mapping": True}
        return self.processor(text=texts, **pictures, text_kwargs={**text_options, "return_tensors": "pt"})

    def _keep(self, turns: list[Turn], starts: Tensor, mask: Tensor, limit: int, *, shorten: bool) -> Tensor:
        """(B, T) bool: the tokens that stay within `limit`."""
        keep = mask.bool()
        for row, turn in enumerate(turns):
            excess = int(keep[row].sum()) - limit
            if excess <= 0:
                continue
            behind = self._after_reply(turn)
            after = len(turn.tail + turn.reply + behind)
            instruction = _span(starts[row], -after - len(turn.instruction), -after)
            reply = _span(starts[row], -len(turn.reply + behind), -len(behind))
            spare = sorted((instruction, reply), key=len)
            if not shorten or excess > len(spare[0]) + len(spare[1]):
                raise ValueError(self._too_long(turn, excess + limit, limit, shorten=shorten))
            if not self._warned:
                logger.warning(
                    "a sequence of %d tokens was cut to comprehension.max_length %d; said once.", excess + limit, limit
                )
                self._warned = True
            dropped = [*spare[0], *spare[1]][-excess:]
            keep[row, dropped] = False
        return keep

    def _too_long(self, turn: Turn, length: int, limit: int, *, shorten: bool) -> str:
        given = f"{turn.instruction[:40]!r} makes {length} tokens, {self.num_edit_tokens} of them edit tokens"
        if shorten:
            return f"{given}; its frame alone is longer than max_length {limit}: raise comprehension.max_length."
        return f"{given}; the model reads at most {limit}: use a shorter instruction, or pass max_length to cut it."

    def _compact(self, ids: Tensor, mask: Tensor, labels: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Close the gaps that `keep` leaves and pad on the right again."""
        pad = self.processor.tokenizer.pad_token_id

        def packed(values: Tensor, filler: int) -> Tensor:
            rows = [value[kept] for value, kept in zip(values, keep, strict=True)]
            return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filler)

        return packed(ids, pad), packed(mask, 0), packed(labels, IGNORE)


def load_processor(model: str, config: PreTrainedConfig) -> Any:
    """The processor of an MLLM, which has to know how many placeholders a picture takes.

    Args:
        model: folder or hub id in the stock format; of a model folder's `mllm/`, the processor lies beside it.
        config: of the model.
    """
    from transformers import AutoProcessor

    processor: Any = load_pretrained(AutoProcessor, processor_path(model, "processor"))
    if processor.patch_size is None:  # checkpoints converted before the processor counted the placeholders
        known: Any = config
        processor.patch_size = known.vision_config.patch_size
        processor.num_additional_image_tokens = 1
        processor.vision_feature_select_strategy = known.vision_feature_select_strategy
    return processor


def _span(starts: Tensor, first: int, last: int) -> list[int]:
    """Positions of the tokens that begin in [first, last)."""
    return torch.nonzero((starts >= first) & (starts < last)).flatten().tolist()


def _square(image_processor: Any) -> dict[str, int]:
    size = image_processor.crop_size or image_processor.size
    side = size["height"] if "height" in size else size["shortest_edge"]
    return {"height": side, "width": side}


def _rgb(image: Picture) -> np.ndarray:
    if isinstance(image, Image.Image):
        return read_rgb(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"a picture is a {type(image).__name__}; give PIL images or (H, W, 3) uint8 numpy arrays.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a picture is {image.shape} {image.dtype}; numpy pictures are (H, W, 3) uint8 RGB.")
    return image if image.flags.writeable else image.copy()  # torch warns of arrays that it cannot write to


def _check_lengths(instructions: Sequence[str], **others: Sequence[Any] | None) -> None:
    if isinstance(instructions, str):
        raise TypeError(f"instructions is one text, {instructions[:40]!r}; give a list of texts.")
    if not instructions:
        raise ValueError("instructions is empty; a batch has at least one.")
    for name, values in others.items():
        if values is not None and len(values) != len(instructions):
            raise ValueError(f"{len(instructions)} instructions but {len(values)} {name}: give one per instruction.")
