"""Reason-Edit (SmartEdit): pictures, masks and a text file in six folders, paired by number only.

The published scripts pair pictures, masks and lines by their places in sorted lists, so a file too many shifts all that
follow. Here masks are paired by stem, and a line belongs to the picture of its place in alphabetical order, as there;
numbers that do not match are faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from insightedit.datasets.notes import Notes, as_id, some
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads
from insightedit.files import natural

GROUPS = {  # folder: (text file, folder of results in the published scripts)
    "1-Left-Right": ("Left_Right_text.txt", "LeftRight_metrics_1"),
    "2-Relative-Size": ("Size_text.txt", "RelativeSize_metrics_2"),
    "3-Mirror": ("Mirror_text.txt", "Mirror_metrics_3"),
    "4-Color": ("Color_text.txt", "Color_metrics_4"),
    "5-Multiple-Objects": ("MultipleObjects_text.txt", "MultipleObjects_metrics_5"),
    "6-Reasoning": ("Reason_test.txt", "Reasoning_metrics_1"),
}
REASONING = "6-Reasoning"
OTHER_NAMES = {"Reasoning-231115": REASONING}  # how one of the published scripts calls it
LABEL = "CLIP: "
MASK = "_mask"

CARD = Card(
    name="reason-edit",
    title="Reason-Edit",
    paper="Huang et al., SmartEdit, CVPR 2024",
    obtain="Get ReasonEdit_benckmark_dir by the link in the README of github.com/TencentARC/SmartEdit.",
    licence="none stated",
    layout="""\
ReasonEdit_benckmark_dir/
  1-Left-Right/        001.png 001_mask.jpg ... Left_Right_text.txt
  2-Relative-Size/     ... Size_text.txt
  3-Mirror/            ... Mirror_text.txt
  4-Color/             ... Color_text.txt
  5-Multiple-Objects/  ... MultipleObjects_text.txt
  6-Reasoning/         ... Reason_test.txt
line n of a text, for the n-th picture by name:  INSTRUCTION CLIP: LABEL""",
    counts={"all": 219},
)


@reads(CARD)
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """Samples with label as `local_caption` (blanks kept: the published script keeps them), category = folder.

    `extra` has `line` of the text, `group` ("Understanding" or "Reasoning", as the papers average), and `result_alias`,
    how the published scripts name the result.
    """
    found: dict[str, Path] = {}
    for path in sorted([*notes.folder.glob("*/"), *notes.folder.glob("*/*/")]):
        group = OTHER_NAMES.get(path.name, path.name)
        if group in found:
            notes.fault(f"{notes.short(found[group])} and {notes.short(path)} are the same group: remove one.")
        elif group in GROUPS:
            found[group] = path
    if not found:
        notes.stop(f"It holds none of the folders {', '.join(GROUPS)}.")
    if missing := [group for group in GROUPS if group not in found]:
        notes.warn(f"Folders are missing: {', '.join(missing)}; averages are over the others.", differs=True)
    in_order = [(group, found[group]) for group in GROUPS if group in found]
    return [sample for group, place in in_order for sample in _read_group(notes, group, place)]


def _read_group(notes: Notes, group: str, place: Path) -> list[BenchmarkSample]:
    text_name, results = GROUPS[group]
    name, pictures = notes.short(place), notes.pictures_by_stem(place)
    sources = {stem: path for stem, path in pictures.items() if not stem.endswith(MASK)}
    masks = {stem.removesuffix(MASK): path for stem, path in pictures.items() if stem.endswith(MASK)}
    if bare := [path.name for stem, path in sources.items() if stem not in masks]:
        notes.fault(f"{name} has pictures without a mask ({len(bare)}): {some(bare)}.")
    if lonely := [path.name for stem, path in masks.items() if stem not in sources]:
        notes.fault(f"{name} has masks without a picture ({len(lonely)}): {some(lonely)}.")
    if confused := [path.name for path in masks.values() if path.suffix == ".png"]:
        notes.warn(
            f"{name} has masks in PNG ({some(confused)}): the published scripts take them for pictures and shift all "
            "that follow; here they are masks."
        )
    text = notes.read_text(place / text_name)
    if text is None:
        return []
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n") if text.strip() else []
    if len(lines) != len(sources):
        notes.fault(
            f"{name} holds {len(sources)} pictures and {text_name} {len(lines)} lines: they go together "
            "by number, so one too few shifts all that follow."
        )
        return []
    order = sorted(sources, key=lambda stem: sources[stem].name)
    if order != sorted(sources, key=natural):
        notes.warn(
            f"{name} has numbers without leading zeros: line n goes with the n-th name in alphabetical "
            f"order ({some(order)}), as in the published scripts."
        )
    samples = []
    for number, (stem, line) in enumerate(zip(order, lines, strict=True), 1):
        words = _split_line(notes, f"{name}/{text_name}, line {number},", line)
        if words is None:
            continue
        samples.append(
            BenchmarkSample(
                sample_id=as_id(group, stem),
                instruction=words[0],
                category=group,
                source=sources[stem],
                mask=masks.get(stem),
                local_caption=words[1],
                extra={
                    "line": str(number),
                    "group": "Reasoning" if group == REASONING else "Understanding",
                    "result_alias": f"{results}/{number:04d}",
                },
            )
        )
    return samples


def _split_line(notes: Notes, where: str, line: str) -> tuple[str, str] | None:
    """(instruction, label), cut as the published script cuts them; None with a fault noted if one is missing."""
    instruction, *labels = line.split(LABEL)
    if not labels:
        notes.fault(f"{where} has no {LABEL.strip()!r} before its label: {line[:40]!r}.")
    elif not instruction.strip():
        notes.fault(f"{where} has no instruction: {line[:40]!r}.")
    elif not labels[0].strip():
        notes.fault(f"{where} has no label after {LABEL.strip()!r}.")
    else:
        if len(labels) > 1:
            notes.warn(f"{where} has {LABEL.strip()!r} twice: the label stands between, as in the published script.")
        return instruction.rstrip(), labels[0]
    return None
