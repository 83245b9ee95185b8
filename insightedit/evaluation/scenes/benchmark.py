"""The scenes benchmark: an editor's success on pictures whose right answer is known, beside its control rows.

Three tasks: `editing` by words, `subject` (a new picture of what reference pictures show) and `subject_editing` (a
subject that a reference picture shows is put into a scene). A new picture has no source; it is scored as the step from
its *empty backdrop* to the target, so that progress is the subject's alone and leak is what is wrong with the backdrop.

It is measured as every other benchmark (`insightedit.evaluation.core.run`), by the protocol `exact_v1`.
Control rows are computed besides, because a number of an editor means little without them: `copy_source`
(success 0 by construction), `oracle` (1), `wrong_object` (the right edit of a wrong object, 0), `oracle_tint` (the
target under a constant tint: every edit right and no background kept, so 0 wherever there is a background) and, where
the editor's autoencoder is known, `autoencoder_source` (its round trip of the source: the background that it can
keep) and `autoencoder_target` (of the target: the ceiling of any editor that draws through it). With references
there are `wrong_subject` (another class in the right tint and place) and `copy_reference`; for new pictures
`blank_canvas`, and `empty_backdrop` in place of `copy_source`. All of these are 0 by construction.

Every `success` record carries the details of `insightedit.evaluation.scenes.details` besides; they change no number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from insightedit.evaluation.benchmarks.base import Benchmark, BenchmarkSample
from insightedit.evaluation.benchmarks.scenes import CARD
from insightedit.evaluation.core.editing_methods import EditingMethod
from insightedit.evaluation.core.measure import RoundTrip, SampleView
from insightedit.evaluation.core.metric_models import MetricModels
from insightedit.evaluation.core.protocol import SCENE_RULES, SceneProtocol
from insightedit.evaluation.core.protocols import EXACT, PROTOCOLS
from insightedit.evaluation.core.records import CONTROL_ROWS, by_hash, is_control, read_records
from insightedit.evaluation.core.run import run_benchmark
from insightedit.evaluation.core.run_folder import PICTURES, RECORDS, SILENT, Said
from insightedit.evaluation.metrics.masks import match_size
from insightedit.evaluation.scenes.details import DetailCase, DetailRules
from insightedit.evaluation.scenes.metrics import PSNR_CAP, largest_change
from insightedit.evaluation.scenes.report import MODEL_ROW, Example, SceneReport, is_pair
from insightedit.evaluation.scenes.scoring import EditCase, build_case, check_picture, score_edit
from insightedit.images.provenance import save_picture
from insightedit.images.reading import read_rgb

if TYPE_CHECKING:
    from insightedit.scenes import EditSample, SubjectSample

    Sample = EditSample | SubjectSample

EditFn = Callable[[Sequence["Sample"]], Sequence[np.ndarray]]

TINT = (30, 0, -30)  # grey levels of red, green, blue
NUM_WORST = 8  # on the contact sheet
KEPT = 64  # scenes that stay drawn while a batch of them is edited and scored
ON_SINGLES = tuple(name for name in EXACT if name != "pair_success")


class SceneStream(Protocol):
    """What the benchmark needs of a sampler of `insightedit.scenes`."""

    def __getitem__(self, index: int) -> Sample:
        """Sample number `index`."""
        ...

    def pair(self, index: int) -> tuple[Sample, Sample]:
        """Two samples that differ in one word of the instruction, or in the tint of one reference."""
        ...


def scene_sampler(task: str, *, split: str, size: int, seed: int) -> SceneStream:
    """The scenes of a task; a ValueError for an unknown task or split, or a size that is too small."""
    from insightedit.scenes import SceneSampler, SubjectEditSampler, SubjectSampler

    if task not in SCENE_RULES:
        raise ValueError(f"unknown task {task!r}: choose one of {', '.join(SCENE_RULES)}.")
    samplers = {"editing": SceneSampler, "subject": SubjectSampler, "subject_editing": SubjectEditSampler}
    return samplers[task](split=split, size=size, seed=seed)


def sample_id(split: str, size: int, seed: int, index: int, pair: str = "", task: str = "editing") -> str:
    """Name of a sample and of its picture file.

    Examples: `test-64px-s0-000012`, `subject-test-64px-s0-000012` for another task, `pair-...-a` for half of a pair.
    """
    kind = ("pair-" if pair else "") + ("" if task == "editing" else f"{task}-")
    return f"{kind}{split}-{size}px-s{seed}-{index:06d}" + (f"-{pair}" if pair else "")


@dataclass(frozen=True)
class SceneSet:
    """Which scenes.

    Raises:
        ValueError: for a number out of range.
    """

    count: int  # scenes, at least 1; the first ones of the split
    size: int  # pixels of a side
    split: str = "test"  # "train", "val" or "test"
    seed: int = 0  # of the scenes
    pairs: int = 0  # minimal pairs to measure besides
    task: str = "editing"  # "editing", "subject" or "subject_editing"
    sampler: SceneStream | None = field(default=None, repr=False)  # None for `scene_sampler(task, ...)`

    def __post_init__(self) -> None:
        _check_least(count=(self.count, 1), pairs=(self.pairs, 0))

    @property
    def ids(self) -> list[str]:
        """Names of all samples, those of pairs last."""
        where = self.split, self.size, self.seed
        names = [sample_id(*where, index, task=self.task) for index in range(self.count)]
        return names + [sample_id(*where, index, half, self.task) for index in range(self.pairs) for half in "ab"]

    def drawing(self) -> Callable[[int], Sample]:
        """Number of a sample -> the sample; the last ones stay drawn."""
        where = {"split": self.split, "size": self.size, "seed": self.seed}
        sampler = self.sampler or scene_sampler(self.task, **where)

        @lru_cache(maxsize=KEPT)
        def draw(number: int) -> Sample:
            if number < self.count:
                return sampler[number]
            index, half = divmod(number - self.count, 2)
            return sampler.pair(index)[half]

        return draw


def _check_least(**numbers: tuple[int, int]) -> None:
    for name, (value, least) in numbers.items():
        if value < least:
            raise ValueError(f"{name} is {value}: it has to be at least {least}.")


def evaluate(
    edit: EditFn | EditingMethod,
    scenes: SceneSet,
    *,
    out: Path | None = None,
    batch_size: int = 50,
    round_trip: RoundTrip | None = None,
    progress: Callable[[int], object] | None = None,
    controls: bool = True,
) -> SceneReport:
    """Measure an editor on scenes.

    Args:
        edit: samples -> edited pictures, each (size, size, 3) uint8, in the same order. It should look at
            `source` (None for a new picture), `instruction` and `references` only. Or whoever made them before.
        scenes: which.
        out: folder that the run is kept in, with all pictures; an earlier one is replaced, but for one of the same
            that was stopped. None keeps nothing but the report.
        batch_size: samples per call of `edit`.
        round_trip: pictures -> the same through the editor's autoencoder; makes the leak an *excess* leak
            and adds two control rows.
        progress: called with 1 after each sample, `count + 2 * pairs` times.
        controls: False leaves the control rows out, where another report has them for the same scenes.

    Returns:
        The report; the same editor, arguments and scenes give an equal one.

    Raises:
        ValueError: for a number out of range or an unknown task, or if `edit` returns the wrong number or size of
            pictures.
        TypeError: if it returns pictures that are not uint8.
    """
    _check_least(batch_size=(batch_size, 1))
    with TemporaryDirectory() as passing:
        folder = Path(passing) if out is None else out
        if not isinstance(edit, EditingMethod):
            edit = EditingMethod(MODEL_ROW, SceneOutputs(edit, folder, batch_size), round_trip=round_trip)
        if is_control(edit.method):  # as a folder of results may be called
            edit = replace(edit, method=MODEL_ROW)
        benchmark, rules = _as_benchmark(scenes, out, controls)
        protocol = replace(PROTOCOLS["exact_v1"], name=rules.name, benchmarks=(benchmark.card.name,), drawn=rules)
        run_benchmark(benchmark, protocol, edit, MetricModels(), folder, progress=progress, renew=True)
        records = tuple(record for record in read_records(folder / RECORDS) if record.facts)
        settings = {"excess_leak": edit.round_trip is not None}
        report = SceneReport(rules, records, settings, DetailRules().to_dict())
        return _with_examples(report, benchmark, edit)


def _as_benchmark(scenes: SceneSet, folder: Path | None, controls: bool) -> tuple[Benchmark, SceneProtocol]:
    """The scenes as samples, and their protocol, which covers every pixel of them; pictures are kept in the folder."""
    draw, digest, samples = scenes.drawing(), hashlib.sha256(), []
    for number, name in enumerate(scenes.ids):
        scene, paired = draw(number), is_pair(name)
        texts = (scene.instruction.encode(), *(picture.tobytes() for picture in scene.references))
        for part in (starting_picture(scene).tobytes(), scene.target.tobytes(), *texts):
            digest.update(part)
        sample = SceneSample(
            name,
            scene.instruction,
            str(scene.category),
            cluster=name[:-2] if paired else "",
            metrics=("pair_success",) if paired else ON_SINGLES,
            draw=partial(draw, number),
        )
        samples.append(sample if folder is None else _kept(sample, folder))
    names = {name: getattr(scenes, name) for name in ("split", "size", "seed", "count", "pairs", "task")}
    rules = SceneProtocol.describe(**names, data_sha256=digest.hexdigest())
    name = rules.name.removesuffix("_v2")
    version, view = f"{scenes.split}-{rules.data_sha256[:16]}", partial(SceneView, has_controls=controls)
    card = replace(CARD, name=name, title=name.replace("_", " "))
    return Benchmark(card, folder or Path(), tuple(samples), (), version, scenes.split, view=view), rules


@dataclass(frozen=True)
class SceneSample(BenchmarkSample):
    """A sample whose pictures are drawn when they are asked for."""

    draw: Callable[[], Sample] = field(kw_only=True)


def _kept(sample: SceneSample, folder: Path) -> SceneSample:
    """The sample with its pictures as files: of a new picture, the empty backdrop as the source."""
    scene, name = sample.draw(), sample.sample_id
    start = starting_picture(scene)
    changed = np.where(largest_change(start, scene.target) > 0, 255, 0).astype(np.uint8)
    pictures = {f"sources/{name}": start, f"targets/{name}": scene.target, f"masks/{name}": changed}
    pictures |= {f"references/{name}-{number}": rgb for number, rgb in enumerate(scene.references)}
    paths = [_save(folder / f"{place}.png", rgb) for place, rgb in pictures.items()]
    return replace(sample, source=paths[0], target=paths[1], mask=paths[2], references=tuple(paths[3:]))


def _save(path: Path, rgb: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(Image.fromarray(rgb), path)
    return path


@dataclass(frozen=True)
class SceneOutputs:
    """Pictures that a function makes of scenes, each saved under the run's folder; see `Outputs`."""

    edit_fn: EditFn
    out: Path
    batch_size: int = 1
    source: str = ""
    kind: str = "model"
    seeds: tuple[int | None, ...] = (None,)

    def path(self, sample: BenchmarkSample, seed: int | None) -> Path:
        """Where a sample's picture lies."""
        return self.out / PICTURES / f"{sample.sample_id}.png"

    def prepare(self, samples: Sequence[Any], seed: int | None) -> None:
        """Make the pictures of these samples, unless all are there."""
        if not all(self.path(sample, seed).is_file() for sample in samples):
            scenes = [sample.draw() for sample in samples]
            pictures = _checked("edit_fn", self.edit_fn(scenes), [starting_picture(scene) for scene in scenes])
            for sample, rgb in zip(samples, pictures, strict=True):
                _save(self.path(sample, seed), rgb)


