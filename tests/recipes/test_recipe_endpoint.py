"""A whole run whose language model is behind an endpoint that breaks down half-way."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_recipes.backends.base import Question
from data_recipes.oracle.chat import OracleChat
from data_recipes.runner.config import RecipeConfig, load_config
from data_recipes.runner.flow import RunStopped
from data_recipes.runner.run import run_recipe, usage_of
from tests.evaluation.judge.chat_server import completion
from tests.recipes.recipe_runs import scenes, world

COUNT, SIZE = 2, 48
SEED = next(  # of photos that show something
    seed
    for seed in count()
    if all(world(photo).scene.objects for photo in scenes("scenes", COUNT, size=SIZE, seed=seed))
)
TASKS = {"Describe this": "caption", "This is a description": "objects", "These things": "main_subject"}
WORDS = '{"instructions": ["add <imagehere> at the left", "put <imagehere> there"]}'


class Writer:
    """Answers as the oracle chat would, by looking at the picture; gives out after some answers until it is healed.

    Attributes:
        left: answers until it breaks down; None for no end.
        paid: how often each request was answered.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.paid: Counter[str] = Counter()
        self.known = {photo.image.tobytes(): photo.truth for photo in scenes("scenes", COUNT, size=SIZE, seed=SEED)}
        self._lock, self._chat = threading.Lock(), OracleChat()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, raw: bytes) -> tuple[int, dict[str, Any]]:
        with self._lock:
            if self.left == 0:
                return 503, {"error": {"message": "down"}}
            self.left = None if self.left is None else self.left - 1
            self.paid[hashlib.sha256(raw).hexdigest()] += 1
        *pictures, text = json.loads(raw)["messages"][0]["content"]
        return 200, completion(self._text(text["text"], pictures[0]["image_url"]["url"]))

    def _text(self, prompt: str, address: str) -> str:
        task = next((task for start, task in TASKS.items() if prompt.startswith(start)), None)
        if task is None:
            return WORDS
        with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
            truth = self.known[np.asarray(picture).tobytes()]
        listed = [line[2:] for line in prompt.splitlines() if line.startswith("- ")]
        return self._chat.answer([Question(prompt, (), task, {"objects": listed}, truth)])[0]


def _handler(writer: Writer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            status, content = writer.answer(self.rfile.read(int(self.headers["content-length"])))
            raw = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    return Handler


@pytest.fixture
def writer() -> Iterator[Writer]:
    running = Writer()
    yield running
    running.server.shutdown()
    running.server.server_close()


def config(writer: Writer, out: Path) -> RecipeConfig:
    entry = {
        "kind": "endpoint",
        "model": "writer-1",
        "url": f"http://127.0.0.1:{writer.server.server_address[1]}/v1",
        "key_variable": None,
        "max_attempts": 1,
        "concurrency": 2,
        "price_input": 1.0,
        "price_output": 2.0,
    }
    words = [
        f"source.count={COUNT}",
        f"source.size={SIZE}",
        f"source.seed={SEED}",
        "output.shard_size=1",
        f"output.path={out}",
    ]
    made = load_config("mige_addition_oracle", words)
    made.backends["chat"] = entry
    return made


def test_what_was_paid_before_the_break_down_is_not_paid_again(writer: Writer, tmp_path: Path):
    whole = run_recipe(config(writer, tmp_path / "whole"))
    asked = dict(writer.paid)
    assert whole["pairs"] == COUNT and len(asked) == 4 * COUNT and set(asked.values()) == {1}
    used = usage_of(tmp_path / "whole")["chat"]
    assert (used["calls"], used["asked"]) == (4 * COUNT, 4 * COUNT)
    assert used["cost"] == pytest.approx(4 * COUNT * (1000 * 1.0 + 10 * 2.0) / 1e6)

    writer.paid.clear()
    writer.left = 5
    with pytest.raises(RunStopped, match="writer-1 at 127.0.0.1 gave no reply in 1 attempts"):
        run_recipe(config(writer, tmp_path / "broken"))
    assert sum(writer.paid.values()) == 5
    writer.left = None
    again = run_recipe(config(writer, tmp_path / "broken"))
    assert dict(writer.paid) == asked, "every question was answered once over both runs"
    assert again["shards"] == whole["shards"] and again["pairs"] == whole["pairs"]
    for shard in sorted((tmp_path / "whole").glob("*.parquet")):
        assert shard.read_bytes() == (tmp_path / "broken" / shard.name).read_bytes()
