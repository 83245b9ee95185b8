"""Judges from a file, behind an endpoint that fails in every way, and on this machine."""

from __future__ import annotations

import base64
import io
import json
import logging
import pickle
import re
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from insightedit.chat.clients import ChatError, EndpointClient, MissingReplyError, RecordedClient, RecordingClient
from insightedit.chat.local import LocalClient
from insightedit.chat.replies import Reply, ReplyKey, ReplyStore
from insightedit.chat.scores import Missing, Scale, parse_reply
from tests.evaluation.judge.chat_server import ChatServer, completion

SECRET = "sk-ThisKeyMustNeverBeSeen0123456789"
GOOD = '{"score": [8, 7], "reasoning": ""}'
RED, BLUE = Image.new("RGB", (5, 4), "red"), Image.new("RGB", (4, 5), "blue")


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ChatServer() as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def judge(chat: ChatServer, waits: list[float]) -> Iterator[EndpointClient]:
    made = EndpointClient(
        "seer-1", base_url=chat.base_url, key_variable="JUDGE_KEY", timeout=0.3, max_attempts=4, sleep=waits.append
    )
    yield made
    made.close()


def test_a_question_and_its_reply(chat: ChatServer, judge: EndpointClient) -> None:
    reply = judge.ask("which is better?", [RED, BLUE])
    assert (reply.text, reply.finish_reason, reply.input_tokens, reply.output_tokens) == (GOOD, "stop", 1000, 10)
    assert abs(datetime.fromisoformat(reply.date) - datetime.now(UTC)) < timedelta(minutes=1)
    assert chat.paths == ["/v1/chat/completions"] and chat.keys == [f"Bearer {SECRET}"]
    (body,) = chat.bodies
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("seer-1", 0.0, 1024)
    (message,) = body["messages"]
    *pictures, text = message["content"]
    assert message["role"] == "user" and text == {"type": "text", "text": "which is better?"}
    for sent, picture in zip(pictures, (RED, BLUE), strict=True):
        start, _, data = sent["image_url"]["url"].partition(",")
        assert start == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as got:
            assert got.format == "PNG" and got.tobytes() == picture.tobytes() and got.size == picture.size


def test_a_picture_is_sent_without_its_metadata(chat: ChatServer, judge: EndpointClient) -> None:
    noted = RED.copy()
    noted.info = {"dpi": (72, 72), "Instruction": "made by method A", "icc_profile": b"secret"}
    judge.ask("?", [noted])
    url = chat.bodies[0]["messages"][0]["content"][0]["image_url"]["url"]
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as got:
        assert not got.info


def test_options_replace_and_remove_entries(chat: ChatServer) -> None:
    judge = EndpointClient(
        "m",
        base_url=chat.base_url,
        key_variable=None,
        options={"max_tokens": None, "max_completion_tokens": 99, "seed": 1},
    )
    judge.ask("?", [])
    judge.close()
    assert "max_tokens" not in chat.bodies[0] and chat.bodies[0]["max_completion_tokens"] == 99
    assert chat.keys == [None]
    endpoint = chat.base_url + "/chat/completions"
    assert judge.settings == {"endpoint": endpoint, "temperature": 0.0, "max_completion_tokens": 99, "seed": 1}


def test_failures_that_pass_are_waited_out(chat: ChatServer, judge: EndpointClient, waits: list[float]) -> None:
    chat.plan += [0.6, (500, b"<html>oops", {}), (200, b'{"choices": [{"mess', {})]  # a time-out comes first
    assert judge.ask("?", [RED]).text == GOOD
    assert len(chat.bodies) == 4 and all(body == chat.bodies[0] for body in chat.bodies)
    for wait, doubled in zip(waits, (1.0, 2.0, 4.0), strict=True):
        assert 0.75 * doubled <= wait <= 1.25 * doubled


