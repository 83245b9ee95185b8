"""A folder of good and bad files for `test_bad_inputs`, what a call leaves in it, and calls inside this process."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import json
import os
import resource
import runpy
import signal
import stat
import sys
import tarfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

LATIN = os.fsdecode(b"a\xe9.png")  # valid on disk, not UTF-8
PLACES = {
    "LONG_NAME": "n" * 300 + ".png",
    "LONG_FOLDER": "n" * 300,
    "LONG_TEXT": "make the dog red and " * 50_000,
    "LATIN": LATIN,
    "SURROGATE": "make it \udcff red",
    "INVISIBLE": "\u200b\u200b",
    "BIG": str(2**70),
    "HUGE_STEP": "9" * 400,
}  # <NAME> in a call -> what stands there; <MODEL> is the tiny model's folder
ROOM = 6 * 2**30  # bytes that a call may take; what wants more gets a MemoryError, not the machine
LONGEST = 60  # seconds after which a call is ended


def fill(folder: Path) -> None:
    """Write everything that calls name."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (30, 50, 3), dtype=np.uint8))
    photo.save(folder / "photo.png")
    photo.save(folder / LATIN)
    photo.resize((5, 5)).convert("L").save(folder / "small_mask.png")
    photo.convert("L").save(folder / "mask.png")
    whole = (folder / "photo.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "words.png").write_text("this is no picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "vector.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    Image.new("1", (20_000, 20_000)).save(folder / "vast.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe.json")
    os.mkfifo(folder / "pipe.yaml")
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "loop").symlink_to("loop")
    (folder / "broken.png").symlink_to("nowhere.png")
    (folder / "broken").symlink_to("nowhere")
    for name in ("album", "album_empty", "album_bad", "full"):
        (folder / name).mkdir()
    photo.save(folder / "album" / "one.png")
    (folder / "album_bad" / "one.png").write_bytes(b"no picture")
    (folder / "album_bad" / "loop.png").symlink_to("loop.png")
    (folder / "full" / "notes.txt").write_text("mine")
    _fill_data(folder, photo)
    _fill_settings(folder)
    _fill_models(folder)


def _fill_data(folder: Path, photo: Image.Image) -> None:
    photo.save(folder / "a.png")
    photo.save(folder / "b.png")
    good = {"source": "a.png", "target": "b.png", "instruction": "make it red"}
    (folder / "pairs.jsonl").write_text(json.dumps(good) + "\n")
    (folder / "empty.jsonl").write_text("")
    (folder / "cut.jsonl").write_text('{"source": "a.png", "targ')
    (folder / "numbers.jsonl").write_text("1\n2\n")
    (folder / "columns.jsonl").write_text('{"before": "a.png", "after": "b.png", "text": "x"}\n')
    (folder / "latin.jsonl").write_bytes(b'{"source": "a\xe9.png"}\n')
    (folder / "bad.parquet").write_bytes(b"PAR1 and nothing more")
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "bad.tar").write_bytes(b"no tar")
    for name in ("tars", "parquets", "text_only", "bad_tars"):
        (folder / name).mkdir()
    (folder / "parquets" / "train-00000.parquet").write_bytes(b"PAR1 and nothing more")
    (folder / "bad_tars" / "train-00000.tar").write_bytes(b"no tar")
    with tarfile.open(folder / "tars" / "train-00000.tar", "w"):
        pass
    (folder / "text_only" / "readme.txt").write_text("nothing else")


def _fill_settings(folder: Path) -> None:
    texts = {
        "cut.yaml": "a: [1, 2\nb: {",
        "list.yaml": "- 1\n- 2\n",
        "number.yaml": "7\n",
        "empty.yaml": "",
        "tab.yaml": "train:\n\tmax_steps: 1\n",
        "unknown.yaml": "sceens: {max_steps: 1}\n",
        "anchor.yaml": "a: &a [*a]\n",
        "object.yaml": "a: !!python/object/apply:os.system ['true']\n",
        "secret.yaml": "output_dir: ${oc.env:HOME}\n",
        "shell.yaml": "recipe: advancededit\nbackends: {chat: {kind: 'os:system'}}\n",
        "deep.yaml": "a: " + "[" * 3000 + "]" * 3000 + "\n",
        "cut.json": '{"a": ',
        "list.json": "[1, 2]",
        "null.json": "null",
        "empty.json": "",
        "deep.json": "[" * 100_000,
        "infinite.json": '{"format": "insightedit-votes-1", "page": 1e999}',
        "hosts.txt": "",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    (folder / "binary.json").write_bytes(bytes(range(128, 256)))


def _fill_models(folder: Path) -> None:
    for name in ("no_model", "null_model", "list_model", "cut_model", "other_model", "cut_run", "run_null"):
        (folder / name).mkdir()
    (folder / "null_model" / "model_index.json").write_text("null")
    (folder / "list_model" / "model_index.json").write_text("[]")
    (folder / "cut_model" / "model_index.json").write_text('{"_class_name": ')
    (folder / "other_model" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    (folder / "cut_run" / "config.yaml").write_text("stage: {number: ")
    (folder / "run_null" / "config.yaml").write_text("")
    (folder / "bad.safetensors").write_bytes(b"\xff" * 64)
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "bad.pth").write_bytes(b"no checkpoint")
    (folder / "bad.bin").write_bytes(b"\x80\x04.")
    for name, text in (("eval_null", "null"), ("eval_list", "[]"), ("eval_cut", "{"), ("eval_other", "{}")):
        (folder / name).mkdir()
        for file in ("run.json", "report.json", "records.jsonl", "samples.jsonl", "experiment.json"):
            (folder / name / file).write_text(text)


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Every path below a folder with its kind, rights and bytes."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            else:
                content = ""
            found[os.path.relpath(path, folder)] = (mode, content)
    return found


@dataclass(frozen=True)
class Ended:
    """How a call ended: its exit code, what it said, after how many seconds of a processor; `crash` if it raised."""

    code: object
    stdout: str
    stderr: str
    seconds: float
    crash: BaseException | None = None


class TooLongError(BaseException):
    """A call was ended from outside; no `except Exception` may hold it up."""


def _too_long(*_: object) -> None:
    raise TooLongError(f"longer than {LONGEST} s")


@contextlib.contextmanager
def bounds() -> Iterator[None]:
    """Neither all memory nor all time: what a call may take."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, old[1]))
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, old)


def call(module: str, words: list[str]) -> Ended:
    """`python -m MODULE WORDS` inside this process, in the current folder."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    err.reconfigure(errors="backslashreplace")
    before, sys.argv = sys.argv, [module, *words]
    code, crash = 0, None
    started = time.process_time()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings(), bounds():
            warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = 0 if ended.code is None else ended.code
    except (Exception, TooLongError) as error:
        code, crash = 1, error
    finally:
        sys.argv = before
    seconds = time.process_time() - started
    if seconds > 1:
        gc.collect()
    texts = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]
    return Ended(code, texts[0], texts[1], seconds, crash)
