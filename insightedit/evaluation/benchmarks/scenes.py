"""Scenes of our own as files, for any other editor: a benchmark whose right answers are known.

`insightedit eval scenes --dump` writes sources, references and instructions, never the targets; any program edits the
pictures, or draws them, and saves each under the same id. The answers are read from `targets/ID.png` and
`masks/ID.png`, else rendered anew from the ids, which say all that a scene follows from, and kept in the user's cache.
A dump whose sources or instructions are not those that this version draws gets none, and a warning says so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from insightedit.datasets.notes import Entry, Notes, PictureFault, as_id, picture_size, some
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads
from insightedit.files import check_folder, write_text
from insightedit.images.provenance import save_picture
from insightedit.images.reading import is_picture_file, read_rgb

if TYPE_CHECKING:
    from insightedit.evaluation.scenes.benchmark import SceneSet, SceneStream

PLACEHOLDER = "<imagehere>"
CAPTIONS, ODD = "captions.json", "odd.json"  # what is kept beside the pictures
LINE = "{id, source, references, instruction, task, category}"
SCENE_ID = re.compile(
    r"(?P<pair>pair-)?(?:(?P<task>subject|subject_editing)-)?(?P<split>train|val|test)-(?P<size>\d{1,4})px"
    r"-s(?P<seed>\d{1,9})-(?P<index>\d{6,9})(?:-(?P<half>[ab]))?"
)

CARD = Card(
    name="scenes",
    title="the scenes benchmark",
    paper="this package",
    obtain="Run `insightedit eval scenes --dump FOLDER`.",
    licence="Apache-2.0; photographs and sprites as data_recipes/scenes/README.md credits them",
    layout="""\
FOLDER/
  instructions.jsonl   {id, source, references, instruction, task, category} a line
  sources/<id>.png     none for new pictures
  references/<id>-0.png ...   one for each <imagehere>
  targets/<id>.png  masks/<id>.png   optional; rendered anew where they are missing""",
)


def dump_samples(folder: Path, scenes: SceneSet, progress: Callable[[int], object] | None = None) -> Path:
    """Write sources, references and instructions for another editor; gives the path of `instructions.jsonl`."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw, lines = scenes.drawing(), []
    for number, name in enumerate(scenes.ids):
        scene = draw(number)
        sources = {} if scene.source is None else {f"sources/{name}.png": scene.source}
        references = {f"references/{name}-{i}.png": picture for i, picture in enumerate(scene.references)}
        for path, picture in {**sources, **references}.items():
            (folder / path).parent.mkdir(exist_ok=True)
            save_picture(Image.fromarray(picture), folder / path)
        given: dict[str, Any] = {"source": next(iter(sources))} if sources else {}
        given |= {"references": list(references)} if references else {}
        told = {"instruction": scene.instruction, "task": scene.task, "category": scene.category}
        lines.append(json.dumps({"id": name, **given, **told}, ensure_ascii=False))
        if progress is not None:
            progress(1)
    write_text(folder / "instructions.jsonl", "\n".join(lines) + "\n")
    return folder / "instructions.jsonl"


