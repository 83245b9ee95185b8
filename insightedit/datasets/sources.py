"""Where records come from. A source is a sequence: `len(source)` and `source[index] -> EditRecord`.

`scenes` renders on the fly and is endless; the others read what `python -m data_recipes...` and the published
data sets write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets.layouts import LAYOUTS, open_listing
from insightedit.datasets.pairs import PairSource
from insightedit.datasets.random_choice_dataset import RandomChoiceDataset
from insightedit.datasets.segmentation_sets import coco_stuff, reasonseg, referring
from insightedit.datasets.text_sets import cc12m, llava_instruct
from insightedit.types import EditRecord

ENDLESS = 2**40  # scenes never repeat within a run


class Source(Protocol):
    """A sequence of records."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> EditRecord: ...


def num_records(source: Source) -> int:
    """How many records a source's files hold; a source that varies each of them is longer than that."""
    return getattr(source, "num_records", len(source))


def _edit(sample: Any, index: int) -> dict[str, Any]:
    """An editing pair."""
    return {
        "instruction": sample.instruction,
        "source_image": sample.source,
        "target_image": sample.target,
        "reference_images": sample.references,
    }


def _caption(sample: Any, index: int) -> dict[str, Any]:
    """Text only: a caption of a scene, or an instruction, in turn. The picture is never used."""
    texts = (sample.caption_source, sample.expressive_instruction, sample.caption_target, sample.instruction)
    return {"instruction": texts[index % len(texts)], "caption": texts[index % len(texts)]}


def _resolved(sample: Any, index: int) -> dict[str, Any]:
    """Picture and instruction, and as `caption` the instruction with every reference resolved, to align with."""
    return {**_edit(sample, index), "caption": sample.expressive_instruction}


def _description(sample: Any, index: int) -> dict[str, Any]:
    """Conversation: the assistant spells the instruction out before it draws (MGIE's expressive instruction).

    For stage 1 the words are the text to align with too.
    """
    return {**_resolved(sample, index), "reply": sample.expressive_instruction}


def _full_description(sample: Any, index: int) -> dict[str, Any]:
    """As a description, but at length: what is there, what to do, what will be there (MGIE before it summarises)."""
    told = f"{sample.caption_source}, {sample.expressive_instruction}, {sample.caption_target}"
    return {**_resolved(sample, index), "reply": told}


def _resolved_words(sample: Any, index: int) -> dict[str, Any]:
    """Scenes told in one fixed form, every reference resolved: editing pairs without any wording of users."""
    return {**_edit(sample, index), "instruction": sample.expressive_instruction}


def _subject(sample: Any, index: int) -> dict[str, Any]:
    """A new picture of subjects that reference pictures show (MIGE's subject-driven generation)."""
    return {**_edit(sample, index), "task": "subject"}


def _subject_edit(sample: Any, index: int) -> dict[str, Any]:
    """A scene that a subject is put into (MIGE's subject addition and replacement, 1:1)."""
    return {**_edit(sample, index), "task": "subject_editing"}


SCENE_SOURCES: dict[str, tuple[str, Callable[[Any, int], dict[str, Any]]]] = {
    "scenes": ("scenes", _edit),
    "captions": ("scene_captions", _caption),
    "resolved": ("scene_resolved", _resolved),
    "descriptions": ("scene_descriptions", _description),
    "full_descriptions": ("scene_full_descriptions", _full_description),
    "resolved_words": ("scene_resolved_words", _resolved_words),
    "subjects": ("subjects", _subject),
    "subject_edits": ("subject_edits", _subject_edit),
}
"""Kind -> what keys begin with, and (sample, index) -> the fields of its record."""
STYLED = [kind for kind in SCENE_SOURCES if not kind.startswith("subject")]


class SceneSource:
    """Samples rendered on the fly: record `index` is a pure function of (kind, split, size, seed, style, index)."""

    def __init__(self, kind: str, *, split: str, size: int, seed: int, style: str | None = None) -> None:
        from insightedit.scenes import SceneSampler, SubjectEditSampler, SubjectSampler

        if kind in STYLED:
            self.sampler: Any = SceneSampler(split, size, seed, style=style)
        else:
            self.sampler = {"subjects": SubjectSampler, "subject_edits": SubjectEditSampler}[kind](split, size, seed)
        self.name, self.fields = SCENE_SOURCES[kind]

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> EditRecord:
        return EditRecord(key=f"{self.name}/{index}", **self.fields(self.sampler[index], index))


PUBLISHED: dict[str, Callable[[SourceConfig], RandomChoiceDataset]] = {
    "llava_instruct": llava_instruct,
    "cc12m": cc12m,
    "coco_stuff": coco_stuff,
    "refcoco": referring,
    "grefcoco": referring,
    "reasonseg": reasonseg,
}
"""Published sets of other things than editing pairs, by the name that `data.sources` calls them."""


def build_source(
    config: SourceConfig, *, size: int, seed: int, expressive: bool = False, held_out: bool = False
) -> Source:
    """The source that one entry of `data.sources` names, without what it holds out (or that alone).

    Args:
        config: kind, path, split.
        size: pixels of the square pictures that scenes are rendered at.
        seed: seed of rendered sources.
        expressive: whether the model learns to write what will change; then rows with such a text teach it.
        held_out: give the records that `val_fraction` keeps from training.

    Raises:
        ConfigError: for an unknown kind, a missing path, a folder without matching files, or a style where there
            is none to choose.
    """
    if config.val_fraction > 0 or held_out:
        from insightedit.datasets.held_out import part_of  # it knows sources, too

        whole = build_source(replace(config, val_fraction=0.0), size=size, seed=seed, expressive=expressive)
        return part_of(whole, config.val_fraction, held_out=held_out, name=str(config.path or config.kind))
    if config.path is None and config.kind in (SCENE_SOURCES if config.style is None else STYLED):
        return SceneSource(config.kind, split=config.split, size=size, seed=seed, style=config.style)
    if config.style is not None:
        raise ConfigError(
            f"data.sources: kind `{config.kind}` has no style `{config.style}` to choose: leave `style` out; rendered "
            "scenes have one (kind scenes)."
        )
    if config.kind not in {*LAYOUTS, *PUBLISHED}:
        known = ", ".join([*SCENE_SOURCES, *LAYOUTS, *PUBLISHED, "mixture"])
        raise ConfigError(f"data.sources: unknown kind `{config.kind}` with path {config.path}; known kinds: {known}.")
    if config.path is None:
        raise ConfigError(f"data.sources: kind `{config.kind}` reads files: give its `path`.")
    if config.kind in PUBLISHED and config.columns:
        raise ConfigError(f"data.sources: kind `{config.kind}` has no columns to name: leave `columns` out.")
    try:
        source: Source = (
            PUBLISHED[config.kind](config)
            if config.kind in PUBLISHED
            else PairSource(open_listing(config), name=config.kind, expressive=expressive)
        )
    except (ConfigError, FileNotFoundError) as error:
        raise ConfigError(f"data.sources: {error}") from None
    if not len(source):
        raise ConfigError(f"data.sources: {config.path} holds no records: check the path, or leave the source out.")
    return source
