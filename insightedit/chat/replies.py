"""What language models replied, and files that keep every reply."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict

from insightedit.files import drop_cut_line

FILTERED = ("content_filter", "refusal")  # finish reasons of replies that were withheld


@dataclass(frozen=True)
class Reply:
    """What a judge gave back."""

    text: str  # as it came
    finish_reason: str = ""  # "stop", "length" (cut off), "content_filter", "refusal", or what else the judge says
    input_tokens: int = 0  # that were read, pictures included; 0 if unknown
    output_tokens: int = 0  # that were written; 0 if unknown
    date: str = ""  # when it was given, ISO 8601, UTC


def whole_text(text: str) -> str:
    """A text with a mark in place of halves of characters (lone surrogates), which no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True)
class ReplyKey:
    """What a stored reply belongs to."""

    model: str
    prompt_sha256: str
    pictures: tuple[str, ...]  # SHA-256 over size and pixels of each, in order, whatever file it came from
    repeat: int = 0  # which of the repeated questions
    attempt: int = 0  # which attempt after unreadable replies

    @classmethod
    def of(
        cls, model: str, prompt: str, pictures: Sequence[Image.Image], *, repeat: int = 0, attempt: int = 0
    ) -> ReplyKey:
        """The key of a question; ValueError if a picture is not RGB."""
        digests = []
        for picture in pictures:
            if picture.mode != "RGB":
                raise ValueError(
                    f"a judge was given a picture of mode {picture.mode}: convert it to RGB first "
                    "(`insightedit.images.reading.to_rgb` puts transparency over white)."
                )
            digests.append(hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest())
        return cls(model, hashlib.sha256(prompt.encode("utf-8")).hexdigest(), tuple(digests), repeat, attempt)

    @property
    def hash(self) -> str:
        """SHA-256 over all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode("utf-8")).hexdigest()


class _Row(BaseModel):
    """One line of a store."""

    model_config = ConfigDict(extra="forbid")

    key: str
    model: str
    settings: dict[str, Any]
    prompt_sha256: str
    pictures: tuple[str, ...]
    repeat: int
    attempt: int
    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    date: str


class ReplyStore:
    """Every reply of every model, one JSON line each, so that nothing is asked twice.

    Lines are only ever added to the file at `path`, each on the disk before `add` returns. A last line that a kill cut
    short is not read, and removed by the next `add`; another damaged line is a ValueError that names it. One process
    writes to a file at a time; its threads may share the store. With `per_process` several work at once: each reads the
    files of all, `replies.HOST-PID.jsonl` and `path` itself, when it begins, and writes to one of its own.
    """

    def __init__(self, path: Path, *, per_process: bool = False) -> None:
        self.path, found = path, [path]
        if per_process:
            self.path = path.with_name(f"{path.stem}.{socket.gethostname()}-{os.getpid()}{path.suffix}")
            named = path.parent.glob(f"{path.stem}*{path.suffix}")  # replies.h-1.jsonl is ours, replies2.jsonl not
            found = sorted(one for one in named if one.name == path.name or one.name.startswith(f"{path.stem}."))
        self._replies: dict[str, Reply] = {}
        self._settings: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        for one in found:
            self._read(one)

    def __repr__(self) -> str:
        return f"ReplyStore({str(self.path)!r}, {len(self)} replies)"

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, key: ReplyKey) -> Reply | None:
        """The reply to a question; None if there is none."""
        return self._replies.get(key.hash)

    def settings(self, model: str) -> dict[str, Any] | None:
        """Settings with which a judge replied; None if the store has no reply of it."""
        found = self._settings.get(model)
        return None if found is None else dict(found)

    def add(self, key: ReplyKey, reply: Reply, *, settings: Mapping[str, Any]) -> Reply:
        """Keep a reply, unless the question has one already; gives the reply that the store holds then.

        All replies of a judge are given with the same settings, else ValueError.
        """
        row = _Row(key=key.hash, settings=dict(settings), **asdict(key), **asdict(reply))
        with self._lock:
            if row.key in self._replies:
                return self._replies[row.key]
            self.check_settings(row.model, row.settings)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            drop_cut_line(self.path)
            with self.path.open("ab") as file:
                file.write(row.model_dump_json().encode("utf-8") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._settings.setdefault(row.model, row.settings)
            self._replies[row.key] = reply
        return reply

    def check_settings(self, model: str, settings: Mapping[str, Any]) -> None:
        """Refuse (ValueError) settings other than those of the judge's stored replies, naming what differs."""
        begun = self._settings.get(model, dict(settings))
        names = sorted(set(begun) | set(settings))
        changed = [f"{n} was {begun.get(n)}, is {settings.get(n)}" for n in names if begun.get(n) != settings.get(n)]
        if changed:
            raise ValueError(
                f"{self.path.name} was begun with other settings of {model}: {'; '.join(changed)}. Use the old ones, "
                "or name another file."
            )

    def _read(self, path: Path) -> None:
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []  # what follows the last end is cut
        keys: set[str] = set()
        for number, line in enumerate(lines, 1):
            try:
                row = _Row.model_validate_json(line)
                if row.key != ReplyKey(row.model, row.prompt_sha256, row.pictures, row.repeat, row.attempt).hash:
                    raise ValueError("its key does not belong to its fields")
                if row.key in keys:
                    raise ValueError(f"{path.name} holds a reply of {row.model} to this question already.")
                self.check_settings(row.model, row.settings)
            except ValueError as error:  # pydantic's ValidationError is one
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"{path}:{number} is no stored reply ({reason}): restore the file, or delete this line."
                ) from error
            keys.add(row.key)
            self._settings.setdefault(row.model, row.settings)
            reply = Reply(row.text, row.finish_reason, row.input_tokens, row.output_tokens, row.date)
            self._replies.setdefault(row.key, reply)
