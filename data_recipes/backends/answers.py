"""Answers of an endpoint on the disk, for several processes at once."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insightedit.chat.replies import Reply, ReplyKey, ReplyStore


class AnswerFiles:
    """A `ReplyStore` for each process: one may write to its own only, and each reads all of them when it begins.

    `answers.jsonl` stands for `answers.HOST-PID.jsonl` of every process that ever wrote, and for itself.

    Args:
        path: the `.jsonl` file that they are named after.

    Raises:
        ValueError: naming file and line of the first entry that is damaged.
    """

    def __init__(self, path: Path) -> None:
        own = path.with_name(f"{path.stem}.{socket.gethostname()}-{os.getpid()}{path.suffix}")
        found = [one for one in path.parent.glob(f"{path.stem}*{path.suffix}") if _belongs(one, path)]
        self.path = path
        self.own = ReplyStore(own)
        self.others = [ReplyStore(one) for one in sorted(found) if one != own]

    def __len__(self) -> int:
        return len(self.own) + sum(len(store) for store in self.others)

    def get(self, key: ReplyKey) -> Reply | None:
        """The answer to a question; None if no process has one."""
        found = (store.get(key) for store in (self.own, *self.others))
        return next((reply for reply in found if reply is not None), None)

    def add(self, key: ReplyKey, reply: Reply, *, settings: Mapping[str, Any]) -> Reply:
        """Keep an answer; see `ReplyStore.add`."""
        return self.own.add(key, reply, settings=settings)

    def check_settings(self, model: str, settings: Mapping[str, Any]) -> None:
        """Refuse settings other than those of the model's stored answers.

        Raises:
            ValueError: naming what differs.
        """
        for store in (self.own, *self.others):
            store.check_settings(model, settings)


def _belongs(path: Path, to: Path) -> bool:
    """Whether a file is `to` itself or one that a process named after it: `chat.h-1.jsonl`, not `chat2.jsonl`."""
    return path.name == to.name or path.name.startswith(f"{to.stem}.")
