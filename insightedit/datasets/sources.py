"""Where records come from. A source is a sequence: `len(source)` and `source[index] -> EditRecord`.

`scenes` renders on the fly and is endless; the others read what `python -m data_recipes...` and the published
data sets write.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets.layouts import LAYOUTS, open_listing
from insightedit.datasets.pairs import PairSource, RandomChoiceDataset
from insightedit.datasets.reading import decoded, folder_of, inside, json_of, only_file, read_pixels
from insightedit.datasets.segmentation import coco_stuff, reasonseg, referring
from insightedit.datasets.tables import TextRows
from insightedit.types import EditRecord

PLACEHOLDER = re.compile(r"\s*<image>\s*")
URL = re.compile(r"https?://")
DECLINING = ("descriptions", "full_descriptions")  # kinds of scenes that teach what to say of them
DECLINES = 0.2  # share of the requests that cannot be done, where a model learns to say what it will do
ENDLESS = 2**40  # scenes never repeat within a run


class Source(Protocol):
    """A sequence of records."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> EditRecord: ...


def num_records(source: Source) -> int:
    """How many records a source's files hold; a source that varies each of them is longer than that."""
    return getattr(source, "num_records", len(source))


class HeldOutPart:
    """Records of a source by their numbers, in order; a source that varies its records still does."""

    def __init__(self, whole: Any, numbers: list[int]) -> None:
        self.whole, self.numbers, self.num_records = whole, numbers, len(numbers)
        self.columns, self.files = getattr(whole, "columns", None), getattr(whole, "files", None)

    def __len__(self) -> int:
        return self.num_records * (len(self.whole) // num_records(self.whole))

    def __getitem__(self, index: int) -> EditRecord:
        visit, place = divmod(index, self.num_records)
        return self.whole[visit * num_records(self.whole) + self.numbers[place]]


def part_of(source: Any, fraction: float, *, held_out: bool, name: str) -> HeldOutPart:
    """The held-out part of a source, which training never sees, or the rest; `name` stands in messages.

    The hash of a record's group alone decides, so it is the same part in every run; records of one group
    (`source.groups`: the pairs of one photograph, the turns of a session) stay together.
    """
    if num_records(source) >= ENDLESS:
        raise ConfigError(
            f"data.sources: {name} never ends, so no share of it can be held out: leave `val_fraction` out; rendered "
            "scenes have a split `val`."
        )
    groups = getattr(source, "groups", None) or [str(number) for number in range(num_records(source))]
    numbers = []
    for number, group in enumerate(groups):
        place = int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), "big") / 2**64  # in [0, 1)
        if (place < fraction) == held_out:
            numbers.append(number)
    if not numbers:
        what = "hold out" if held_out else "train on"
        raise ConfigError(
            f"data.sources: val_fraction {fraction} of {name} leaves no record to {what}: its {len(groups)} are "
            "too few; take another share, or 0."
        )
    return HeldOutPart(source, numbers)


SCENE_SOURCES = (
    "scenes", "captions", "resolved", "descriptions", "full_descriptions", "resolved_words", "subjects",
    "subject_edits",
)  # fmt: skip
SUBJECTS = SCENE_SOURCES[-2:]
STYLED = SCENE_SOURCES[:-2]


class SceneSource:
    """Samples rendered on the fly: record `index` is a pure function of (the entry's settings, size, seed, index)."""

    def __init__(self, config: SourceConfig, *, size: int, seed: int) -> None:
        from insightedit.scenes import Assets, SceneSampler, SubjectEditSampler, SubjectSampler

        self.kind, world = config.kind, (config.split, size, seed, Assets.embedded(config.pack))
        if self.kind in STYLED:
            declines = DECLINES if self.kind in DECLINING else 0.0
            self.sampler: Any = SceneSampler(*world, style=config.style, declines=declines)
        else:
            self.sampler = {"subjects": SubjectSampler, "subject_edits": SubjectEditSampler}[self.kind](*world)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        key = f"{self.kind if self.kind in ('scenes', *SUBJECTS) else f'scene_{self.kind}'}/{index}"
        if self.kind == "captions":  # text only: a caption of a scene, or an instruction, in turn
            texts = (sample.caption_source, sample.expressive_instruction, sample.caption_target, sample.instruction)
            return EditRecord(key, texts[index % len(texts)], caption=texts[index % len(texts)])
        fields = {"instruction": sample.instruction, "reference_images": sample.references}
        match self.kind:
            case "resolved":  # the text to align with has every reference of the instruction resolved
                fields["caption"] = sample.expressive_instruction
            case "descriptions":  # the assistant spells it out before it draws (MGIE's expressive instruction)
                fields["caption"] = fields["reply"] = sample.expressive_instruction
            case "full_descriptions":  # at length: what is there, what to do, what will be (MGIE before it summarises)
                fields["caption"] = sample.expressive_instruction
                fields["reply"] = f"{sample.caption_source}, {sample.expressive_instruction}, {sample.caption_target}"
            case "resolved_words":  # one fixed form, without any wording of users
                fields["instruction"] = sample.expressive_instruction
            case "subjects":  # a new picture of subjects that references show (MIGE's subject-driven generation)
                fields["task"] = "subject"
            case "subject_edits":  # a scene that a subject is put into (MIGE's addition and replacement, 1:1)
                fields["task"] = "subject_editing"
        return EditRecord(key=key, source_image=sample.source, target_image=sample.target, **fields)


