"""DreamBench (the DreamBooth data set): new pictures of thirty subjects, twenty-five prompts each.

A sample is one subject and one prompt, to be drawn with four seeds. The prompt's `{token} {class}` becomes
`<imagehere>`, for which the subject's first picture stands, and the class alone in the caption that CLIP-T compares
with. `subjects` holds all pictures of the subject: DINO and CLIP-I are means over them in the DreamBooth paper.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from insightedit.datasets.notes import Notes, as_id, some
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads
from insightedit.files import is_junk, natural

LIVE_CLASSES = ("cat", "dog")
PROMPTS = 25  # for each subject
PICTURES = 158  # of all subjects
LISTS = {"object": "Object Prompts", "live": "Live Subject Prompts"}
PROMPT = re.compile(r"'([^']*)'\s*\.format|\"([^\"]*)\"\s*\.format")

CARD = Card(
    name="dreambench",
    title="DreamBench",
    paper="Ruiz et al., DreamBooth, CVPR 2023",
    obtain="Run `git clone https://github.com/google/dreambooth` and name its folder `dataset`.",
    licence="CC-BY-4.0; pictures from unsplash.com under the Unsplash licence (references_and_licenses.txt)",
    layout="""\
dataset/
  prompts_and_classes.txt   classes of the subjects, 25 prompts for objects and 25 for live subjects
  <subject>/00.jpg 01.jpg ...""",
    counts={"all": 750, "object": 525, "live": 225},
    splits=("all", "object", "live"),
)


@reads(CARD, {group: {"all": CARD.counts[group]} for group in ("object", "live")})
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """Four seeds are drawn of each sample; `folder` is `dataset` of the repository, or the repository."""
    if (notes.folder / "dataset").is_dir():
        notes.folder = notes.folder / "dataset"
    text = notes.read_text(notes.folder / "prompts_and_classes.txt")
    notes.stop()
    lines = (text or "").partition("subject_name,class")[2].partition("Prompts")[0].splitlines()
    pairs = [line.strip().split(",") for line in lines if line.strip()]
    if not pairs:
        notes.fault("prompts_and_classes.txt has no list `subject_name,class`: get it again.")
    if bad := [",".join(pair) for pair in pairs if len(pair) != 2 or not all(word.strip() for word in pair)]:
        notes.fault(f"prompts_and_classes.txt has lines that are not `subject,class`: {some(bad)}.")
    classes = {} if bad else {name.strip(): kind.strip() for name, kind in pairs}
    prompts = _prompts(notes, text or "")
    subjects = _subjects(notes, classes) if classes else {}
    notes.stop()
    samples = []
    for name in sorted(subjects, key=natural):
        kind, pictures = classes[name], subjects[name]
        group = "live" if kind in LIVE_CLASSES else "object"
        for number, prompt in enumerate(prompts[group] if split in ("all", group) else ()):
            samples.append(
                BenchmarkSample(
                    as_id(name, f"{number:02d}"),
                    prompt.replace("{0} {1}", "<imagehere>"),
                    category=group,
                    references=pictures[:1],
                    subjects=pictures,
                    target_caption=prompt.replace("{0} {1}", kind),
                    cluster=name,
                    extra={"subject": name, "class": kind, "prompt": prompt},
                )
            )
    return samples


def _prompts(notes: Notes, text: str) -> dict[str, list[str]]:
    """The two lists of prompts, each with {0} for the token and {1} for the class."""
    prompts = {}
    for group, title in LISTS.items():
        part = re.split(r"\n\s*\]", re.split(rf"^{title}\s*$", text, maxsplit=1, flags=re.MULTILINE)[-1])[0]
        found = [first or second for first, second in PROMPT.findall(part)] if title in text else []
        if len(found) != PROMPTS:
            notes.fault(
                f"prompts_and_classes.txt has {len(found)} {title.lower()}, {PROMPTS} are published: get it again."
            )
        if bad := [prompt for prompt in found if "{0} {1}" not in prompt]:
            notes.fault(f"prompts_and_classes.txt has prompts without `{{0}} {{1}}` ({some(bad)}): get it again.")
        prompts[group] = found
    return prompts


def _subjects(notes: Notes, classes: dict[str, str]) -> dict[str, tuple[Path, ...]]:
    """{subject: its pictures} of the folders that are there."""
    folders = {path.name: path for path in notes.folder.iterdir() if path.is_dir() and not is_junk(path)}
    missing = [name for name in classes if name not in folders]
    if len(missing) == len(classes):
        notes.fault("It holds none of the subjects' folders, e.g. backpack: get the whole folder again.")
    elif missing:
        notes.warn(f"{len(missing)} of {len(classes)} subjects are missing ({some(missing)}).", differs=True)
    if strangers := sorted(set(folders) - set(classes), key=natural):
        notes.warn(f"Folders without a class in prompts_and_classes.txt are left out: {some(strangers)}.")
    subjects = {}
    for name in sorted(set(folders) & set(classes), key=natural):
        subjects[name] = tuple(notes.pictures_by_stem(folders[name]).values())
        if not subjects[name]:
            notes.fault(f"{name} holds no pictures: get the folder again.")
    number = sum(len(pictures) for pictures in subjects.values())
    if not missing and number != PICTURES:
        notes.warn(
            f"{number} pictures of subjects are here, {PICTURES} are published: this is another edition.", differs=True
        )
    return subjects
