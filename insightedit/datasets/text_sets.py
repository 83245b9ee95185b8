"""Published texts: conversations about pictures (LLaVA-Instruct-150k) and captions (CC12M)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets.pairs import RandomChoiceDataset
from insightedit.datasets.reading import decoded, folder_of, inside, json_of, only_file, read_pixels
from insightedit.datasets.tables import TextRows
from insightedit.types import EditRecord

PLACEHOLDER = re.compile(r"\s*<image>\s*")
URL = re.compile(r"https?://")


def llava_instruct(config: SourceConfig) -> RandomChoiceDataset:
    """LLaVA-Instruct-150k: [{id, image, conversations: [{from: human | gpt, value}, ...]}, ...].

    A record is a conversation; each visit draws one of its rounds, with the rounds before it as context. Nothing is
    drawn after the answer: the record's `is_edit` is false, and its edit tokens carry no labels.

    `path` is the JSON file, or the folder with it; `images` holds the pictures (COCO's train2017).
    """
    file = only_file(Path(str(config.path)), ("llava_instruct*.json", "*.json"), config.kind)
    images = folder_of(config.images or file.parent, config.kind, "the pictures")
    rows = json_of(file, list, "a list of {image, conversations: [{from, value}, ...]}")

    def make(number: int, rng: np.random.Generator) -> EditRecord:
        row = rows[number]
        key = f"{config.kind}/{row.get('id', number)}"
        turns = row["conversations"]
        if [turn["from"] for turn in turns] != ["human", "gpt"] * (len(turns) // 2) or not turns:
            raise ValueError(f"{key} is no conversation of human and gpt in turn.")
        texts = [PLACEHOLDER.sub(" ", turn["value"]).strip() for turn in turns]
        if not all(texts):
            raise ValueError(f"{key} has an empty question or answer.")
        rounds = list(zip(texts[::2], texts[1::2], strict=True))
        last = int(rng.integers(len(rounds)))
        question, answer = rounds[last]
        before = "".join(f"{asked} ASSISTANT: {answered} USER: " for asked, answered in rounds[:last])
        image = read_pixels(inside(images, row["image"]))
        return EditRecord(key, before + question, source_image=image, reply=answer)

    return RandomChoiceDataset(len(rows), make, (file,))


def cc12m(config: SourceConfig) -> RandomChoiceDataset:
    """CC12M, and other lists of captions: lines of `URL<tab>caption` or `caption<tab>URL`. Pictures are not opened.

    `path` is the file, or the folder with it; only where its lines begin is kept in memory, 8 bytes each.
    """
    file = only_file(Path(str(config.path)), ("*.tsv",), config.kind)
    if not file.is_file() or not file.stat().st_size:
        raise ConfigError(f"{file} is empty: kind `{config.kind}` reads lines `URL<tab>caption`.")
    lines = TextRows([file])

    def make(number: int, rng: np.random.Generator) -> EditRecord:
        key = f"{config.kind}/{number}"
        line = decoded(lines.content(number), key).strip("\r\n")
        texts = [part.strip() for part in line.split("\t") if part.strip() and not URL.match(part.strip())]
        if len(texts) != 1 or "\t" not in line:
            raise ValueError(f"{key} is {line[:60]!r}, not a URL and a caption with a tab between them.")
        return EditRecord(key=key, instruction=texts[0], caption=texts[0])

    return RandomChoiceDataset(len(lines), make, (file,))
