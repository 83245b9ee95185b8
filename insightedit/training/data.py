"""Config -> what a stage reads: sources mixed, records collated for an editor, batches in order."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from insightedit.datasets.loader import Collator, StepLoader
from insightedit.datasets.mixture import Mixture, flatten, with_held_out
from insightedit.datasets.sources import build_source
from insightedit.model.build import build_text_tokenizer, comprehension_class
from insightedit.modeling.pretrained import load_image_processor

if TYPE_CHECKING:
    from insightedit.comprehension.base import RecordTokenizer
    from insightedit.config.schema import Config, SourceConfig
    from insightedit.model.editor import Editor
    from insightedit.types import EditRecord


def build_loader(config: Config, editor: Editor, *, rank: int = 0, world_size: int = 1) -> StepLoader:
    """The stage's mixture, collated for this editor; each of `world_size` processes has its share of every batch."""
    return StepLoader(
        build_mixture(config),
        build_collator(config, editor),
        batch_size=config.train.batch_size,
        rank=rank,
        world_size=world_size,
        num_workers=config.data.num_workers,
        prefetch_factor=config.data.prefetch_factor,
    )


def build_held_out_loader(config: Config, editor: Editor, *, rank: int, world_size: int) -> StepLoader | None:
    """Batches of held-out records, collated for this editor; None where no source has a `val_fraction`."""
    held_out = build_held_out(config)
    if held_out is None:
        return None
    # no workers: they would be started anew for the few batches of every measurement
    collator = build_collator(config, editor)
    return StepLoader(held_out, collator, batch_size=config.train.batch_size, rank=rank, world_size=world_size)


def build_mixture(config: Config) -> Mixture:
    """The sources of `data.sources`, mixed by weight, without what is held out."""
    return _mixture(config, config.data.sources, held_out=False)


def build_held_out(config: Config) -> Mixture | None:
    """The held-out records of the sources that have a `val_fraction`, by the same weights; None where none has."""
    kept = with_held_out(config.data.sources)
    return _mixture(config, kept, held_out=True) if kept else None


def _mixture(config: Config, entries: list[SourceConfig], *, held_out: bool) -> Mixture:
    size, seed = config.generation.resolution, config.train.seed
    expressive = getattr(config.comprehension, "expressive", False)
    mixed = flatten(
        entries, lambda entry: build_source(entry, size=size, seed=seed, expressive=expressive, held_out=held_out)
    )
    return Mixture(
        {leaf.name: leaf.source for leaf in mixed},
        {leaf.name: leaf.weight for leaf in mixed},
        seed,
        prepare=partial(prepared, config),  # no lambda: data workers are sent it
    )


def prepared(config: Config, record: EditRecord) -> EditRecord:
    """A record as a recipe's stage takes it; the same for training and preview.

    Where the model writes what will change before it edits, a record without such words repeats its instruction: then
    the model learns to speak before every edit, which is what it does when it is used. A ValueError says why the recipe
    cannot use a record.
    """
    if config.stage.objective == "align":
        return record
    draws_from_blank = comprehension_class(config).reads_references
    lacking = ""
    if record.source_image is None and not draws_from_blank:
        lacking = "no source picture, and this recipe edits one"
    elif record.target_image is None and (draws_from_blank or not record.reply):
        lacking = "no target picture"
    elif record.reference_images and not draws_from_blank:
        lacking = "reference pictures, which this recipe does not read"
    if lacking:
        raise ValueError(f"record {record.key} has {lacking}.")
    if getattr(config.comprehension, "expressive", False) and record.is_edit and not record.reply:
        return replace(record, reply=record.instruction)
    return record


def build_collator(config: Config, editor: Editor) -> Collator:
    """Records -> batches, as the stage's objective wants them."""
    return _collator(config, editor.comprehension.tokenizer, editor.tokenizer, editor.image_encoder is not None)


def build_weightless_collator(config: Config) -> Collator:
    """What `build_collator` gives, from the models' tokenizers and processors alone: no weights are loaded."""
    align = config.stage.objective == "align"
    text_tokenizer = build_text_tokenizer(config) if align else None
    tokenizer = comprehension_class(config).build_tokenizer(config)
    return _collator(config, tokenizer, text_tokenizer, config.bridge.iaa is not None and not align)


def _collator(config: Config, tokenizer: RecordTokenizer, text_tokenizer: Any, has_images: bool) -> Collator:
    return Collator(
        tokenizer=tokenizer,
        resolution=config.generation.resolution,
        text_tokenizer=text_tokenizer if config.stage.objective == "align" else None,
        clip_image_processor=load_image_processor(config.generation.image_encoder) if has_images else None,
    )
