"""SmartEdit's synthetic pairs: a thing of one photo takes the place of a thing of another.

| the paper | here |
| --- | --- |
| x1, x2: two pictures from the internet | `source.kind: couples`: each photo of a folder with a second one of it |
| mask1, mask2 by SAM, of chosen animals | `captions`, `masks`, `donor`: language model, Grounding DINO, SAM |
| y1: mask1 painted over by MAT | `swap`: any inpainting pipeline; MAT is in no library |
| y2, y3: resized, filtered, merged | `swap`: same area, same foot, limits to the scale, edges trimmed and smoothed |
| y4: harmonised by PIH | `swap`: the harmoniser `statistics` (curves, as PIH) or `diffusers`; PIH is in no library |
| (y1, x1, "Add a cat to the right of the cat") | the pair `KEY/add` |
| (x1, y4, "Replace the smaller cat with a rabbit") | the pair `KEY/replace` |
| wordings by people | `relations`: sides, sizes, neighbours by masks; `wording`: a language model, reasoning too |
| 476 pairs, picked by hand | as many as there are photos; the step `quality` where the config names it |

Its reasoning pairs (SAM, Stable Diffusion inpainting by the instruction, failures picked out by hand) are those of the
recipe `advancededit` with `steps.wording.kinds: [reasoning]`: the config `smartedit_reasoning`.

Source: SmartEdit, supplementary material, section 2.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_recipes.backends.base import CompositeRequest, InpaintRequest
from data_recipes.backends.windows import CutOut, Window, box_of, touches_border, trimmed
from data_recipes.formats.reading import open_folder
from data_recipes.oracle.world import open_scenes
from data_recipes.recipes import Settings, configured_steps
from data_recipes.runner.inputs import Input, InputConfig
from data_recipes.runner.records import ObjectAnnotation, Record, Rejected
from data_recipes.runner.steps import Context, EachRecord, Outcome, Step, setting, share, through
from data_recipes.steps.asking import bare
from data_recipes.steps.captions import Captions
from data_recipes.steps.masks import Masks, article, beside, place_words, told_apart
from data_recipes.steps.pairs import removal_request
from data_recipes.steps.quality import Quality
from data_recipes.steps.wording import Wording

ABOUT = "Two photos to an addition and a replacement: cut out, inpaint, paste, harmonise (SmartEdit)."


@dataclass(frozen=True)
class Couples:
    """Each photo with another one of the same source in `references`, the same one in every run.

    Which one follows from the photo's number, the source's length and `seed`; `start` and `count` do not matter.
    """

    photos: Input  # at least two
    seed: int  # another one couples them otherwise

    def __len__(self) -> int:
        return len(self.photos)

    def partner(self, index: int) -> int:
        """Number of the second photo; never the same one."""
        told = f"{self.seed}/couple/{index}".encode()
        drawn = int.from_bytes(hashlib.sha256(told).digest()[:8], "little")
        return (index + 1 + drawn % (len(self) - 1)) % len(self)

    def __getitem__(self, index: int) -> Record | Rejected:
        first, second = self.photos[index], self.photos[self.partner(index)]
        if isinstance(first, Rejected):
            return first
        if isinstance(second, Rejected):
            return Rejected(first.key, "read", "second photo cannot be read", f"{second.key}: {second.reason}")
        truth = {**first.truth, "partner": dict(second.truth)} if first.truth else {}
        return first.but(references=(second.photo,), truth=truth, notes={**first.notes, "second_photo": second.key})


def open_couples(config: InputConfig) -> Couples:
    """A folder of photos in couples; raises as `open_folder`, and a `ValueError` for one photo alone."""
    photos = open_folder(config)
    if len(photos) < 2:
        raise ValueError(
            f"{config.path} holds one photo, and couples need a second one to take a thing from: add photos."
        )
    return Couples(photos, config.seed)


def open_scene_couples(config: InputConfig) -> Couples:
    """Rendered scenes, as `scenes` gives them, in couples; see `open_scenes`."""
    return Couples(open_scenes(config), config.seed)


NOTE = "donor"


@dataclass(frozen=True)
class Donor(Step):
    """Chooses a thing of the second photo, by chance among those that are whole and of a kind that the first lacks."""

    attempts: int = 3  # how often a question about the second photo is asked until its answer is usable; ours
    box_threshold: float = 0.4  # least score of a detection; published for AdvancedEdit: 0.4
    min_area: float = 0.01  # least share of the second photo that the thing covers; small ones get blurred; ours
    max_area: float = 0.4  # largest; ours
    # pixels that are taken off all around, since they show the old background, too; ours
    trim: int = setting(1, lambda value: "" if value >= 0 else f"is {value}: it is a number of pixels, 0 or more.")

    name = NOTE
    needs = ("chat", "detector", "segmenter")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._parts  # noqa: B018 - their settings are checked by themselves

    @property
    def prompts(self) -> Mapping[str, str]:  # type: ignore[override]
        """Those of the step `captions`."""
        return self._parts[0].prompts

    @property
    def _parts(self) -> tuple[Captions, Masks]:
        masks = Masks(box_threshold=self.box_threshold, min_area=self.min_area, max_area=self.max_area)
        return Captions(attempts=self.attempts), masks

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with the thing and its mask as `references`; refused: no second photo, nothing in it that will do."""
        seconds: list[Outcome] = [
            Record(record.key, image=record.references[0], truth=record.truth.get("partner", {}))
            if len(record.references) == 1
            else self.reject(record, "has no second photo", "source.kind couples gives each photo one")
            for record in records
        ]
        for step in self._parts:
            seconds = [
                replace(one, step=self.name, reason=f"second photo: {one.reason}")
                if isinstance(one, Rejected) and one.step == step.name
                else one
                for one in through(step, seconds, context)
            ]
        return [
            [self._chosen(record, second, context) if isinstance(second, Record) else second]
            for record, second in zip(records, seconds, strict=True)
        ]

    def _chosen(self, record: Record, second: Record, context: Context) -> Outcome:
        present = {thing.name.lower() for thing in record.things}
        good: list[ObjectAnnotation] = [
            thing
            for thing in second.things
            if thing.mask is not None and not touches_border(thing.mask) and thing.name.lower() not in present
        ]
        if not good:
            told = ", ".join(thing.name for thing in second.things)
            return self.reject(record, "second photo has no whole thing of another kind", told)
        thing = good[int(context.rng(record).integers(len(good)))]
        cut = CutOut.of(second.photo, trimmed(thing.pixels, self.trim))
        told = {"name": thing.name, "caption": thing.caption}
        return record.but(references=cut.pictures, notes={**record.notes, NOTE: told})


