"""Instructions with pictures in them: where each picture stands in the text, and the sentence that names the task.

The same words at training and at inference: what is drawn depends on them.
"""

from __future__ import annotations

import re

from insightedit.types import REFERENCE_PLACEHOLDER, Task

# MIGE puts one sentence per task before the instruction; the wording is ours.
TASK_PREFIXES: dict[Task, str] = {
    "editing": "Edit the picture:",
    "subject": "Draw a new picture:",
    "subject_editing": "Edit the picture with the given subject:",
}
SOURCE_WORDS = re.compile(r"\b(?:the|this) (?:image|photo|picture)\b", re.IGNORECASE)


def place_source(instruction: str) -> tuple[str, int]:
    """Give the source picture a placeholder, so that it is one of the instruction's pictures.

    Args:
        instruction: words, with one `<imagehere>` for each reference image.

    Returns:
        The instruction with one placeholder more, in place of the first "the image", "the photo" or "the picture",
        else at its end; and how many other pictures come before the source.

    Source: MIGE's data preparation.
    """
    found = SOURCE_WORDS.search(instruction)
    if found is None:
        return f"{instruction.rstrip()} {REFERENCE_PLACEHOLDER}", instruction.count(REFERENCE_PLACEHOLDER)
    before, after = instruction[: found.start()], instruction[found.end() :]
    return f"{before}{REFERENCE_PLACEHOLDER}{after}", before.count(REFERENCE_PLACEHOLDER)


def check_placeholders(instruction: str, num_references: int, max_references: int) -> None:
    """Refuse an instruction whose placeholders and reference images differ in number.

    Args:
        instruction: words with placeholders.
        num_references: reference images that go with it.
        max_references: most that the model reads.

    Raises:
        ValueError: with both numbers and what to do.
    """
    if num_references > max_references:
        raise ValueError(
            f"{num_references} reference images were given, this model reads at most {max_references} in one "
            "instruction: leave some out."
        )
    placeholders = instruction.count(REFERENCE_PLACEHOLDER)
    if placeholders != num_references:
        raise ValueError(
            f"the instruction {instruction[:60]!r} has {placeholders} {REFERENCE_PLACEHOLDER} and "
            f"{num_references} reference images go with it: write {REFERENCE_PLACEHOLDER} once for each, in their "
            "order. The picture to edit finds its own place."
        )
