"""What a stage would see: shares of the sources, and samples as its collator hands them to the model.

The mixture, the loader and the collator are those that train; only the models' weights are not loaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from insightedit.comprehension.tokenization import IGNORE
from insightedit.datasets.loader import Collator, StepLoader
from insightedit.datasets.mixture import Mixture
from insightedit.datasets.sources import ENDLESS, num_records
from insightedit.images.sheets import Run
from insightedit.training.data import build_mixture, build_weightless_collator
from insightedit.types import EditRecord

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.types import EditBatch

BLANKS = {"\u2581": " ", "\u0120": " ", "\u010a": "\n", "\n": "\u21b5"}  # how tokenizers write blanks and line ends
BYTES = re.compile(r"(?:<0x[0-9A-F]{2}>)+")  # and characters that are not in their vocabulary


@dataclass(frozen=True)
class Share:
    """One source of the mixture."""

    name: str  # place in `data.sources` and kind
    records: int | None  # that its files hold; None if it never ends
    configured: float  # share of the draws that the weights say
    drawn: int  # how many of the draws fell on it
    visits: float | None  # how often the stage visits each record; None if it never ends


@dataclass(frozen=True)
class SeenSample:
    """One sample as the model gets it."""

    index: int  # place in the stream
    source: str  # name of its source
    record: EditRecord  # as it was read
    runs: tuple[Run, ...]  # the sequence in pieces of text, see `token_runs`
    num_tokens: int  # of the sequence, without filler
    num_learned: int | None  # that the language loss is on; None where the text is a condition only
    pictures: dict[str, np.ndarray]  # name -> (H, W, 3) uint8, as the model's square shows them
    aligned: str = ""  # the text that stage 1 aligns with


@dataclass(frozen=True)
class Preview:
    """What a stage would see."""

    shares: tuple[Share, ...]  # of the sources, in the order of the config
    draws: int  # how many positions of the stream were counted
    samples: tuple[SeenSample, ...]  # the first of the stream
    broken: dict[str, int]  # source -> records that could not be used, among those that were read
    batch_size: int  # per process and micro-step


class _Remembering(Mixture):
    """A mixture that keeps what it hands out."""

    def __init__(self, mixture: Mixture) -> None:
        vars(self).update(vars(mixture))
        self.handed_out: dict[int, tuple[str, EditRecord]] = {}

    def __getitem__(self, index: int) -> EditRecord:
        self.handed_out[index] = self.draw(index)
        return self.handed_out[index][1]


def preview(config: Config, *, samples: int = 10, draws: int = 10_000) -> Preview:
    """What the stage of a config would see: first `samples`, and shares of the sources in the first `draws`."""
    mixture = _Remembering(build_mixture(config))
    collator = build_weightless_collator(config)
    train, found = config.train, []
    batches = iter(StepLoader(mixture, collator, batch_size=train.batch_size))
    while len(found) < samples:
        batch, first = next(batches), len(found)
        for row in range(min(train.batch_size, samples - first)):
            found.append(_sample(batch, row, first + row, mixture, collator))
    drawn = Counter(mixture.place(index)[0] for index in range(draws))
    total = train.max_steps * train.batch_size * train.gradient_accumulation_steps
    shares = []
    for name, configured in zip(mixture.names, mixture.probabilities.tolist(), strict=True):
        size = num_records(mixture.sources[name])
        records = None if size >= ENDLESS else size
        visits = None if records is None else total * configured / records
        shares.append(Share(name, records, configured, drawn[name], visits))
    return Preview(tuple(shares), draws, tuple(found), dict(mixture.broken), train.batch_size)


def _sample(batch: EditBatch, row: int, index: int, mixture: _Remembering, collator: Collator) -> SeenSample:
    source, record = mixture.handed_out[index]
    ids = batch.tokens.input_ids[row]
    valid = batch.tokens.attention_mask[row].bool()
    tokenizer, labels = collator.tokenizer.text_tokenizer, batch.tokens.labels
    slots = collator.tokenizer.image_slots(batch.tokens)[row]
    learned = None if labels is None else labels[row] != IGNORE
    aligned = ""
    if batch.text_target_ids is not None and collator.text_tokenizer is not None:
        aligned = str(collator.text_tokenizer.decode(batch.text_target_ids[row], skip_special_tokens=True))
    return SeenSample(
        index=index,
        source=source,
        record=record,
        runs=token_runs(tokenizer.convert_ids_to_tokens(ids.tolist()), valid, slots, learned),
        num_tokens=int(valid.sum()),
        num_learned=None if learned is None else int(learned.sum()),
        pictures=_pictures(batch, row, record),
        aligned=aligned,
    )


def token_runs(tokens: Sequence[str], valid: Tensor, slots: Tensor, learned: Tensor | None) -> tuple[Run, ...]:
    """A sequence as pieces of text, neighbours of one kind together.

    The masks, (T,) bool, tell what is no filler, where pictures stand, and where the language loss is. Styles are
    `learned`, and `picture` and `pad`, which are told by their number of tokens.
    """
    styles = []
    for place in range(len(tokens)):
        is_learned = learned is not None and bool(learned[place])
        styles.append("pad" if not valid[place] else "picture" if slots[place] else "learned" if is_learned else "")
    runs = []
    for style, places in groupby(range(len(tokens)), key=styles.__getitem__):
        pieces = [tokens[place] for place in places]
        text = BYTES.sub(
            lambda found: bytes.fromhex(found[0].replace("<0x", "").replace(">", "")).decode("utf-8", "replace"),
            "".join(pieces),
        )
        for written, meant in BLANKS.items():
            text = text.replace(written, meant)
        if style in ("pad", "picture"):
            text = f"<{'picture' if style == 'picture' else 'filler'}: {len(pieces)} tokens>"
        runs.append(Run(text, style))
    return tuple(runs)


def _pictures(batch: EditBatch, row: int, record: EditRecord) -> dict[str, np.ndarray]:
    """Pictures from left to right; those of the reference slots as they were read."""
    found = {}
    first = "source" if record.source_image is not None else "blank in place of a source"
    for name, pixels in ((first, batch.source_pixels), ("target", batch.target_pixels)):
        if pixels is not None:
            found[name] = to_picture(pixels[row])
    if batch.changed_mask is not None and found:
        grey = (batch.changed_mask[row, 0] * 255).byte().numpy()
        found["changed"] = np.repeat(grey[..., None], 3, axis=2)
    if not found and record.source_image is not None and batch.tokens.pixel_values is not None:
        found["source"] = record.source_image
    found |= {f"reference {number}": one for number, one in enumerate(record.reference_images, 1)}
    return found


def to_picture(pixels: Tensor) -> np.ndarray:
    """(3, H, W) float in [-1, 1] -> (H, W, 3) uint8."""
    return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