@dataclass(frozen=True)
class Swap(Step):
    """Inpaints a thing away, resizes and pastes the second photo's thing there, and harmonises.

    The thing that comes covers a box of the same area as the one that goes and stands on the same line; where it would
    reach out of the picture it is moved inwards. All rules about sizes are ours: the paper says "resize and filter".
    """

    # how far the inpainted area reaches beyond the mask, as a share of the picture's longer side
    grow: float = share(0.02, most=0.5, of="a side")
    min_scale: float = 0.2  # least change of the coming thing's size, as a factor of its sides
    max_scale: float = 2.0  # largest; beyond it gets blurred

    name = "swap"
    needs = ("inpainter", "harmoniser")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.min_scale <= self.max_scale:
            raise ValueError(
                f"steps.{self.name}.min_scale is {self.min_scale} and max_scale {self.max_scale}: the first has to be "
                "above 0 and not above the second."
            )

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Two pairs of each; refused: no thing of the photo can be exchanged for the second photo's."""
        jobs = [self._job(record, context) for record in records]
        good = [job for job in jobs if isinstance(job, _Swap)]
        if not good:
            return [[job] for job in jobs if isinstance(job, Rejected)]
        y1 = context.backend("inpainter").paint([job.removal for job in good])
        pastings = [job.pasting(empty) for job, empty in zip(good, y1, strict=True)]
        y4 = context.backend("harmoniser").harmonise(pastings)
        pairs = iter([job.pairs(pasting, final) for job, pasting, final in zip(good, pastings, y4, strict=True)])
        return [next(pairs) if isinstance(job, _Swap) else [job] for job in jobs]

    def _job(self, record: Record, context: Context) -> _Swap | Rejected:
        if record.image is None or len(record.references) != 2 or NOTE not in record.notes:
            return self.reject(record, "has no thing of a second photo")
        cut = CutOut.from_pictures(record.references)
        rng = context.rng(record)
        order = [int(number) for number in rng.permutation(len(record.things))]
        seed = int(rng.integers(1 << 31))
        tried = []
        for number in order:
            thing = record.things[number]
            if thing.mask is None:
                continue
            where = placed(cut.mask.shape, thing.mask)
            scale = where.height / cut.mask.shape[0]
            if self.min_scale <= scale <= self.max_scale:
                return _Swap(record, number, cut, where, removal_request(record, thing, self.grow, seed))
            tried.append(f"{scale:.2f}")
        told = f"would be scaled by {', '.join(tried)}" if tried else "the photo has no masks"
        return self.reject(record, "nothing to exchange", told)


