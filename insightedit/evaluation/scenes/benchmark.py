"""The scenes benchmark: an editor's success on pictures whose right answer is known, beside its control rows.

Three tasks: `editing` by words, `subject` (a new picture of what reference pictures show) and `subject_editing` (a
subject that a reference picture shows is put into a scene). A new picture has no source; it is scored as the step from
its *empty backdrop* to the target, so that progress is the subject's alone and leak is what is wrong with the backdrop.

Samples stream through in batches; nothing but numbers and the few pictures of the contact sheet is kept.
Control rows are always computed, because a number of an editor means little without them: `copy_source`
(success 0 by construction), `oracle` (1), `wrong_object` (the right edit of a wrong object, 0), `oracle_tint` (the
target under a constant tint: every edit right and no background kept, so 0 wherever there is a background) and, where
the editor's autoencoder is known, `autoencoder_source` (its round trip of the source: the background that it can
keep) and `autoencoder_target` (of the target: the ceiling of any editor that draws through it). With references
there are `wrong_subject` (another class in the right tint and place) and `copy_reference`; for new pictures
`blank_canvas`, and `empty_backdrop` in place of `copy_source`. All of these are 0 by construction.

Every record carries the details of `insightedit.evaluation.scenes.details` besides; they change no other field.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from insightedit.evaluation.core.examples import Example, ExampleKeeper
from insightedit.evaluation.core.protocol import SCENE_RULES, SceneProtocol
from insightedit.evaluation.core.results import SceneReport, pair_result, summarise
from insightedit.evaluation.core.scoring import EditCase, build_case, check_picture, score_edit
from insightedit.evaluation.scenes.metrics import PSNR_CAP

if TYPE_CHECKING:
    from insightedit.evaluation.scenes.details import DetailCase
    from insightedit.scenes import EditSample, SubjectSample

    Sample = EditSample | SubjectSample

EditFn = Callable[[Sequence["Sample"]], Sequence[np.ndarray]]
RoundTripFn = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]

MODEL_ROW = "model"
TINT = (30, 0, -30)  # grey levels of red, green, blue
WRONG_ROWS = ("wrong_object", "wrong_subject", "copy_reference", "blank_canvas")  # kinds of candidates


class SceneStream(Protocol):
    """What `evaluate` needs of a sampler of `data_recipes.scenes`."""

    def __getitem__(self, index: int) -> Sample:
        """Sample number `index`."""
        ...

    def pair(self, index: int) -> tuple[Sample, Sample]:
        """Two samples that differ in one word of the instruction, or in the tint of one reference."""
        ...


def scene_sampler(task: str, *, split: str, size: int, seed: int) -> SceneStream:
    """The scenes of a task.

    Args:
        task: "editing", "subject" or "subject_editing".
        split: "train", "val" or "test".
        size: pixels of a side.
        seed: of the scenes.

    Raises:
        ValueError: for an unknown task or split, or a size that is too small.
    """
    from insightedit.scenes import SceneSampler, SubjectEditSampler, SubjectSampler

    check_task(task)
    samplers = {"editing": SceneSampler, "subject": SubjectSampler, "subject_editing": SubjectEditSampler}
    return samplers[task](split=split, size=size, seed=seed)


def check_task(task: str) -> None:
    """Refuse an unknown task.

    Raises:
        ValueError: with the known ones.
    """
    if task not in SCENE_RULES:
        raise ValueError(f"unknown task {task!r}: choose one of {', '.join(SCENE_RULES)}.")


def sample_id(split: str, size: int, seed: int, index: int, pair: str = "", task: str = "editing") -> str:
    """Name of a sample and of its picture file.

    Examples: `test-64px-s0-000012`, `subject-test-64px-s0-000012` for another task, `pair-...-a` for half of a pair.
    """
    kind = ("pair-" if pair else "") + ("" if task == "editing" else f"{task}-")
    return f"{kind}{split}-{size}px-s{seed}-{index:06d}" + (f"-{pair}" if pair else "")


def evaluate(
    edit_fn: EditFn,
    *,
    count: int,
    size: int,
    split: str = "test",
    seed: int = 0,
    batch_size: int = 50,
    round_trip_fn: RoundTripFn | None = None,
    pairs: int = 0,
    progress: Callable[[int], object] | None = None,
    sampler: SceneStream | None = None,
    task: str = "editing",
    controls: bool = True,
) -> SceneReport:
    """Measure an editor on scenes.

    Args:
        edit_fn: samples -> edited pictures, each (size, size, 3) uint8, in the same order. It should look at
            `source` (None for a new picture), `instruction` and `references` only.
        count: number of scenes, at least 1; the first ones of the split.
        size: pixels of a side.
        split: "train", "val" or "test".
        seed: of the scenes.
        batch_size: samples per call of `edit_fn`.
        round_trip_fn: pictures -> the same through the editor's autoencoder; makes the leak an *excess* leak
            and adds two control rows.
        pairs: number of minimal pairs to measure besides.
        progress: called with the number of samples done since the last call, `count + 2 * pairs` in all.
        sampler: where scenes come from; None for `scene_sampler(task, ...)`.
        task: "editing", "subject" or "subject_editing".
        controls: False leaves the control rows out, where another report has them for the same scenes.

    Returns:
        The report; the same editor, arguments and scenes give an equal one.

    Raises:
        ValueError: for a number out of range or an unknown task, or if `edit_fn` returns the wrong number or size of
            pictures.
        TypeError: if it returns pictures that are not uint8.
    """
    from insightedit.evaluation.scenes.details import DetailRules

    _check_numbers(count=(count, 1), batch_size=(batch_size, 1), pairs=(pairs, 0))
    check_task(task)
    sampler = sampler or scene_sampler(task, split=split, size=size, seed=seed)
    keeper = ExampleKeeper(seed=seed)
    runner = _Runner(edit_fn, round_trip_fn, progress)
    singles = ((sample_id(split, size, seed, i, task=task), sampler[i]) for i in range(count))
    records = []
    for name, sample, truth, output, extra in runner.run(singles, batch_size):
        scored = [_record(name, sample, truth, MODEL_ROW, output)]
        if controls:
            scored += _score_controls(name, sample, truth, extra)
        is_new, case = sample.source is None, truth.case
        keeper.offer(Example(scored[0], case.source, output, case.target, sample.references, is_new))
        records += scored
    both = (
        (sample_id(split, size, seed, i, letter, task), sample)
        for i in range(pairs)
        for letter, sample in zip("ab", sampler.pair(i), strict=True)
    )
    records += [_record(name, s, truth, MODEL_ROW, out) for name, s, truth, out, _ in runner.run(both, batch_size)]
    names = {"split": split, "size": size, "seed": seed, "count": count, "pairs": pairs}
    protocol = SceneProtocol.describe(**names, task=task, data_sha256=runner.digest.hexdigest())
    records = tuple({"protocol": protocol.hash, **record} for record in records)
    settings = {"excess_leak": round_trip_fn is not None}
    kept = {"worst": keeper.worst, "random": keeper.random}
    details = DetailRules().to_dict()
    return SceneReport(protocol, summarise(records), records, pair_result(records), settings, details, **kept)


def _check_numbers(**given: tuple[int, int]) -> None:
    for name, (value, least) in given.items():
        if value < least:
            raise ValueError(f"{name} is {value}: it has to be at least {least}.")


def starting_picture(sample: Sample) -> np.ndarray:
    """(H, W, 3) uint8: the source; of a new picture, the backdrop that nothing stands on yet."""
    return sample.empty if sample.source is None else sample.source


@dataclass(frozen=True)
class _Runner:
    """Runs an editor over named samples, a batch at a time."""

    edit_fn: EditFn
    round_trip_fn: RoundTripFn | None
    progress: Callable[[int], object] | None
    digest: Any = field(default_factory=hashlib.sha256)

    def run(
        self, named: Iterator[tuple[str, Sample]], batch_size: int
    ) -> Iterator[tuple[str, Sample, DetailCase, np.ndarray, dict[str, np.ndarray]]]:
        """Yield id, sample, truth, output and the autoencoder's pictures, in order."""
        from insightedit.evaluation.scenes.details import DetailCase

        for batch in _batches(named, batch_size):
            samples = [sample for _, sample in batch]
            starts, targets = [starting_picture(s) for s in samples], [s.target for s in samples]
            outputs = _checked("edit_fn", self.edit_fn(samples), starts)
            trips: list[dict[str, np.ndarray]] = [{} for _ in samples]
            if self.round_trip_fn is not None:
                start_trips = _checked("round_trip_fn", self.round_trip_fn(starts), starts)
                target_trips = _checked("round_trip_fn", self.round_trip_fn(targets), starts)
                trips = [
                    {_start_row("autoencoder", s): a, "autoencoder_target": b}
                    for s, a, b in zip(samples, start_trips, target_trips, strict=True)
                ]
            for (name, sample), start, output, extra in zip(batch, starts, outputs, trips, strict=True):
                texts = (sample.instruction.encode(), *(picture.tobytes() for picture in sample.references))
                for part in (start.tobytes(), sample.target.tobytes(), *texts):
                    self.digest.update(part)
                case = case_of(sample, extra.get(_start_row("autoencoder", sample)))
                yield name, sample, DetailCase(sample, case), output, extra
                if self.progress is not None:
                    self.progress(1)


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _checked(name: str, pictures: Sequence[np.ndarray], sources: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    if len(pictures) != len(sources):
        raise ValueError(
            f"{name} returned {len(pictures)} pictures for {len(sources)} samples: return one per sample."
        )
    for picture, source in zip(pictures, sources, strict=True):
        check_picture(f"a picture of {name}", picture, source.shape)
    return pictures


def _start_row(name: str, sample: Sample) -> str:
    """Name of the row that shows what is done with the starting picture."""
    return f"{name}_{'backdrop' if sample.source is None else 'source'}"


def case_of(sample: Sample, round_trip: np.ndarray | None = None) -> EditCase:
    """The truth about a scene.

    Args:
        sample: from the sampler.
        round_trip: (H, W, 3) uint8, its starting picture through the editor's autoencoder.
    """
    if sample.source is None:
        return build_case(sample.candidates(), round_trip=round_trip)
    return build_case(
        sample.candidates(),
        object_masks=[sample.object_mask(number) for number in range(len(sample.scene.objects))],
        instructed=sample.edit.targets,
        round_trip=round_trip,
    )


def _score_controls(
    name: str, sample: Sample, truth: DetailCase, trips: Mapping[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
    """The records of one sample's control rows."""
    case = truth.case
    start = "empty_backdrop" if sample.source is None else "copy_source"
    pictures = {start: case.source, "oracle": case.target}
    for kind in WRONG_ROWS:
        wrong = [picture for key, picture in case.rivals.items() if key.split(":")[0] == kind]
        pictures |= {kind: wrong[0]} if wrong else {}
    pictures["oracle_tint"] = tinted(case.target)
    for row, picture in {**pictures, **trips}.items():
        yield _record(name, sample, truth, row, picture)


def tinted(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the picture with `TINT` added, clipped."""
    return np.clip(picture.astype(np.int16) + np.array(TINT, dtype=np.int16), 0, 255).astype(np.uint8)


def _record(name: str, sample: Sample, truth: DetailCase, row: str, output: np.ndarray) -> dict[str, Any]:
    scores = score_edit(truth.case, output)
    is_empty = sample.source is None and scores.nearest == "source"
    leaks = scores.leak_by_threshold or {}
    numbers = {name: value for name, value in vars(scores).items() if name != "leak_by_threshold"}
    return {
        "sample_id": name,
        "row": row,
        "instruction": sample.instruction,
        "task": sample.task,
        "category": sample.category,
        "style": sample.style,
        "template_id": sample.template_id,
        "verdict": "no subject" if is_empty else scores.verdict,
        **numbers,
        **{f"leak_{threshold}": leak for threshold, leak in leaks.items()},
        "capped": scores.psnr_background is not None and scores.psnr_background >= PSNR_CAP,
        "output_sha256": hashlib.sha256(output.tobytes()).hexdigest(),
        **truth.of(scores, output),
    }
