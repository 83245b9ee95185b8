"""Where records come from. A source is a sequence: `len(source)` and `source[index] -> EditRecord`.

`scenes` renders on the fly and is endless; the others read what `python -m data_recipes...` and the published
data sets write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets.layouts import LAYOUTS, open_listing
from insightedit.datasets.pairs import PairSource
from insightedit.datasets.published import PUBLISHED
from insightedit.types import EditRecord

ENDLESS = 2**40  # scenes never repeat within a run


class Source(Protocol):
    """A sequence of records."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> EditRecord: ...


class SceneSource:
    """Scenes rendered on the fly: record `index` is a pure function of (split, size, seed, style, index)."""

    def __init__(self, *, split: str, size: int, seed: int, style: str | None = None) -> None:
        from insightedit.scenes import SceneSampler

        self.sampler = SceneSampler(split=split, size=size, seed=seed, style=style)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"scenes/{index}",
            instruction=sample.instruction,
            source_image=sample.source,
            target_image=sample.target,
        )


class SceneCaptionSource(SceneSource):
    """Text only: a caption of a scene, or an instruction, in turn. The picture is never used."""

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        texts = (sample.caption_source, sample.expressive_instruction, sample.caption_target, sample.instruction)
        text = texts[index % len(texts)]
        return EditRecord(key=f"scene_captions/{index}", instruction=text, caption=text)


class SceneResolvedSource(SceneSource):
    """Picture and instruction, and as `caption` the instruction with every reference resolved, to align with."""

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"scene_resolved/{index}",
            instruction=sample.instruction,
            source_image=sample.source,
            target_image=sample.target,
            caption=sample.expressive_instruction,
        )


class SceneDescriptionSource(SceneSource):
    """Conversation: the assistant spells the instruction out before it draws (MGIE's expressive instruction).

    For stage 1 the words are the text to align with too.
    """

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"scene_descriptions/{index}",
            instruction=sample.instruction,
            source_image=sample.source,
            target_image=sample.target,
            reply=sample.expressive_instruction,
            caption=sample.expressive_instruction,
        )


class SceneFullDescriptionSource(SceneSource):
    """As `descriptions`, but the assistant tells at length: what is there, what to do, and what will be there.

    MGIE's answers before they are summarised.
    """

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        told = f"{sample.caption_source}, {sample.expressive_instruction}, {sample.caption_target}"
        return EditRecord(
            key=f"scene_full_descriptions/{index}",
            instruction=sample.instruction,
            source_image=sample.source,
            target_image=sample.target,
            reply=told,
            caption=sample.expressive_instruction,
        )


class SceneResolvedWordsSource(SceneSource):
    """Scenes told in one fixed form, every reference resolved: editing pairs without any wording of users."""

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"scene_resolved_words/{index}",
            instruction=sample.expressive_instruction,
            source_image=sample.source,
            target_image=sample.target,
        )


class SubjectSource:
    """New pictures of subjects that reference pictures show, rendered on the fly (MIGE's subject-driven generation)."""

    def __init__(self, *, split: str, size: int, seed: int) -> None:
        from insightedit.scenes import SubjectSampler

        self.sampler = SubjectSampler(split=split, size=size, seed=seed)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"subjects/{index}",
            instruction=sample.instruction,
            target_image=sample.target,
            reference_images=sample.references,
            task="subject",
        )


class SubjectEditSource:
    """Scenes that a subject is put into, rendered on the fly (MIGE's subject addition and replacement, 1:1)."""

    def __init__(self, *, split: str, size: int, seed: int) -> None:
        from insightedit.scenes import SubjectEditSampler

        self.sampler = SubjectEditSampler(split=split, size=size, seed=seed)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"subject_edits/{index}",
            instruction=sample.instruction,
            source_image=sample.source,
            target_image=sample.target,
            reference_images=sample.references,
            task="subject_editing",
        )


SCENE_SOURCES: dict[str, Callable[..., Source]] = {
    "scenes": SceneSource,
    "captions": SceneCaptionSource,
    "resolved": SceneResolvedSource,
    "descriptions": SceneDescriptionSource,
    "full_descriptions": SceneFullDescriptionSource,
    "resolved_words": SceneResolvedWordsSource,
    "subjects": SubjectSource,
    "subject_edits": SubjectEditSource,
}


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
    if config.kind in SCENE_SOURCES and config.path is None:
        rendered = SCENE_SOURCES[config.kind]
        if config.style is None:
            return rendered(split=config.split, size=size, seed=seed)
        if isinstance(rendered, type) and issubclass(rendered, SceneSource):
            return rendered(split=config.split, size=size, seed=seed, style=config.style)
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