def llava_instruct(config: SourceConfig) -> RandomChoiceDataset:
    """LLaVA-Instruct-150k: [{id, image, conversations: [{from: human | gpt, value}, ...]}, ...].

    A record is a conversation; each visit draws one of its rounds, with the rounds before it as context. Nothing is
    drawn after the answer: the record's `is_edit` is false, and its edit tokens carry no labels.
    `path` is the JSON file, or the folder with it; `images` holds the pictures (COCO's train2017).
    """
    file = only_file(Path(str(config.path)), ("llava_instruct*.json", "*.json"), config.kind)
    images = folder_of(config.images or file.parent, config.kind, "the pictures")
    rows = json_of(file, list, "a list of {image, conversations: [{from, value}, ...]}")

    def make(number: int, rng: np.random.Generator) -> EditRecord:
        row = rows[number]
        key = f"{config.kind}/{row.get('id', number)}"
        turns = row["conversations"]
        if [turn["from"] for turn in turns] != ["human", "gpt"] * (len(turns) // 2) or not turns:
            raise ValueError(f"{key} is no conversation of human and gpt in turn.")
        texts = [PLACEHOLDER.sub(" ", turn["value"]).strip() for turn in turns]
        if not all(texts):
            raise ValueError(f"{key} has an empty question or answer.")
        rounds = list(zip(texts[::2], texts[1::2], strict=True))
        last = int(rng.integers(len(rounds)))
        question, answer = rounds[last]
        before = "".join(f"{asked} ASSISTANT: {answered} USER: " for asked, answered in rounds[:last])
        image = read_pixels(inside(images, row["image"]))
        return EditRecord(key, before + question, source_image=image, reply=answer)

    return RandomChoiceDataset(len(rows), make, (file,))


def cc12m(config: SourceConfig) -> RandomChoiceDataset:
    """CC12M, and other lists of captions: lines of `URL<tab>caption` or `caption<tab>URL`. Pictures are not opened.

    `path` is the file, or the folder with it; only where its lines begin is kept in memory, 8 bytes each.
    """
    file = only_file(Path(str(config.path)), ("*.tsv",), config.kind)
    if not file.is_file() or not file.stat().st_size:
        raise ConfigError(f"{file} is empty: kind `{config.kind}` reads lines `URL<tab>caption`.")
    lines = TextRows([file])

    def make(number: int, rng: np.random.Generator) -> EditRecord:
        key = f"{config.kind}/{number}"
        line = decoded(lines.content(number), key).strip("\r\n")
        texts = [part.strip() for part in line.split("\t") if part.strip() and not URL.match(part.strip())]
        if len(texts) != 1 or "\t" not in line:
            raise ValueError(f"{key} is {line[:60]!r}, not a URL and a caption with a tab between them.")
        return EditRecord(key=key, instruction=texts[0], caption=texts[0])

    return RandomChoiceDataset(len(lines), make, (file,))


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
    """The source that one entry of `data.sources` names, without what it holds out (or, `held_out`, that alone).

    `size` is the side in pixels of the square images that scenes are rendered at, `seed` theirs. Where the model learns
    to write what will change (`expressive`), rows with such a text teach it.
    """
    if config.val_fraction > 0 or held_out:
        whole = build_source(replace(config, val_fraction=0.0), size=size, seed=seed, expressive=expressive)
        return part_of(whole, config.val_fraction, held_out=held_out, name=str(config.path or config.kind))
    if config.path is None and config.kind in (SCENE_SOURCES if config.style is None else STYLED):
        return SceneSource(config, size=size, seed=seed)
    if config.pack is not None:
        raise ConfigError(
            f"data.sources: kind `{config.kind}` stands on no photographs of a `pack`: leave it out; rendered scenes "
            "do (kind scenes)."
        )
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