def test_a_server_says_how_long_to_wait(chat: ChatServer, judge: EndpointClient, waits: list[float]) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    limited = {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}
    chat.plan += [
        (429, limited, {"Retry-After": "7"}),
        (429, limited, {"Retry-After": date}),
        (503, b"", {"Retry-After": "soon"}),
    ]
    assert judge.ask("?", [RED]).text == GOOD
    assert waits[0] == 7.0 and 25 < waits[1] <= 30 and 3 <= waits[2] <= 5
    chat.plan += [(429, limited, {"Retry-After": "86400"})]
    with pytest.raises(ChatError, match="seer-1 at 127.0.0.1 asks to wait for 86400 s: run again then"):
        judge.ask("?", [RED])


@pytest.mark.parametrize(
    ("step", "named"),
    [
        (0.6, "ReadTimeout"),
        ((500, b"<html>  out of\n order", {}), "status 500, '<html> out of order'"),
        ((429, {"error": {"message": "slow down"}}, {}), "status 429, .*slow down"),
        ((200, b'{"choices": [{"mess', {}), "status 200 without a completion: status 200, .*mess"),
        ((200, {"error": {"message": "upstream"}}, {}), "status 200 without a completion: .*upstream"),
        ((200, {"choices": []}, {}), "status 200 without a completion"),
        ((200, [1], {}), "status 200 without a completion"),
    ],
)
def test_failures_that_stay_are_told(
    chat: ChatServer, judge: EndpointClient, waits: list[float], step: Any, named: str
) -> None:
    chat.plan += [step] * 4
    with pytest.raises(ChatError, match=f"seer-1 at 127.0.0.1 gave no reply in 4 attempts, the last time: .*{named}"):
        judge.ask("?", [RED])
    assert len(chat.bodies) == 4 and len(waits) == 3


def test_a_server_that_is_not_there(chat: ChatServer, waits: list[float]) -> None:
    judge = EndpointClient("m", base_url="http://127.0.0.1:9", key_variable=None, max_attempts=2, sleep=waits.append)
    with pytest.raises(ChatError, match="in 2 attempts, the last time: ConnectError"):
        judge.ask("?", [])
    judge.close()


@pytest.mark.parametrize(
    ("status", "code"), [(400, "invalid_request"), (401, "invalid_api_key"), (404, None), (429, "insufficient_quota")]
)
def test_what_no_waiting_heals_is_not_repeated(
    chat: ChatServer, judge: EndpointClient, status: int, code: str | None
) -> None:
    chat.plan += [(status, {"error": {"code": code, "message": "no such thing"}}, {})]
    with pytest.raises(ChatError, match=f"refuses: status {status}, .*no such thing.*Check model, key and options"):
        judge.ask("?", [RED])
    assert len(chat.bodies) == 1


def test_blocked_questions_are_refusals(chat: ChatServer, judge: EndpointClient) -> None:
    chat.plan += [
        (400, {"error": {"code": "content_filter", "message": "blocked"}}, {}),
        (200, completion("", finish_reason="content_filter"), {}),
        (200, completion("", refusal="I can't rate people."), {}),
        (200, completion("[8, 7", finish_reason="length"), {}),
        (200, completion([{"type": "text", "text": "[8, "}, {"type": "text", "text": "7]"}]), {}),  # type: ignore[arg-type]
    ]
    replies = [judge.ask("?", [RED]) for _ in range(5)]
    scale = Scale(("a", "b"))
    parsed = [parse_reply(one.text, scale, finish_reason=one.finish_reason) for one in replies]
    assert [one.missing for one in parsed] == [*[Missing.REFUSAL] * 3, Missing.TRUNCATED, None]
    assert replies[2].text == "I can't rate people." and replies[0].date


