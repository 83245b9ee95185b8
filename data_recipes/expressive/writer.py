"""Two passes over an edit data set, one model at a time; both go on where they were stopped.

OUT/settings.json            what the folder was begun with
OUT/answers/SPLIT.jsonl      first pass: {index, answer}
OUT/SPLIT.jsonl              second pass: {index, source, target, instruction, expressive}
OUT/rejected/SPLIT.jsonl     rows without a text, {index, reason}
OUT/images/                  pictures of data sets that hold them as columns, PNG
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.expressive.texts import QUESTION, SUMMARY_PROMPT, cut_answer
from insightedit.datasets.pairs import PairSource
from insightedit.datasets.sources import num_records
from insightedit.files import check_folder, drop_cut_line, write_atomically

Describe = Callable[[Sequence[str], Sequence[np.ndarray]], list[str]]
Summarise = Callable[[Sequence[str]], list[str]]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Settings:
    """What decides about the texts.

    Attributes:
        data: file or folder of the edit data set.
        kind: its kind, as in `data.sources` of a training config.
        split: its split.
        llava: model that describes.
        summariser: model that shortens.
        max_new_tokens: longest answer that `llava` writes, in tokens.
        count: rows; None for all of them.
    """

    data: str
    kind: str
    split: str
    llava: str
    summariser: str
    max_new_tokens: int = 1024
    count: int | None = None

    def claim(self, out: Path) -> None:
        """Write the settings into a new folder, or compare them with those it was begun with.

        `count` may grow or shrink: it changes no text.

        Raises:
            ValueError: if the folder was begun with others, or holds other files.
        """
        path = out / "settings.json"
        mine = {**asdict(self), "question": QUESTION, "summary_prompt": SUMMARY_PROMPT}
        del mine["count"]
        if path.is_file():
            begun = json.loads(path.read_text(encoding="utf-8"))
            changed = [
                f"{name} was {begun.get(name)}, is {value}" for name, value in mine.items() if begun.get(name) != value
            ]
            if changed:
                raise ValueError(
                    f"{out} was begun with other settings: {'; '.join(changed)}. Use the old ones to go on, or name "
                    "another folder with --out."
                )
            return
        check_folder(out)
        if out.exists() and any(out.iterdir()):
            raise ValueError(f"{out} holds other files: name a new folder with --out.")
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")

    def source(self) -> Any:
        """The data set, as training reads it.

        Raises:
            ConfigError: if there is none of this kind.
        """
        from insightedit.config.schema import SourceConfig
        from insightedit.datasets.sources import build_source

        return build_source(SourceConfig(kind=self.kind, path=self.data, split=self.split), size=256, seed=0)

    def total(self, source: Any) -> int:
        """Rows to be written."""
        return num_records(source) if self.count is None else min(self.count, num_records(source))


def write_answers(
    out: Path,
    settings: Settings,
    source: Any,
    describe: Callable[[], Describe],
    *,
    batch_size: int = 8,
    progress: Progress = lambda rows: None,
) -> None:
    """First pass: what the language model answers to every picture.

    Args:
        out: folder, claimed.
        settings: of the folder.
        source: from `settings.source()`.
        describe: loads the describer; called only if there is something left to do.
        batch_size: pictures per call.
        progress: called with a number of rows, those of earlier sessions at once.
    """
    lines = JsonLines(out / "answers" / f"{settings.split}.jsonl")
    done, total = lines.next_index(), settings.total(source)
    progress(min(done, total))
    model = describe() if done < total else None
    for start in range(done, total, batch_size):
        indices = range(start, min(start + batch_size, total))
        records = [_record(source, index) for index in indices]
        good = [record for record in records if not isinstance(record, str)]
        assert model is not None, "loaded above"
        texts = model([r.instruction for r in good], [r.source_image for r in good]) if good else []
        answers = iter(texts)
        for index, record in zip(indices, records, strict=True):
            if isinstance(record, str):
                lines.append({"index": index, "reason": record})
            else:
                lines.append({"index": index, "answer": next(answers)})
        progress(len(indices))


def write_summaries(
    out: Path,
    settings: Settings,
    source: Any,
    summarise: Callable[[], Summarise],
    *,
    batch_size: int = 8,
    progress: Progress = lambda rows: None,
) -> dict[str, int]:
    """Second pass: cut and shorten the answers, and write the rows that training reads. Arguments as `write_answers`.

    Returns:
        `written` and `rejected`, numbers of rows of all sessions.

    Raises:
        RuntimeError: if the first pass has not finished.
    """
    name, total = f"{settings.split}.jsonl", settings.total(source)
    answers = JsonLines(out / "answers" / name).rows()[:total]
    if len(answers) < total:
        raise RuntimeError(
            f"{out} holds {len(answers)} of {total} answers: run the first pass (`write_answers`) to its end."
        )
    lines, rejected = JsonLines(out / name), JsonLines(out / "rejected" / name)
    done = max(lines.next_index(), rejected.next_index())
    progress(min(done, total))
    model = summarise() if done < total else None
    for start in range(done, total, batch_size):
        rows = answers[start : start + batch_size]
        cut = [cut_answer(row.get("answer", "")) for row in rows]
        assert model is not None, "loaded above"
        summaries = iter(model([text for text in cut if text]) if any(cut) else [])
        for row, text in zip(rows, cut, strict=True):
            expressive = next(summaries) if text else ""
            if expressive:
                lines.append(_row(out, source, row["index"], expressive))
            else:
                rejected.append({"index": row["index"], "reason": row.get("reason") or _why(text)})
        progress(len(rows))
    return {"written": len(lines.rows()), "rejected": len(rejected.rows())}


class JsonLines:
    """A file of JSON lines with rising `index`, appended to and flushed row by row.

    A last line that a kill cut short is taken off when the file is opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_cut_line(path)

    def rows(self) -> list[dict[str, Any]]:
        """Every row."""
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def next_index(self) -> int:
        """One more than the last row's index."""
        rows = self.rows()
        return rows[-1]["index"] + 1 if rows else 0

    def append(self, row: dict[str, Any]) -> None:
        """Add a row, on the disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _record(source: Any, index: int) -> Any:
    """A record with both pictures, or why there is none."""
    try:
        record = source[index]
    except (OSError, ValueError, TypeError, AttributeError) as error:  # damaged picture, missing text
        return f"cannot be read: {error}"
    if record.source_image is None or record.target_image is None:
        return "has no source or no target picture"
    return record


def _why(text: str) -> str:
    return "the summariser wrote nothing" if text else "no sentence is left of the answer"


def _row(out: Path, source: Any, index: int, expressive: str) -> dict[str, Any]:
    record = source[index]
    return {
        "index": index,
        "source": _picture(out, source, index, "source", record.source_image),
        "target": _picture(out, source, index, "target", record.target_image),
        "instruction": record.instruction,
        "expressive": expressive,
    }


def _picture(out: Path, source: Any, index: int, role: str, pixels: np.ndarray) -> str:
    """Path of a picture below `out`: a link to the data set's own file, or a PNG of its pixels."""
    path = out / "images" / f"{index:07d}_{role}.png"
    path.parent.mkdir(exist_ok=True)
    file = getattr(source.listing.pair(index), role) if isinstance(source, PairSource) else None
    if isinstance(file, Path):
        path = path.with_suffix(file.suffix.lower())
        if not path.is_symlink():
            path.symlink_to(os.path.relpath(file, path.parent))
        return path.relative_to(out).as_posix()
    with write_atomically(path) as aside:
        Image.fromarray(pixels).save(aside, format="PNG")
    return path.relative_to(out).as_posix()
