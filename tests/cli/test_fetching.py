"""What a hub that gives no model is said to have done: gated, private, limited, broken, silent, away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ANSWERS = {
    "gated": (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."}),
    "noauth": (401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "You must be authenticated."}),
    "private": (401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."}),
    "missing": (404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository Not Found"}),
    "nofile": (404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}),
    "rate": (429, {"Retry-After": "1"}),
    "down": (503, {}),
    "page": (200, {"Content-Type": "text/html"}),
}
TOLD = {
    "gated": "someone/gated is gated: ask for access at http://127.0.0.1:",
    "noauth": "log in with `hf auth login`",
    "private": "shows no model someone/private: check the name; for a private one log in",
    "missing": "shows no model someone/missing: check the name",
    "nofile": "someone/nofile holds no model_index.json",
    "rate": "too many requests from here: wait some minutes",
    "down": "failed (status 503) and someone/down is not in this machine's cache",
    "page": "is no hub (a network's log-in page?)",
    "silent": "gives no answer and someone/silent is not in this machine's cache: check the network",
}
FETCH = """
import json, sys, time
from insightedit.export import push
from insightedit.hub import network
network.PATIENCE = push.PATIENCE = 1.0
told = {}
for name in sys.argv[1:]:
    started = time.monotonic()
    try:
        told[name] = str(network.fetch_model("someone/" + name))
    except ValueError as error:
        told[name] = str(error)
    assert time.monotonic() - started < 5, name
for name in ("missing", "silent"):
    from transformers import AutoConfig
    from insightedit.modeling.pretrained import load_pretrained
    started = time.monotonic()
    try:
        load_pretrained(AutoConfig, "someone/" + name)
    except ValueError as error:
        told["load " + name] = str(error)
    assert time.monotonic() - started < 60, name  # transformers is imported meanwhile
try:
    push.check_target("someone/silent")
except ValueError as error:
    told["push"] = str(error)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            name = next((name for name in ANSWERS if f"/{name}" in self.path), None)
            if name is None:  # also whoami
                time.sleep(6)
                return
            status, headers = ANSWERS[name]
            body = b"<html>log in</html>" if status == 200 else json.dumps({"error": "x"}).encode()
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def python(tmp_path: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    environment = kept | {"HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT), "HF_TOKEN": "hf_abcdefghijk"}
    return subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment | more, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def test_the_true_reason_is_told_soon(endpoint, tmp_path):
    done = python(tmp_path, "-c", FETCH, *TOLD, HF_ENDPOINT=endpoint)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for name, words in TOLD.items():
        assert words in told[name], name
    assert TOLD["missing"] in told["load missing"] and TOLD["silent"] in told["load silent"]
    assert "cannot be reached" in told["push"]
    assert "hf_abc" not in done.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "is not in this machine's cache, and HF_HUB_OFFLINE keeps"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "The hub at http://127.0.0.1:9 gives no answer"),
    ],
)
def test_without_a_network_the_command_ends_at_once(tmp_path, more, words):
    from PIL import Image

    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    command = ("-m", "insightedit", "edit", "a.png", "make it red", "--model", "some/hub-id")
    done = python(tmp_path, *command, **more)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == ["a.png"]