@pytest.mark.parametrize("usage", [1e999, -5, "many", None, 10**400, [1]])
def test_odd_counts_do_not_lose_a_paid_reply(chat: ChatServer, judge: EndpointClient, usage: Any) -> None:
    body = completion(GOOD)
    body["usage"] = {"prompt_tokens": usage, "completion_tokens": 7}
    chat.plan += [(200, json.dumps(body).replace("Infinity", "1e999").encode(), {})]
    reply = judge.ask("?", [RED])
    assert (reply.text, reply.input_tokens, reply.output_tokens) == (GOOD, 0, 7)
    assert len(chat.bodies) == 1


def test_halves_of_characters_become_marks(chat: ChatServer, judge: EndpointClient, tmp_path: Path) -> None:
    chat.plan += [(200, completion('{"score": [8, 7]} \ud800 \U0001f600', finish_reason="sto\udfff"), {})]
    store = ReplyStore(tmp_path / "replies.jsonl")
    reply = RecordingClient(judge, store).ask("?", [RED])
    assert (reply.text, reply.finish_reason) == ('{"score": [8, 7]} \ufffd \U0001f600', "sto\ufffd")
    assert ReplyStore(store.path).get(ReplyKey.of("seer-1", "?", [RED])) == reply
    parsed = parse_reply('{"score": [8, 7], "reasoning": "\\ud800"}', Scale(("a", "b")))
    assert parsed.scores == (8, 7) and parsed.reasoning == "\ufffd"


def test_a_server_that_echoes_the_key(chat: ChatServer, judge: EndpointClient, tmp_path: Path) -> None:
    chat.plan += [(200, completion(f"you sent Bearer {SECRET}"), {})]
    reply = RecordingClient(judge, ReplyStore(tmp_path / "replies.jsonl")).ask("?", [RED])
    assert reply.text == "you sent Bearer [key]"
    assert SECRET not in (tmp_path / "replies.jsonl").read_text()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"[" * 200_000 + b"]" * 200_000, r"status 200 without a completion: .*\[\[\["),
        (b'{"choices": [{"message": {"content": 5}}]}', "status 200 without a completion"),
        (b" " * (2**24 + 1), "RequestError .a response of more than 16777216 bytes"),
    ],
    ids=["deep", "number", "large"],
)
def test_bodies_that_are_no_answer(chat: ChatServer, judge: EndpointClient, body: bytes, named: str) -> None:
    chat.plan += [(200, body, {})]
    assert judge.ask("?", [RED]).text == GOOD  # the second attempt
    chat.plan += [(200, body, {})] * 4
    with pytest.raises(ChatError, match=f"in 4 attempts, the last time: {named}"):
        judge.ask("?", [RED])


def test_a_reply_without_end_is_cut(chat: ChatServer, waits: list[float]) -> None:
    made = EndpointClient(
        "m", base_url=chat.base_url, key_variable=None, total_timeout=0.4, max_attempts=2, sleep=waits.append
    )
    chat.plan += [(200, [b" "] * 100, {})] * 2
    with pytest.raises(ChatError, match="the last time: TimeoutError .no whole response in 0 s"):
        made.ask("?", [])
    made.close()


def test_each_wait_is_told(chat: ChatServer, judge: EndpointClient, caplog: pytest.LogCaptureFixture) -> None:
    chat.plan += [0.6, (500, b"oops", {})]
    judge.ask("?", [RED])
    first, second = [record.getMessage() for record in caplog.records if record.name.endswith("chat.clients")]
    assert re.fullmatch(r"seer-1 at 127.0.0.1: attempt 1 of 4 failed, the next one in 1 s: ReadTimeout .*", first)
    assert re.search("attempt 2 of 4 failed, the next one in [23] s: status 500, 'oops'", second)


