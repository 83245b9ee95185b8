"""A language model behind an endpoint that is slow, busy, broken or forbidding; what was paid is never paid again."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_recipes.backends.base import Question
from data_recipes.backends.chat import EndpointChat, plain_answer
from insightedit.chat.clients import ChatError
from insightedit.chat.replies import Reply, ReplyKey, ReplyStore
from tests.evaluation.judge.chat_server import ChatServer, completion

SECRET = "sk-ThisKeyMustNeverBeSeen0123456789"
RED = np.full((4, 5, 3), (255, 0, 0), dtype=np.uint8)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("CHAT_KEY", SECRET)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ChatServer() as running:
        yield running


def chat(server: ChatServer, waits: list[float] | None = None, **changed: Any) -> EndpointChat:
    settings = {"url": server.base_url, "key_variable": "CHAT_KEY", "timeout": 0.5, "concurrency": 1}
    made = EndpointChat("writer-1", **{**settings, **changed})
    made.endpoint.sleep = (waits if waits is not None else []).append
    return made


def says(text: str, **more: Any) -> tuple[int, Any, dict]:
    return 200, completion(text, **more), {}


def test_questions_and_answers_in_their_order(server: ChatServer):
    server.plan.extend([says(" one "), says("<think>hm, two?</think>\ntwo"), says("three")])
    model = chat(server, price_input=2.0, price_output=10.0, max_new_tokens=77, options={"top_p": 0.5})
    questions = [Question("a?"), Question("b?", (RED, RED)), Question("a?"), Question("a?", attempt=1)]
    assert model.answer(questions) == ["one", "two", "one", "three"]  # the same question is asked once
    assert [body["messages"][0]["content"][-1]["text"] for body in server.bodies] == ["a?", "b?", "a?"]
    assert [len(body["messages"][0]["content"]) for body in server.bodies] == [1, 3, 1]
    assert {(b["model"], b["temperature"], b["max_tokens"], b["top_p"]) for b in server.bodies} == {
        ("writer-1", 0.0, 77, 0.5)
    }
    assert set(server.keys) == {f"Bearer {SECRET}"}
    usage = model.usage
    assert (usage.calls, usage.asked, usage.input_tokens, usage.output_tokens) == (4, 3, 3000, 30)
    assert usage.cost == pytest.approx(3 * (1000 * 2.0 + 10 * 10.0) / 1e6) and usage.seconds > 0
    assert model.name == "writer-1" and model.settings == {
        "endpoint": f"{server.base_url}/chat/completions",
        "temperature": 0.0,
        "max_tokens": 77,
        "top_p": 0.5,
    }
    assert model.answer([]) == []


def test_what_was_answered_is_never_asked_again_and_needs_neither_key_nor_network(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = str(tmp_path / "answers/chat.jsonl")
    server.plan.extend([says("one"), says("two")])
    questions = [Question("a?", (RED,)), Question("b?")]
    assert chat(server, replies=kept).answer(questions) == ["one", "two"]
    monkeypatch.delenv("CHAT_KEY")
    again = chat(server, replies=kept)
    assert again.answer(questions[::-1]) == ["two", "one"] and len(server.bodies) == 2
    assert (again.usage.calls, again.usage.asked, again.usage.cost) == (2, 0, 0.0)
    with pytest.raises(ValueError, match="environment variable CHAT_KEY is not set"):
        again.answer([Question("c?")])
    with pytest.raises(ValueError, match="other settings of writer-1: max_tokens was 1024, is 5"):
        chat(server, replies=kept, max_new_tokens=5).answer(questions)
    everything = "".join(path.read_text("utf-8") for path in (tmp_path / "answers").iterdir())
    assert SECRET not in everything and everything.count("\n") == 2


def test_a_server_that_fails_in_every_way_is_asked_until_it_answers(server: ChatServer):
    waits: list[float] = []
    server.plan.extend(
        [
            1.5,  # longer than the timeout
            (429, {"error": {"message": "slow down"}}, {"Retry-After": "7"}),
            0.0,  # the connection drops
            (200, b'{"choices": [{"mess', {}),
            (200, {"choices": []}, {}),
            (200, {"choices": [{"message": None}]}, {}),
            (503, b"<html>busy</html>", {}),
            says("at last"),
        ]
    )
    model = chat(server, waits, max_attempts=8)
    assert model.answer([Question("a?")]) == ["at last"]
    assert len(server.bodies) == 8 and len(waits) == 7 and waits[1] == 7.0
    doubled = [1, None, 4, 8, 16, 32, 60]
    assert all(w == 7 or 0.75 * d <= w <= 1.25 * d for w, d in zip(waits, doubled, strict=True) if d)
    assert model.usage.asked == 1


def test_a_server_that_never_answers_stops_the_run_and_loses_nothing(server: ChatServer, tmp_path: Path):
    kept = str(tmp_path / "chat.jsonl")
    server.plan.extend([says("one"), *[(500, {}, {})] * 3])
    questions = [Question("a?"), Question("b?"), Question("c?")]
    model = chat(server, replies=kept, max_attempts=3)
    with pytest.raises(ChatError, match="gave no reply in 3 attempts, the last time: status 500"):
        model.answer(questions)
    server.plan.clear()
    server.plan.extend([says("two"), says("three")])
    asked = len(server.bodies)
    assert chat(server, replies=kept).answer(questions) == ["one", "two", "three"]
    assert len(server.bodies) - asked == 2


def test_one_question_that_is_refused_stays_without_an_answer(server: ChatServer, caplog: pytest.LogCaptureFixture):
    server.plan.extend([(400, {"error": {"message": f"too long {SECRET}"}}, {}), says("two")])
    model = chat(server)
    with caplog.at_level(logging.WARNING):
        assert model.answer([Question("a?"), Question("b?")]) == ["", "two"]
    assert "a question is left unanswered" in caplog.text and "too long [key]" in caplog.text
    assert SECRET not in caplog.text
    server.plan.append((413, {}, {}))
    assert model.answer([Question("c?")]) == [""]  # it has answered before: it is this question's fault
    server.plan.extend([says("", finish_reason="content_filter"), says("", refusal="I cannot.")])
    assert model.answer([Question("d?"), Question("e?")]) == ["", ""]


def test_an_endpoint_that_refuses_everything_stops_the_run(server: ChatServer):
    server.plan.extend([(400, {"error": {"message": "no such model"}}, {})] * 2)
    with pytest.raises(ChatError, match="refuses: status 400.*no such model"):
        chat(server).answer([Question("a?"), Question("b?")])
    server.plan.extend([says("one"), (401, {"error": {"message": "bad key"}}, {})])
    with pytest.raises(ChatError, match="refuses: status 401"):
        chat(server).answer([Question("a?"), Question("b?")])


def test_no_more_requests_a_minute_than_allowed(server: ChatServer):
    waits: list[float] = []
    chat(server, waits, requests_per_minute=600).answer([Question(f"{i}?") for i in range(4)])
    assert len(waits) == 3 and all(0.05 < wait <= 0.35 for wait in waits) and waits == sorted(waits)


def test_so_many_questions_wait_at_once(monkeypatch: pytest.MonkeyPatch):
    together = threading.Barrier(3)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            together.wait(timeout=20)  # breaks unless three are here
            body = json.dumps(completion("yes")).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    model = EndpointChat("m", url=f"http://127.0.0.1:{running.server_address[1]}/v1", key_variable=None, concurrency=3)
    assert model.answer([Question(f"{i}?") for i in range(6)]) == ["yes"] * 6
    model.close()
    running.shutdown()
    running.server_close()


def test_each_process_writes_a_file_of_its_own_and_reads_all(tmp_path: Path):
    path = tmp_path / "chat.jsonl"
    key, other = (ReplyKey.of("m", prompt, []) for prompt in ("a?", "b?"))
    first = ReplyStore(path, per_process=True)
    first.path = path.with_name("chat.elsewhere-7.jsonl")  # as another process names it
    first.add(key, Reply("one"), settings={"t": 0})
    ReplyStore(tmp_path / "chat2.jsonl", per_process=True).add(other, Reply("of another model"), settings={"t": 1})
    second = ReplyStore(path, per_process=True)
    assert second.get(key) == Reply("one") and second.get(other) is None and len(second) == 1
    second.add(other, Reply("two"), settings={"t": 0})
    assert second.path != first.path and len(ReplyStore(path, per_process=True)) == 2
    with pytest.raises(ValueError, match="other settings of m: t was 0, is 1"):
        second.check_settings("m", {"t": 1})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"concurrency": 0}, "concurrency is 0: give a number above 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0: give a number above 0"),
        ({"requests_per_minute": -1}, "requests_per_minute is -1: give a number above 0"),
        ({"timeout": 0}, "timeout is 0: give a number above 0"),
        ({"max_attempts": 0}, "max_attempts is 0: give a number above 0"),
    ],
)
def test_settings_out_of_range(wrong: dict, told: str):
    with pytest.raises(ValueError, match=told):
        EndpointChat("m", **wrong)


def test_an_address_that_would_show_the_key_is_refused_with_the_first_question():
    model = EndpointChat("m", url="http://models.example.org/v1", key_variable="CHAT_KEY")
    with pytest.raises(ValueError, match="the key would travel unencrypted"):
        model.answer([Question("a?")])


@pytest.mark.parametrize(
    ("text", "answer"), [("<think>so", ""), (" a ", "a"), ("<think>x</think> b", "b"), ("x</think>c", "c")]
)
def test_thoughts_are_no_answer(text: str, answer: str):
    assert plain_answer(text) == answer