def _checked(name: str, pictures: Sequence[np.ndarray], sources: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    if len(pictures) != len(sources):
        raise ValueError(
            f"{name} returned {len(pictures)} pictures for {len(sources)} samples: return one per sample."
        )
    for picture, source in zip(pictures, sources, strict=True):
        check_picture(f"a picture of {name}", picture, source.shape)
    return pictures


class SceneView(SampleView):
    """A `SceneSample` with its truth; `has_controls` says whether control rows are wanted."""

    def __init__(self, sample: Any, round_trip: RoundTrip | None = None, *, has_controls: bool = True) -> None:
        super().__init__(sample, round_trip)
        self._has_controls = has_controls and not is_pair(sample.sample_id)

    @cached_property
    def scene(self) -> Sample:
        """As it was drawn."""
        return self.sample.draw()

    @property
    def controls(self) -> list[str]:
        """Names of all rows that there may be."""
        names = [one for one in CONTROL_ROWS if self.round_trip is not None or not one.startswith("autoencoder")]
        return names if self._has_controls else []

    def control(self, name: str) -> np.ndarray | None:
        """(H, W, 3) uint8 of a control row; None if this scene has none."""
        return self._controls.get(name)

    @cached_property
    def _controls(self) -> dict[str, np.ndarray]:
        case, kind = self._truth.case, "source" if self.scene.source is not None else "backdrop"
        pictures = {"copy_source" if kind == "source" else "empty_backdrop": case.source, "oracle": case.target}
        for name, picture in case.rivals.items():
            pictures.setdefault(name.split(":")[0], picture)  # the first of each kind
        pictures["oracle_tint"] = tinted(case.target)
        if case.round_trip is not None:
            pictures |= {f"autoencoder_{kind}": case.round_trip, "autoencoder_target": self._trip(case.target)}
        return pictures

    def _trip(self, picture: np.ndarray) -> np.ndarray:
        assert self.round_trip is not None
        return _checked("round_trip", self.round_trip([picture]), [picture])[0]

    @cached_property
    def _truth(self) -> DetailCase:
        start = None if self.round_trip is None else self._trip(starting_picture(self.scene))
        return DetailCase(self.scene, case_of(self.scene, start))

    def exact(self, edited: np.ndarray, said: Said = SILENT) -> dict[str, Any]:
        """All that can be told of an output: success, progress and so on, details, and what it shows in words."""
        scene, truth = self.scene, self._truth
        output = match_size(edited, scene.target)
        scores = score_edit(truth.case, output)
        is_empty = scene.source is None and scores.nearest == "source"
        leaks = scores.leak_by_threshold or {}
        return {
            "instruction": scene.instruction,
            "task": scene.task,
            "category": scene.category,
            "style": scene.style,
            "template_id": scene.template_id,
            "verdict": "no subject" if is_empty else scores.verdict,
            **{name: value for name, value in vars(scores).items() if name != "leak_by_threshold"},
            **{f"leak_{threshold}": leak for threshold, leak in leaks.items()},
            "capped": scores.psnr_background is not None and scores.psnr_background >= PSNR_CAP,
            "output_sha256": hashlib.sha256(output.tobytes()).hexdigest(),
            **truth.of(scores, output),
        }


def _with_examples(report: SceneReport, benchmark: Benchmark, method: EditingMethod) -> SceneReport:
    """The report with the pictures of its sheet: the lowest relative progress, and the lowest hashes of the ids."""
    lines = {
        line["sample_id"]: line for line in report.lines if line["row"] == MODEL_ROW and not is_pair(line["sample_id"])
    }
    samples = {sample.sample_id: sample for sample in benchmark if sample.sample_id in lines}

    def example(name: str) -> Example:
        path = method.outputs.path(samples[name], method.outputs.seeds[0])
        scene = SceneView(samples[name]).scene
        start, is_new = starting_picture(scene), scene.source is None
        output = match_size(read_rgb(path), scene.target)
        return Example(lines[name], start, output, scene.target, scene.references, is_new)

    worst = sorted(lines, key=lambda name: (-lines[name]["progress"], name), reverse=True)[:NUM_WORST]
    random = by_hash(lines, seed=report.protocol.seed)
    return replace(report, worst=tuple(map(example, worst)), random=tuple(map(example, random)))


def starting_picture(sample: Sample) -> np.ndarray:
    """(H, W, 3) uint8: the source; of a new picture, the backdrop that nothing stands on yet."""
    return sample.empty if sample.source is None else sample.source


def case_of(sample: Sample, round_trip: np.ndarray | None = None) -> EditCase:
    """The truth about a scene; `round_trip` is its starting picture through the editor's autoencoder."""
    if sample.source is None:
        return build_case(sample.candidates(), round_trip=round_trip)
    return build_case(
        sample.candidates(),
        object_masks=[sample.object_mask(number) for number in range(len(sample.scene.objects))],
        instructed=sample.edit.targets,
        round_trip=round_trip,
    )


def tinted(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the picture with `TINT` added, clipped."""
    return np.clip(picture.astype(np.int16) + np.array(TINT, dtype=np.int16), 0, 255).astype(np.uint8)