def find_results(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Edited pictures of scenes: `ID.png` (or .webp, .jpg, .bmp, .tif), of any size, for all ids (`names`)."""
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder {folder}: --results names the folder that holds the edited pictures.")
    found = {path.stem: path for path in folder.iterdir() if is_picture_file(path)}
    if missing := [name for name in names if name not in found]:
        first = ", ".join(f"{name}.png" for name in missing[:3])
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of {len(names)} pictures, e.g. {first}: edit the pictures that "
            "--dump writes with the same --task, --count, --size, --split, --seed and --pairs, and keep their names."
        )
    return {name: found[name] for name in names}


@dataclass(frozen=True)
class SceneName:
    """What a scene's id says; see `insightedit.evaluation.scenes.benchmark.sample_id`."""

    task: str
    split: str
    size: int
    seed: int
    index: int
    half: str = ""

    @classmethod
    def parse(cls, name: str) -> SceneName | None:
        """Read an id; None if it is no scene's."""
        found = SCENE_ID.fullmatch(name)
        if found is None or bool(found["pair"]) != bool(found["half"]):
            return None
        numbers = (int(found["size"]), int(found["seed"]), int(found["index"]))
        return cls(found["task"] or "editing", found["split"], *numbers, found["half"] or "")


@reads(CARD)
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """The samples of a dump, with their answers as far as they can be had."""
    rows = notes.read_jsonl(notes.folder / "instructions.jsonl", LINE) or []
    notes.stop()
    numbered = ((f"instructions.jsonl, line {number}", row) for number, row in enumerate(rows, 1))
    found = notes.each(numbered, LINE, _sample)
    notes.stop()
    return _with_answers(notes, found)


def _sample(entry: Entry) -> BenchmarkSample:
    name, instruction = entry.text("id"), entry.text("instruction")
    source, references = entry.text("source", needed=False), entry.texts("references", "paths")
    paths = [entry.inside(entry.notes.folder, path) for path in ([source] if source else []) + references]
    if instruction.count(PLACEHOLDER) != len(references):
        entry.fault(
            f"has {instruction.count(PLACEHOLDER)} {PLACEHOLDER} in its instruction and {len(references)} references: "
            "there has to be one for each"
        )
    wanted = [name] * bool(source) + [f"{name}-{i}" for i in range(len(references))]
    if [path.stem for path in paths] != wanted:
        entry.fault(
            f"has the id {name} and the pictures {some(path.name for path in paths)}: they should be named "
            f"{some(wanted)}"
        )
    return BenchmarkSample(
        as_id(name),
        instruction,
        category=entry.text("category", needed=False),
        source=paths[0] if source else None,
        references=tuple(paths[1:] if source else paths),
        cluster=re.sub(r"-[ab]$", "", name),
        extra={"task": entry.text("task", needed=False)},
    )


def _with_answers(notes: Notes, samples: list[BenchmarkSample]) -> list[BenchmarkSample]:
    """The samples with targets and masks that lie there, else drawn and kept; those have to be what the dump shows."""
    from insightedit.miniatures.folders import cache_dir, replace_folder

    answers = {sample.sample_id: notes.folder / "targets" / f"{sample.sample_id}.png" for sample in samples}
    there = [name for name, path in answers.items() if path.is_file()]
    if there and len(there) < len(samples):
        lacking = [name for name in answers if name not in set(there)]
        notes.fault(f"targets lacks {len(lacking)} of {len(samples)} pictures ({some(lacking)}): add or remove all.")
        return samples
    if there:
        return [_answered(sample, notes.folder) for sample in samples]
    parsed = {sample.sample_id: SceneName.parse(sample.sample_id) for sample in samples}
    names = {name: scene for name, scene in parsed.items() if scene is not None}
    if foreign := [name for name in parsed if name not in names]:
        notes.warn(
            f"There are no targets, and none can be drawn because {len(foreign)} ids are no scenes' ({some(foreign)}): "
            "only measures without a right answer are left."
        )
        return samples
    odd = [sample.sample_id for sample in samples if not _fits(sample, names[sample.sample_id])]
    kept = cache_dir() / "scenes" / ("" if odd else _stamp(samples))
    if not odd and not kept.is_dir():
        with replace_folder(kept, keep_existing=True) as fresh:
            odd = _draw_answers(fresh, samples, names)
            if odd:
                (fresh / ODD).write_text(json.dumps(odd), encoding="utf-8")
    if odd or (kept / ODD).is_file():
        odd = odd or json.loads((kept / ODD).read_text(encoding="utf-8"))
        notes.warn(
            f"There are no targets, and those that this version draws belong to other sources or instructions "
            f"({some(odd)}): dump the scenes anew, or only measures without a right answer are left."
        )
        return samples
    captions = json.loads((kept / CAPTIONS).read_text(encoding="utf-8"))
    return [
        replace(_answered(sample, kept), source_caption=source, target_caption=target)
        for sample, (source, target) in zip(samples, captions, strict=True)
    ]


def _answered(sample: BenchmarkSample, folder: Path) -> BenchmarkSample:
    mask = folder / "masks" / f"{sample.sample_id}.png"
    target = folder / "targets" / f"{sample.sample_id}.png"
    return replace(sample, target=target, mask=mask if mask.is_file() else None)


def _fits(sample: BenchmarkSample, name: SceneName) -> bool:
    """Whether the pictures have the size that the id says; bad files are told later, with all others."""
    for path in (sample.source, *sample.references):
        try:
            if path is not None and picture_size(path) != (name.size, name.size):
                return False
        except PictureFault:
            continue
    return True


def _stamp(samples: list[BenchmarkSample]) -> str:
    """The same for the same dump and the same renderer."""
    from insightedit import scenes

    digest = hashlib.sha256()
    code = Path(scenes.__file__).parent
    for path in sorted([*code.rglob("*.py"), *code.rglob("*.json")]):
        digest.update(path.name.encode() + path.read_bytes())
    for sample in samples:
        digest.update(json.dumps([sample.sample_id, sample.instruction]).encode())
        for path in (sample.source, *sample.references):
            digest.update(path.read_bytes() if path is not None and path.is_file() else b"")
    return digest.hexdigest()[:16]


def _draw_answers(folder: Path, samples: list[BenchmarkSample], names: Mapping[str, SceneName]) -> list[str]:
    """Write targets, masks and captions; gives the samples that are not what is drawn."""
    from insightedit.evaluation.scenes.benchmark import scene_sampler

    for part in ("targets", "masks"):
        (folder / part).mkdir()
    samplers: dict[tuple[str, str, int, int], SceneStream] = {}
    odd, captions = [], []
    for sample in samples:
        name = names[sample.sample_id]
        world = (name.task, name.split, name.size, name.seed)
        if world not in samplers:
            samplers[world] = scene_sampler(name.task, split=name.split, size=name.size, seed=name.seed)
        sampler = samplers[world]
        scene = sampler.pair(name.index)["ab".index(name.half)] if name.half else sampler[name.index]
        given = [path for path in (sample.source, *sample.references) if path is not None]
        wanted = [picture for picture in (scene.source, *scene.references) if picture is not None]
        is_same = sample.instruction == scene.instruction and len(given) == len(wanted)
        if not is_same or not all(map(_shows, given, wanted)):
            odd.append(sample.sample_id)
            continue
        captions.append(["" if scene.source is None else scene.caption_source, scene.caption_target])
        Image.fromarray(scene.target).save(folder / "targets" / f"{sample.sample_id}.png")
        Image.fromarray(scene.mask).save(folder / "masks" / f"{sample.sample_id}.png")
    (folder / CAPTIONS).write_text(json.dumps(captions), encoding="utf-8")
    return odd


def _shows(path: Path, picture: np.ndarray) -> bool:
    """Whether a file is this picture, pixel by pixel; bad files are told later, with all others."""
    try:
        picture_size(path)
    except PictureFault:
        return True
    return np.array_equal(read_rgb(path), picture)
