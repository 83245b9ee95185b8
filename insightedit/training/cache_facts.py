"""What the outputs that a cache holds follow from, as facts with names, computed without running a model.

Settings, digests of the weights' files, and of the first records and what they are turned into: a renderer, a wording,
a prompt, a tokenizer or an image processor that changed shows there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from insightedit.datasets.mixture import BROKEN
from insightedit.modeling.pretrained import DIGEST_DIGITS, open_base_model, weights_digest
from insightedit.training.data import build_held_out, build_mixture, build_weightless_collator
from insightedit.training.run_folder import base_models, flat_settings

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.model.editor import Editor

ALWAYS = {"train.seed", "train.batch_size", "train.precision", "stage.objective", "generation.resolution"}
UNREAD = ("describe_prompt", "max_new_tokens", "no_repeat_ngram_size")  # of comprehension, in training
RECORDS = "the first records"
OF_RECORDS = ("prompts and tokens of the first records", "prepared pictures of the first records")
PARAPHRASES = 64  # more than any set of templates has
DIGESTS = ("weights of", "files of", RECORDS, "what earlier", *OF_RECORDS, "data.sources")
"""How facts begin whose values tell a reader nothing."""


def facts_of(
    config: Config, editor: Editor, held: Collection[str], rests_on: Collection[str], earlier: Mapping[str, Tensor]
) -> dict[str, Any]:
    """What outputs follow from: name in words -> setting or digest, as JSON has them.

    Args:
        config: the stage's.
        editor: the stage's, which may lack what the cache stands for; of it the bridge is read.
        held: what the cache holds (`CacheHead.holds`).
        rests_on: parameters that this rests on.
        earlier: weights that earlier stages made, by parameter.
    """
    flat = flat_settings(asdict(config))
    unread = tuple(f"comprehension.{name}" for name in (*config.comprehension.base_models, *UNREAD))
    if "states" not in held:  # adapters train, and what is kept was made without them
        unread += ("comprehension.lora",)
    sections = ("comprehension.",)
    if "condition" in held:
        sections += ("bridge.", "stage.use_")
    facts = {key: value for key, value in flat.items() if key in ALWAYS or key.startswith(sections)}
    facts = {key: value for key, value in facts.items() if not key.startswith(unread)}
    facts["data.sources"] = [_source(entry) for entry in asdict(config.data)["sources"]]
    if build_held_out(config) is not None:
        facts["train.num_validation"] = config.train.num_validation
    if "states" in held:  # with the vision patches or without
        facts["bridge.bim built"] = config.bridge.bim is not None
    facts |= _weight_facts(config, held)
    if {"states", "image_states"} & {*held}:
        taught = {name: weight for name, weight in earlier.items() if name in rests_on}
        facts["what earlier stages taught comprehension"] = _digest({name: taught[name] for name in sorted(taught)})
    if "condition" in held:
        facts["weights of the bridge"] = weights_digest(editor.bridge)
    return json.loads(json.dumps(facts | _data_facts(config)))


def _source(entry: Any) -> Any:
    """An entry of `data.sources` without its places: a folder may be moved."""
    inner = [_source(one) for one in entry["sources"]]
    return {key: value for key, value in entry.items() if key not in ("path", "images")} | {"sources": inner}


def _weight_facts(config: Config, held: Collection[str]) -> dict[str, Any]:
    models, facts, holds = base_models(config), {}, set(held)
    whole = {"comprehension.": {"states", "image_states"}, "generation.image_encoder": {"target_embeds"}}
    for key, model in models.items():
        if any(key.startswith(prefix) and fields & holds for prefix, fields in whole.items()):
            facts[f"weights of {key}"] = files_digest(key, model)
    for part, field in (("vae", "source_latents"), ("text_encoder", "text_states")):
        if field in holds:
            facts[f"weights of generation.model's {part}"] = files_digest(
                "generation.model", models["generation.model"], part
            )
    return facts


def _data_facts(config: Config) -> dict[str, Any]:
    """What the sources read, and what the first records are turned into: renderer, wordings, prompts, processors."""
    mixture = build_mixture(config)
    facts: dict[str, Any] = {f"files of {name}": told for name, told in mixture.fingerprint().items()}
    for name, source in mixture.sources.items():
        facts[f"{RECORDS} of {name}"] = _digest(_first(source))
    indices = list(range(config.train.batch_size))
    records = [mixture[index] for index in indices]
    facts[RECORDS] = _digest([_contents(record) for record in records])
    collate = build_weightless_collator(config)
    batch = collate(records, indices)
    # one record by every number that may choose a paraphrase: a sentence that changed shows, wherever it stands
    reworded = collate.tokenizer.tokenize_records(
        records[:1] * PARAPHRASES, range(PARAPHRASES), align=collate.text_tokenizer is not None
    )
    tokens = vars(batch.tokens)
    pictures = {name: tokens[name] for name in ("pixel_values", "reference_pixels")}
    texts = {name: value for name, value in tokens.items() if name not in pictures}
    facts[OF_RECORDS[0]] = _digest([texts, reworded.input_ids, reworded.labels, batch.text_target_ids])
    pictures |= {name: value for name, value in vars(batch).items() if name.endswith(("pixels", "mask"))}
    facts[OF_RECORDS[1]] = _digest(pictures)
    return facts


def _first(source: Any) -> Any:
    try:
        return _contents(source[0])
    except BROKEN as error:
        return type(error).__name__


def _contents(record: Any) -> Any:
    return {name: value for name, value in vars(record).items() if name != "key"}  # which may hold a path


def fact_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two caches' facts, in words."""
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if any(key.startswith(RECORDS) for key in changed):  # then what is made of them differs, too
        changed = [key for key in changed if key not in OF_RECORDS]
    return [
        f"{key} differ" if key.startswith(DIGESTS) else f"{key} was {old.get(key)} and is {new.get(key)}"
        for key in changed
    ]


def files_digest(key: str, model: str, part: str = "") -> str:
    """First hex digits of a SHA-256 over the files of the base model (folder, hub id, ...) of a setting, or of a part.

    Read from the disk, never loaded; notes and hidden files do not count. A ConfigError if there are none.
    """
    with open_base_model(key, model, "a base model whose files are on this disk") as place:
        if not os.path.isdir(place):
            from huggingface_hub import snapshot_download

            place = snapshot_download(place, local_files_only=True)
    folder, whole = Path(place) / part, hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if path.suffix == ".md" or any(piece.startswith(".") for piece in name.parts):
            continue
        with path.open("rb") as stream:
            whole.update(f"{name.as_posix()} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()[:DIGEST_DIGITS]


def _digest(value: Any) -> str:
    whole = hashlib.sha256()

    def add(piece: Any) -> None:
        if isinstance(piece, Mapping):
            for name, inner in piece.items():
                whole.update(str(name).encode())
                add(inner)
        elif isinstance(piece, list | tuple):
            whole.update(f"[{len(piece)}".encode())
            for inner in piece:
                add(inner)
        elif isinstance(piece, Tensor):
            raw = piece.detach().cpu().contiguous()
            whole.update(f"{raw.dtype} {tuple(raw.shape)}".encode())
            whole.update(raw.reshape(-1).view(torch.uint8).numpy().tobytes())
        elif hasattr(piece, "tobytes"):
            whole.update(f"{piece.dtype} {piece.shape}".encode() + piece.tobytes())
        else:
            whole.update(repr(piece).encode())

    add(value)
    return whole.hexdigest()[:DIGEST_DIGITS]