def test_no_proxy_hears_the_key(chat: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChatServer() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.base_url.removesuffix("/v1"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for host in ("127.0.0.1", "localhost"):
            address = chat.base_url.replace("127.0.0.1", host)
            made = EndpointClient("m", base_url=address, key_variable="JUDGE_KEY")
            assert made.ask("?", []).text == GOOD
            made.close()
        assert proxy.keys == [] and len(chat.keys) == 2


def test_a_rate_limit_spreads_requests(chat: ChatServer, waits: list[float]) -> None:
    judge = EndpointClient("m", base_url=chat.base_url, key_variable=None, requests_per_minute=30, sleep=waits.append)
    for _ in range(3):
        judge.ask("?", [])
    judge.close()
    assert len(waits) == 2  # the clock does not run while `sleep` only notes
    assert 1.0 < waits[0] <= 2.0 and 3.0 < waits[1] <= 4.0


def test_the_key_is_never_seen(
    chat: ChatServer, judge: EndpointClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    recording = RecordingClient(judge, ReplyStore(tmp_path / "replies.jsonl"))
    recording.ask("?", [RED])
    seen = [caplog.text, repr(judge), str(judge.settings), (tmp_path / "replies.jsonl").read_text()]
    chat.plan += [(401, {"error": {"message": f"Incorrect API key provided: {SECRET}"}}, {})]
    with pytest.raises(ChatError) as refused:
        judge.ask("?", [RED])
    chat.plan += [(500, f"header was Bearer {SECRET}".encode(), {})] * 4
    with pytest.raises(ChatError) as failed:
        judge.ask("?", [RED])
    for error in (refused.value, failed.value):
        assert "[key]" in str(error)
        trace = error.__traceback__
        while trace is not None:  # what a traceback with local variables would show
            ours = {
                k: v
                for k, v in trace.tb_frame.f_locals.items()
                if "judge/test_" not in trace.tb_frame.f_code.co_filename
            }
            seen.append(repr(ours))
            trace = trace.tb_next
        seen += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
    assert caplog.text and not [text for text in seen if SECRET in text]
    assert SECRET not in repr(vars(judge))
    with pytest.raises(TypeError):  # locks and connections: nobody pickles a judge by mistake
        pickle.dumps(judge)
    assert chat.keys[0] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key_variable": "NO_SUCH_KEY"}, "the environment variable NO_SUCH_KEY is not set: put the endpoint's key"),
        ({"key_variable": "BAD_KEY"}, "BAD_KEY holds spaces, line breaks or other letters"),
        ({"base_url": "localhost:8000"}, "base_url is 'localhost:8000': give an address like https://api"),
        ({"base_url": "https://me:pw@host/v1"}, "base_url holds a user, a password or a query"),
        ({"base_url": "https://host/v1?key=1"}, "base_url holds a user, a password or a query"),
        ({"base_url": "http://judge.example/v1"}, "the key would travel unencrypted: use https"),
        ({"base_url": f"https://host/{SECRET}/v1"}, "hold the key of JUDGE_KEY, and both are written to files"),
        ({"options": {"extra": {"key": SECRET}}}, "hold the key of JUDGE_KEY, and both are written to files"),
        ({"max_attempts": 0}, "max_attempts is 0: a question takes at least one"),
        ({"requests_per_minute": 0}, "requests_per_minute is 0: give a number above 0, or None"),
    ],
)
def test_arguments_are_checked(monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str) -> None:
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    monkeypatch.setenv("BAD_KEY", SECRET + "\n")
    with pytest.raises(ValueError, match=message) as caught:
        EndpointClient("m", **{"key_variable": "JUDGE_KEY", **arguments})
    assert SECRET not in str(caught.value) and "pw" not in str(caught.value)


def test_http_elsewhere_is_fine_without_a_key() -> None:
    judge = EndpointClient("m", base_url="http://judge.example:8000/v1/", key_variable=None)
    assert repr(judge) == "EndpointClient('m', base_url='http://judge.example:8000/v1')"
    judge.close()


def test_recorded_replies_are_given_again(chat: ChatServer, judge: EndpointClient, tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "replies.jsonl")
    recording = RecordingClient(judge, store)
    chat.plan += [(200, completion(f"reply {number}"), {}) for number in range(3)]
    given = [recording.ask("?", [RED, BLUE], repeat=repeat) for repeat in (0, 1, 0)]
    assert [one.text for one in given] == ["reply 0", "reply 1", "reply 0"] and len(chat.bodies) == 2
    recorded = RecordedClient(ReplyStore(store.path), "seer-1")
    assert [recorded.ask("?", [RED, BLUE], repeat=repeat) for repeat in (0, 1, 0)] == given
    assert recorded.settings == judge.settings
    with pytest.raises(
        MissingReplyError,
        match=r"holds no reply of seer-1 to this prompt and these pictures .repeat 2, attempt 0.: record it with "
        r"`RecordingClient\(client, store\)`",
    ):
        recorded.ask("?", [RED, BLUE], repeat=2)
    with pytest.raises(MissingReplyError, match="holds no reply of nobody: record it with"):
        RecordedClient(store, "nobody")
    assert len(chat.bodies) == 2
    other = EndpointClient("seer-1", base_url=chat.base_url, key_variable=None, temperature=0.7)
    with pytest.raises(ValueError, match="other settings of seer-1: temperature was 0.0, is 0.7"):
        RecordingClient(other, store)
    other.close()


class Undated:
    """A judge of somebody else, which gives no dates and lets two threads ask the same at once."""

    name, settings = "undated", {}

    def __init__(self) -> None:
        self.both = threading.Barrier(2)

    def ask(self, prompt: str, pictures: Any, *, repeat: int = 0, attempt: int = 0) -> Reply:
        self.both.wait(10)
        return Reply(f"from {threading.get_ident()}")


def test_two_threads_that_ask_the_same_get_the_same(tmp_path: Path) -> None:
    recording, replies = RecordingClient(Undated(), ReplyStore(tmp_path / "r.jsonl")), []
    threads = [threading.Thread(target=lambda: replies.append(recording.ask("?", [RED]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 2 and replies[0] == replies[1] and replies[0].date
    assert len(ReplyStore(tmp_path / "r.jsonl")) == 1


CHAT_TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


@pytest.fixture(scope="module")
def llava(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny LLaVA, with a chat template as LLaVA-1.5 has one."""
    folder = tmp_path_factory.mktemp("models") / "tiny-judge"
    shutil.copytree(tiny_root / "llava", folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder


def test_a_local_model_replies_the_same_every_time(llava: Path, tmp_path: Path) -> None:
    import torch

    judge = LocalClient(str(llava), max_new_tokens=6)
    assert judge.name == "tiny-judge"
    assert judge.settings == {"deterministic": True, "dtype": "float32", "max_new_tokens": 6, "revision": None}
    first, second = judge.ask("how good?", [RED, BLUE]), judge.ask("how good?", [RED, BLUE], repeat=1)
    assert (first.text, first.input_tokens) == (second.text, second.input_tokens)
    assert first.output_tokens == 6 and first.finish_reason == "length"
    assert first.input_tokens - judge.ask("how good?", [RED]).input_tokens > 10  # a second picture's patches

    # the same by transformers' own pieces
    prompt = "USER: <image>\n<image>\nhow good? ASSISTANT:"
    inputs = judge.processor(images=[RED, BLUE], text=prompt, return_tensors="pt")
    with torch.no_grad():
        ids = judge.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    new = ids[0, inputs.input_ids.shape[1] :]
    assert first.input_tokens == inputs.input_ids.shape[1]
    assert first.text == judge.processor.decode(new, skip_special_tokens=True).strip()

    judge.model.generation_config.eos_token_id = int(new[1])  # the second word it says now ends the reply
    whole = judge.ask("how good?", [RED, BLUE])
    assert whole.finish_reason == "stop" and whole.output_tokens <= 2


def test_a_model_without_a_chat_template_is_no_judge(tiny_root: Path) -> None:
    with pytest.raises(ValueError, match="llava has no chat template: take a model that follows instructions"):
        LocalClient(str(tiny_root / "llava"))
    assert not (tiny_root / "llava" / "chat_template.jinja").exists()
