"""Model folders with one fault each, generated from a whole one: what comes from elsewhere may be any of them."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Break = Callable[[Path], None]

FIELD_VALUES = (0, -64, 10**9, 10**19, 1e308, float("inf"), float("nan"), "text", None, [], {}, 2.5, True)


class Payload:
    """Writes a file named `ran` where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def put(path: Path, content: bytes | str) -> None:
    """Replace a file; the old one may be a hard link to the whole folder's."""
    path.unlink(missing_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    held = json.loads(path.read_text())
    put(path, json.dumps(change(held) or held))


def edit_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    held = load_file(path)
    change(held)
    path.unlink()
    save_file(held, path, metadata={"format": "pt"})


def link_tree(source: Path, target: Path) -> Path:
    """A copy whose files are hard links: `put` leaves the source as it is."""
    for path in source.rglob("*"):
        place = target / path.relative_to(source)
        place.mkdir(parents=True, exist_ok=True) if path.is_dir() else place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            os.link(path, place)
    return target


def json_faults(name: str) -> Iterator[tuple[str, Break]]:
    """Faults of a settings file, each of which has to be refused."""
    texts = {
        "null": "null", "a list": "[1]", "a number": "7", "a text": '"x"', "empty": "", "cut off": '{"a": 1',
        "deep": '{"a":' * 200_000, "deep lists": "[" * 200_000, "not UTF-8": b"\xff\xfe\x00{",
        "binary": bytes(range(256)),
    }  # fmt: skip
    for fault, text in texts.items():
        yield f"{name} is {fault}", lambda folder, text=text: put(folder / name, text)
    yield f"{name} is missing", lambda folder: (folder / name).unlink()

    def as_folder(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    def as_pipe(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    def as_loop(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(folder / name)

    def huge(folder: Path) -> None:
        put(folder / name, "")
        os.truncate(folder / name, 2**32)

    yield f"{name} is a folder", as_folder
    yield f"{name} is a pipe", as_pipe
    yield f"{name} is a link to itself", as_loop
    yield f"{name} has 4 GB", huge
    yield (
        f"{name} is /dev/zero",
        lambda folder: ((folder / name).unlink(), (folder / name).symlink_to("/dev/zero"))[1],
    )
    if name != "model_index.json":
        for key in ("auto_map", "custom_pipelines"):
            code = {key: {"AutoTokenizer": ["other/repository--code.Tokenizer", None], "AutoConfig": "code.Config"}}
            yield (f"{name} has {key}", lambda folder, c=code: edit_json(folder / name, lambda held: {**held, **c}))
            inner = {"image_processor": code}
            yield (
                f"{name} has {key} inside",
                lambda folder, c=inner: edit_json(folder / name, lambda held: {**held, "more": c}),
            )


def weight_faults(name: str) -> Iterator[tuple[str, Break]]:
    """Faults of a file of weights, each of which has to be refused."""

    def raw(change: Callable[[bytes], bytes]) -> Break:
        return lambda folder: put(folder / name, change((folder / name).read_bytes()))

    def header(change: Callable[[dict[str, Any]], None]) -> Break:
        def apply(content: bytes) -> bytes:
            (length,) = struct.unpack("<Q", content[:8])
            held = json.loads(content[8 : 8 + length])
            change(held)
            text = json.dumps(held).encode()
            return struct.pack("<Q", len(text)) + text + content[8 + length :]

        return raw(apply)

    def tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Break:
        return lambda folder: edit_tensors(folder / name, change)

    def longest(held: dict[str, Any]) -> str:
        return max((key for key in held if key != "__metadata__"), key=len)

    def index(target: str) -> Break:
        def apply(folder: Path) -> None:
            path = folder / name
            names = dict.fromkeys(load_file(path), target)
            path.unlink()
            put(path.with_name(path.name + ".index.json"), json.dumps({"metadata": {}, "weight_map": names}))
            for place in (path.with_name("model.bin"), folder / "outside.bin"):
                put(place, pickle.dumps(Payload()))

        return apply

    def poison(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
        return lambda held: held[longest(held)].view(-1)[-1:].fill_(value)

    faults = {
        "is cut in its header": raw(lambda c: c[:20]), "is cut in its middle": raw(lambda c: c[: len(c) // 2]),
        "lacks its last byte": raw(lambda c: c[:-1]), "has a byte too many": raw(lambda c: c + b"\0"),
        "is empty": raw(lambda c: b""), "is a pickle": raw(lambda c: pickle.dumps(Payload())),
        "is text": raw(lambda c: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "promises a header of 2^60 bytes": raw(lambda c: struct.pack("<Q", 2**60) + c[8:]),
        "is missing": lambda folder: (folder / name).unlink(),
        "has an unknown dtype": header(lambda h: h[longest(h)].update(dtype="F13")),
        "has a negative shape": header(lambda h: h[longest(h)].update(shape=[-1])),
        "has a shape beyond 64 bits": header(lambda h: h[longest(h)].update(shape=[2**40, 2**40])),
        "has overlapping tensors": header(lambda h: h[longest(h)].update(data_offsets=[0, 4])),
        "has offsets outside": header(lambda h: h[longest(h)].update(data_offsets=[0, 2**50])),
        "has a null in its header": header(lambda h: h.update({longest(h): None})),
        "lacks a tensor": tensors(lambda h: h.pop(longest(h)).numel() and None),
        "has no tensors": tensors(lambda h: h.clear()),
        "has half of its tensors": tensors(lambda h: [h.pop(k) for k in list(h)[::2]] and None),
        "has a renamed tensor": tensors(lambda h: h.update(other=h.pop(longest(h)))),
        "has a tensor too many": tensors(lambda h: h.update({"more.weight": torch.zeros(2)})),
        "has half a tensor": tensors(lambda h: h.update({(k := longest(h)): h[k].view(-1)[: h[k].numel() // 2 + 1]})),
        "has a NaN": tensors(poison(float("nan"))), "has an infinity": tensors(poison(float("inf"))),
        "has a negative infinity": tensors(poison(float("-inf"))),
        "has an index to a pickle": index("model.bin"), "has an index outside": index("../outside.bin"),
        "has an index to safetensors outside": index("../other.safetensors"),
        "has an index to an absolute path": index("/etc/passwd"), "has an index to nothing": index("gone.safetensors"),
        "has an index to numbers": index(7),  # type: ignore[arg-type]
    }  # fmt: skip
    for fault, apply in faults.items():
        yield f"{name} {fault}", apply


def folder_faults(parts: list[str]) -> Iterator[tuple[str, Break]]:
    """Faults of the index and of whole parts, each of which has to be refused."""

    def index(**changes: Any) -> Break:
        return lambda folder: edit_json(folder / "model_index.json", lambda held: {**held, **changes})

    for part in parts:
        for place in (
            ["os", "system"], ["builtins", "exec"], ["subprocess", "Popen"], ["diffusers", "DiffusionPipeline"],
            ["transformers", "AutoModel"], ["insightedit.cli", "main"], ["pipeline", "EditUNet"], ["", ""], [], None, 5,
            ["diffusers"], [["diffusers"], "x"], ["transformers", "no\nclass"], "diffusers", {"a": 1},
        ):  # fmt: skip
            if place is not None or part not in ("image_encoder", "feature_extractor"):
                yield f"{part} is {place}", index(**{part: place})
        yield (
            f"{part}/ holds code",
            lambda folder, part=part: put(folder / part / "diffusers.py", "open('ran', 'w')"),
        )
    for name in (
        None,
        5,
        [],
        ["pipeline", "InsightEditPipeline"],
        "DiffusionPipeline",
        "StableDiffusionPipeline",
        "os",
    ):
        yield f"_class_name is {name}", index(_class_name=name)
    yield "a component more", index(safety=["os", "system"])
    for key, values in {
        "resolution": (0, -64, 10**9, 2.5, "64", None, True, [64]),
        "num_edit_tokens": (0, -1, 10**9, 2**70, "4", None),
        "default_num_inference_steps": (0, -1, 10**9, 1.5, None),
        "default_guidance_scale": (float("nan"), float("inf"), -1, 1e308, "7", None),
        "max_new_tokens": (0, -1, 10**9, "64"),
        "describe_prompt": ("{x}", "{", "{instruction.__class__}", "{instruction:>99999999}", "{0}", "a" * 10**6, 5),
        "edit_token": ("{x}", "<{", "{index:>99999999}", 5, None),
    }.items():  # fmt: skip
        for value in values:
            shown = str(value)[:30]
            if not (key == "describe_prompt" and value is None):
                yield f"{key} is {shown}", index(**{key: value})
    generate = "custom_generate/generate.py"

    def generates(folder: Path) -> None:
        (folder / "mllm" / "custom_generate").mkdir()
        put(folder / "mllm" / generate, "open('ran', 'w')")

    yield "mllm/ generates by itself", generates


def field_changes(folder: Path, name: str) -> Iterator[tuple[str, Break]]:
    """Other values for every number of a settings file: some are harmless, none may end in a traceback or a wait."""

    def paths(held: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        if isinstance(held, dict | list):
            for key in held if isinstance(held, dict) else range(len(held)):
                yield from paths(held[key], (*at, key))
        elif at and isinstance(held, int | float):
            yield at

    for at in paths(json.loads((folder / name).read_text())):
        for value in FIELD_VALUES:

            def apply(broken: Path, at: tuple[Any, ...] = at, value: Any = value) -> None:
                held = json.loads((broken / name).read_text())
                inner = held
                for key in at[:-1]:
                    inner = inner[key]
                inner[at[-1]] = value
                put(broken / name, json.dumps(held))

            yield f"{name}: {'.'.join(map(str, at))} is {value!r}", apply
