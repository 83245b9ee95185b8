"""What the language model is asked and what it answers, in the USER / ASSISTANT form of LLaVA-1.5.

A template is a pure function of (index, instruction): training walks through the paraphrases by the sample's
index, inference always takes template 0. Sentences are short, because every token costs a step of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_TOKEN = "<image>"
SLOT = "{instruction}"

# (what the user says, what the assistant answers before the edit tokens)
EDIT_TEMPLATES: tuple[tuple[str, str], ...] = (
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

CAPTION_TEMPLATES: tuple[tuple[str, str], ...] = (
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


@dataclass(frozen=True)
class Turn:
    """One question and the beginning of its answer.

    Attributes:
        head: text before the instruction, image placeholder included.
        instruction: the user's words.
        tail: text after the instruction, up to and including `ASSISTANT:`.
        reply: the assistant's words, with the space that parts them from the prompt; the edit tokens follow it.
    """

    head: str
    instruction: str
    tail: str
    reply: str = ""

    @property
    def prompt(self) -> str:
        """Everything the assistant reads before it speaks."""
        return self.head + self.instruction + self.tail


def edit_turn(instruction: str, index: int = 0, *, has_image: bool = True, reply: str | None = None) -> Turn:
    """Ask for an edit.

    Args:
        instruction: what to change, one line.
        index: which paraphrase, taken modulo their number; 0 at inference.
        has_image: whether a picture goes with the question.
        reply: the assistant's words in place of the template's.
    """
    user, answer = EDIT_TEMPLATES[index % len(EDIT_TEMPLATES)]
    return _turn(user, instruction, answer if reply is None else reply, has_image=has_image)


def caption_turn(caption: str, index: int = 0, *, reply: str | None = None) -> Turn:
    """Ask for a picture of a caption; text only (stage 1). Arguments as `edit_turn`."""
    user, answer = CAPTION_TEMPLATES[index % len(CAPTION_TEMPLATES)]
    return _turn(user, caption, answer if reply is None else reply, has_image=False)


def question_turn(question: str, *, has_image: bool = True) -> Turn:
    """Ask a question whose answer the model writes itself: visual question answering, expressive instruction."""
    return _turn(SLOT, question, "", has_image=has_image)


def all_template_texts() -> list[str]:
    """Every template with an empty slot, question and answer in one line; to train a tokenizer on."""
    turns = [edit_turn("", i) for i in range(len(EDIT_TEMPLATES))]
    turns += [caption_turn("", i) for i in range(len(CAPTION_TEMPLATES))]
    return [(turn.prompt + turn.reply).replace(IMAGE_TOKEN, "") for turn in turns]


def _turn(user: str, instruction: str, reply: str, *, has_image: bool) -> Turn:
    before, after = user.split(SLOT)
    image = f"{IMAGE_TOKEN}\n" if has_image else ""
    spoken = f" {reply}" if reply else ""
    return Turn(f"USER: {image}{before}", instruction, f"{after} ASSISTANT:", spoken)