def placed(size: Sequence[int], mask: np.ndarray) -> Window:
    """Where a thing of a size (h, w) stands in place of one with a mask (H, W): as large a box, on the same foot."""
    old, (height, width) = box_of(mask), mask.shape
    scale = math.sqrt(old.height * old.width / (size[0] * size[1]))
    scale = min(scale, height / size[0], width / size[1])
    tall, wide = (max(1, round(side * scale)) for side in size)
    top = min(max(0, old.top + old.height - tall), height - tall)
    left = min(max(0, old.left + (old.width - wide) // 2), width - wide)
    return Window(top, left, tall, wide)


@dataclass(frozen=True)
class _Swap:
    """One photo, which of its things goes, and what comes where."""

    record: Record
    number: int
    cut: CutOut
    where: Window
    removal: InpaintRequest

    def pasting(self, empty: np.ndarray) -> CompositeRequest:
        """y3: the new thing in the emptied photo (H, W, 3) uint8, y1."""
        picture, inside = self.cut.pasted(empty, self.where)
        return CompositeRequest(picture, inside, empty, self.removal.seed, self.record.truth)

    def pairs(self, y3: CompositeRequest, y4: np.ndarray) -> list[Outcome]:
        """Both pairs; see the table above."""
        record, thing = self.record, self.record.things[self.number]
        new = str(record.notes[NOTE]["name"])
        shared = record.but(references=(), notes={**record.notes, "object": self.number})
        return [
            shared.but(
                key=f"{record.key}/add",
                task="add",
                source=y3.background,
                target=record.image,
                mask=self.removal.mask,
                class_target=thing.words,
                detailed_target=thing.detailed_caption,
            ),
            shared.but(
                key=f"{record.key}/replace",
                task="replace",
                source=record.image,
                target=y4,
                mask=self.removal.mask | y3.mask,
                class_origin=thing.words,
                class_target=new,
                detailed_origin=thing.detailed_caption,
                detailed_target=f"{article(new)} {place_words(thing.pixels)}",
            ),
        ]


KIND = "advanced"
FORMS = {  # the paper's examples: its figures 1, 2 and 6
    "replace": ("Replace {ref} with {new}", "Change {ref} to {new}"),
    "add": ("Add {new} {where}",),
}


@dataclass(frozen=True)
class Relations(EachRecord):
    """Adds what the masks tell: "Replace the smaller cat with a rabbit", "Add a cat to the right of the dog"."""

    only: bool = False  # leave all other wordings out, as SmartEdit's complex understanding has no others

    name = "relations"

    def one(self, record: Record, context: Context) -> Outcome:
        """The record with one more wording; refused: no pair of this recipe."""
        number = record.notes.get("object")
        if record.task not in FORMS or number is None or not 0 <= int(number) < len(record.things):
            return self.reject(record, "is no pair of a photo's thing", record.task)
        thing, forms = record.things[int(number)], FORMS[record.task]
        if record.task == "replace":
            is_whole = not record.notes.get("objects_left_out")  # one of its kind may be among those
            refs = (told_apart(record.things, int(number)) if is_whole else ()) or (f"the {bare(thing.words)}",)
            true = [form.format(ref=ref, new=article(record.class_target)) for form in forms for ref in refs]
        else:
            others = [other for other in record.things if other is not thing]
            where = beside(thing.pixels, others) or place_words(thing.pixels)
            true = [form.format(new=article(thing.name), where=where) for form in forms]
        text = true[int(context.rng(record).integers(len(true)))]
        kept = {} if self.only else dict(record.instructions)
        return record.but(instructions={**kept, KIND: tuple(dict.fromkeys((*kept.get(KIND, ()), text)))})


def steps(settings: Settings) -> list[Step]:
    """The steps; `quality` is the last one where the config names it, `quality: {}` is enough."""
    return configured_steps(settings, Captions, Masks, Donor, Swap, Wording, Relations, Quality, optional=[Quality])


if __name__ == "__main__":
    from data_recipes.runner.cli import main

    main("smartedit_synthetic")
