"""What the language model is asked and what it answers, in the USER / ASSISTANT form of LLaVA-1.5; MIGE's own below.

A template is a pure function of (index, instruction): training walks through the paraphrases by the sample's
index, inference always takes template 0, which all sets share. Sentences are short, because every token costs a step
of the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from insightedit.types import REFERENCE_PLACEHOLDER, Task

IMAGE_TOKEN = "<image>"
SLOT = "{instruction}"
Templates = tuple[tuple[str, str], ...]

# (what the user says, what the assistant answers before the edit tokens)
EDIT_TEMPLATES: Templates = (
    ("{instruction}", "The edited picture:"),
    ("Edit the picture: {instruction}", "The edited picture:"),
    ("Please edit this picture: {instruction}", "Here it is:"),
    ("Change the picture: {instruction}", "The changed picture:"),
    ("Make this edit: {instruction}", "The edit is done:"),
    ("{instruction} Show the picture.", "Here it is:"),
    ("{instruction} Keep the rest.", "The rest is kept:"),
    ("The edit: {instruction}", "The edit is done:"),
    ("Please change this: {instruction}", "The changed picture:"),
    ("Show the picture after this edit: {instruction}", "The picture after the edit:"),
    ("How does the picture look after this edit? {instruction}", "It looks like this:"),
    ("{instruction} How does it look?", "It looks like this:"),
)

CAPTION_TEMPLATES: Templates = (
    ("{instruction}", "The picture:"),
    ("Show a picture: {instruction}", "The picture:"),
    ("Please make a picture: {instruction}", "Here it is:"),
    ("Make this picture: {instruction}", "The picture is done:"),
    ("The picture: {instruction}", "Here it is:"),
    ("{instruction} Show it.", "The picture:"),
    ("{instruction} Make the picture.", "The picture is done:"),
    ("Please show this: {instruction}", "Here it is:"),
    ("How does this look? {instruction}", "It looks like this:"),
    ("A picture of this: {instruction}", "A picture of this:"),
)

# SmartEdit has thirty paraphrases of each kind; these are ours, the first ten or twelve are those above.
MORE_EDIT_TEMPLATES: Templates = (
    *EDIT_TEMPLATES,
    ("I would like this edit: {instruction}", "The picture with your edit:"),
    ("Could you do this to the picture? {instruction}", "Done, see here:"),
    ("Here is a picture and what to do with it: {instruction}", "The result:"),
    ("Take this picture and follow the words: {instruction}", "Following your words:"),
    ("Retouch the picture as I say: {instruction}", "The retouched picture:"),
    ("Draw the picture again with this change: {instruction}", "Drawn again with the change:"),
    ("What would it look like? {instruction}", "It would look like this:"),
    ("My wish for this picture: {instruction}", "Your wish, fulfilled:"),
    ("{instruction} Then give me the picture back.", "The picture, changed:"),
    ("{instruction} That is all I want changed.", "Only that is changed:"),
    ("Modify what you see: {instruction}", "The modified picture:"),
    ("Turn this picture into another one: {instruction}", "The other one:"),
    ("Your task is to edit this photo. {instruction}", "The edited photo:"),
    ("Help me with this photo: {instruction}", "Here is the photo:"),
    ("Apply this to the picture: {instruction}", "It is applied:"),
    ("Imagine the scene after this, and show it: {instruction}", "The scene after it:"),
    ("An instruction for this picture: {instruction}", "The instruction is carried out:"),
    ("Paint over the picture where needed: {instruction}", "Painted over:"),
)

MORE_CAPTION_TEMPLATES: Templates = (
    *CAPTION_TEMPLATES,
    ("I would like to see this: {instruction}", "You see it here:"),
    ("Could you draw this? {instruction}", "Drawn for you:"),
    ("Here is a description: {instruction}", "The picture that fits it:"),
    ("Turn these words into a picture: {instruction}", "The words as a picture:"),
    ("Paint what I describe: {instruction}", "Painted as described:"),
    ("Imagine this and show it: {instruction}", "As I imagine it:"),
    ("What would this look like? {instruction}", "It would look like this:"),
    ("My wish is a picture: {instruction}", "Your picture:"),
    ("{instruction} Give me a picture of that.", "A picture of that:"),
    ("{instruction} Can you draw it?", "I can, here it is:"),
    ("Illustrate this sentence: {instruction}", "The illustration:"),
    ("Find a picture for this caption: {instruction}", "The picture for the caption:"),
    ("Your task is to draw. {instruction}", "The drawing:"),
    ("Help me to see this: {instruction}", "This is how it looks:"),
    ("A caption without its picture: {instruction}", "Its picture:"),
    ("Create an image that shows this: {instruction}", "The image:"),
    ("Think of a photo. {instruction}", "The photo:"),
    ("The scene I have in mind: {instruction}", "The scene:"),
    ("Let me see: {instruction}", "See here:"),
    ("Draw me something: {instruction}", "Here is what I drew:"),
)


@dataclass(frozen=True)
class TemplateSet:
    """The paraphrases that training walks through; inference takes the first."""

    edits: Templates
    captions: Templates  # a picture of a caption is asked for (stage 1)


TEMPLATE_SETS: dict[str, TemplateSet] = {
    "few": TemplateSet(EDIT_TEMPLATES, CAPTION_TEMPLATES),
    "thirty": TemplateSet(MORE_EDIT_TEMPLATES, MORE_CAPTION_TEMPLATES),
}
FEW = TEMPLATE_SETS["few"]


@dataclass(frozen=True)
class Turn:
    """One question and the beginning of its answer."""

    head: str  # text before the instruction, image placeholder included
    instruction: str  # the user's words
    tail: str  # text after the instruction, up to and including `ASSISTANT:`
    reply: str = ""  # the assistant's, with the space that parts them from the prompt; the edit tokens follow it
    # Whether the edit tokens are part of the answer. A chat's answer ends with its words; the edit tokens still follow,
    # so that all rows have them, but nothing is learned from them.
    draws: bool = True

    @property
    def prompt(self) -> str:
        """Everything the assistant reads before it speaks."""
        return self.head + self.instruction + self.tail


def edit_turn(
    instruction: str,
    index: int = 0,
    *,
    has_image: bool = True,
    reply: str | None = None,
    templates: Templates = EDIT_TEMPLATES,
) -> Turn:
    """Ask for an edit by paraphrase `index`, modulo their number (0 at inference); `reply` replaces its answer."""
    user, answer = templates[index % len(templates)]
    return _turn(user, instruction, answer if reply is None else reply, has_image=has_image)


def caption_turn(
    caption: str, index: int = 0, *, reply: str | None = None, templates: Templates = CAPTION_TEMPLATES
) -> Turn:
    """Ask for a picture of a caption; text only (stage 1). Arguments as `edit_turn`."""
    user, answer = templates[index % len(templates)]
    return _turn(user, caption, answer if reply is None else reply, has_image=False)


def question_turn(question: str, *, has_image: bool = True) -> Turn:
    """Ask a question whose answer the model writes itself: visual question answering, expressive instruction."""
    return _turn(SLOT, question, "", has_image=has_image)


def chat_turn(question: str, answer: str, *, has_image: bool = True) -> Turn:
    """A question and its answer in words, after which nothing is drawn (visual question answering in the mixture)."""
    return replace(_turn(SLOT, question, answer, has_image=has_image), draws=False)


def all_template_texts() -> list[str]:
    """Every template of the set `few` with an empty slot, question and answer in one line; to train a tokenizer on."""
    turns = [edit_turn("", i) for i in range(len(EDIT_TEMPLATES))]
    turns += [caption_turn("", i) for i in range(len(CAPTION_TEMPLATES))]
    return [(turn.prompt + turn.reply).replace(IMAGE_TOKEN, "") for turn in turns]


def _turn(user: str, instruction: str, reply: str, *, has_image: bool) -> Turn:
    before, after = user.split(SLOT)
    image = f"{IMAGE_TOKEN}\n" if has_image else ""
    spoken = f" {reply}" if reply else ""
    return Turn(f"USER: {image}{before}", instruction, f"{after} ASSISTANT:", spoken)


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
