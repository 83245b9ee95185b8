"""Where replies come from: a file, or any endpoint that speaks OpenAI's protocol; `insightedit.chat.local` is a third.

Why not the `openai` package: what holds here (bodies of bounded size and time, half an answer asked for again, a key
that no traceback shows) would have to be wrapped around it, and is most of this file.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from PIL import Image

from insightedit.chat.replies import FILTERED, Reply, ReplyKey, ReplyStore, whole_text
from insightedit.images.picture_files import picture_address

if TYPE_CHECKING:
    import httpx

OPENAI = "https://api.openai.com/v1"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
BLOCKED = ("content_filter", "content_policy_violation", "moderation_blocked")  # codes of a refused question
LONGEST_BODY = 2**24  # bytes of a response
MOST_TOKENS = 2**53
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between attempts
LONGEST_ASKED_WAIT = 600.0  # seconds that a server may ask for by Retry-After
CONNECT_TIMEOUT = 10.0  # seconds
logger = logging.getLogger(__name__)


class ChatClient(Protocol):
    """A language model that may look at pictures."""

    @property
    def name(self) -> str:
        """Of the model, what replies are kept under."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What else decides about replies, ready for JSON.

        `deterministic: True` if the same question always has the same reply, so that it need not be repeated.
        """
        ...

    def ask(self, prompt: str, pictures: Sequence[Image.Image], *, repeat: int = 0, attempt: int = 0) -> Reply:
        """Reply to a question about RGB pictures, in the order in which the prompt speaks of them.

        `repeat` numbers the repeated questions, and `attempt` those after unreadable replies, both from 0.
        """
        ...


class ChatError(RuntimeError):
    """A model that gives no reply at all: what was recorded so far is kept, the run can go on later.

    `status` is that of the HTTP response that refused the question; None where it was not refused.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class MissingReplyError(LookupError):
    """A store without the reply that is asked for."""

    def __init__(self, store: ReplyStore, name: str, what: str = "") -> None:
        how = "`RecordingClient(client, store)`, where `client` is an EndpointClient or LocalClient"
        super().__init__(f"{store.path} holds no reply of {name}{what}: record it with {how} of the name {name}.")


class RecordedClient:
    """Gives a store's replies of the model of a name; asks nobody. MissingReplyError if there is none of this model."""

    def __init__(self, store: ReplyStore, name: str) -> None:
        settings = store.settings(name)
        if settings is None:
            raise MissingReplyError(store, name)
        self.store, self.name, self.settings = store, name, settings

    def ask(self, prompt: str, pictures: Sequence[Image.Image], *, repeat: int = 0, attempt: int = 0) -> Reply:
        """The stored reply; MissingReplyError, which says how to record it, if there is none."""
        reply = self.store.get(ReplyKey.of(self.name, prompt, pictures, repeat=repeat, attempt=attempt))
        if reply is None:
            which = f" to this prompt and these pictures (repeat {repeat}, attempt {attempt})"
            raise MissingReplyError(self.store, self.name, which)
        return reply


class RecordingClient:
    """Asks a model what the store does not hold, and keeps every reply: a stopped run goes on where it was.

    ValueError if the store was begun with other settings of this model.
    """

    def __init__(self, client: ChatClient, store: ReplyStore) -> None:
        store.check_settings(client.name, client.settings)
        self.client, self.store = client, store
        self.name, self.settings = client.name, client.settings

    def ask(self, prompt: str, pictures: Sequence[Image.Image], *, repeat: int = 0, attempt: int = 0) -> Reply:
        """The stored reply, or else a new one, stored; arguments as in `ChatClient`."""
        key = ReplyKey.of(self.name, prompt, pictures, repeat=repeat, attempt=attempt)
        reply = self.store.get(key)
        if reply is None:
            reply = self.client.ask(prompt, pictures, repeat=repeat, attempt=attempt)
            reply = reply if reply.date else replace(reply, date=now())
            reply = self.store.add(key, reply, settings=self.settings)
        return reply


def now() -> str:
    """This second, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(eq=False, repr=False)
class EndpointClient:
    """A model behind `POST BASE_URL/chat/completions`: OpenAI's, or any server that speaks its protocol.

    Pictures are sent as PNG data addresses, without metadata, before the text. The key is read from the environment
    at each request and kept nowhere else; it is cut out of what a server says. A server on this machine is spoken to
    directly, whatever proxy the environment names. A ValueError if the address is unsafe for a key, or none is set.
    """

    name: str  # of the model, as the endpoint calls it; pin a dated version
    _: KW_ONLY
    base_url: str = OPENAI  # https, or http on this machine (or anywhere, without a key)
    key_variable: str | None = "OPENAI_API_KEY"  # of the environment; None for servers without a key
    temperature: float = 0.0
    max_tokens: int = 1024  # longest reply
    timeout: float = 120.0  # seconds of silence after which an attempt failed
    total_timeout: float | None = None  # ... however lively the server is; None: five times `timeout`
    max_attempts: int = 6  # requests per question before giving up
    requests_per_minute: float | None = None  # no more than these; None for no limit
    options: Mapping[str, Any] | None = None  # further entries of the request's body; None takes one of ours out
    sleep: Callable[[float], object] = time.sleep  # waits for seconds
    is_lazy: bool = False  # address and key are checked with the first question, not before

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}: a question takes at least one.")
        if self.requests_per_minute is not None and not self.requests_per_minute > 0:
            raise ValueError(f"requests_per_minute is {self.requests_per_minute}: give a number above 0, or None.")
        self.base_url = self.base_url.rstrip("/")
        self._next_turn, self._lock = 0.0, threading.Lock()
        self._http: httpx.Client | None = None
        self.used: Counter[str] = Counter()  # "requests", and tokens "read" and "written"; told at a run's end
        if not self.is_lazy:
            self._connection()

    def __repr__(self) -> str:
        return f"EndpointClient({self.name!r}, base_url={self.base_url!r})"

    @property
    def settings(self) -> dict[str, Any]:
        """Address and the request's options."""
        body = {"temperature": self.temperature, "max_tokens": self.max_tokens, **(self.options or {})}
        given = {name: value for name, value in body.items() if value is not None}
        return {"endpoint": f"{self.base_url}/chat/completions", **given}

    def close(self) -> None:
        """Close the connections; the next question opens them again."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def ask(self, prompt: str, pictures: Sequence[Image.Image], *, repeat: int = 0, attempt: int = 0) -> Reply:
        """Ask the endpoint, again after failures that may pass; arguments as in `ChatClient`.

        A question that the endpoint blocks is a reply with the finish reason "content_filter"; ChatError if it refuses
        the request, or gives no reply in all attempts.
        """
        urls = ({"url": picture_address(picture)} for picture in pictures)
        content = [*({"type": "image_url", "image_url": url} for url in urls), {"type": "text", "text": prompt}]
        options = {name: value for name, value in self.settings.items() if name != "endpoint"}
        body = {"model": self.name, "messages": [{"role": "user", "content": content}], **options}
        fault = ""
        for number in range(1, self.max_attempts + 1):
            reply, fault, asked_wait = self._try(body)
            if reply is not None:
                return reply
            if number < self.max_attempts:
                doubled = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (number - 1))
                # spread by a half: clients that failed together shall not come back together
                wait = doubled * random.Random().uniform(0.75, 1.25) if asked_wait is None else asked_wait
                if wait > LONGEST_ASKED_WAIT:
                    raise ChatError(
                        f"{self._who} asks to wait for {wait:.0f} s: run again then, or lower requests_per_minute."
                    )
                text = f"attempt {number} of {self.max_attempts} failed, the next one in {wait:.0f} s"
                logger.warning("%s: %s: %s", self._who, text, fault)
                self.sleep(wait)
        raise ChatError(
            f"{self._who} gave no reply in {self.max_attempts} attempts, the last time: {fault}. Replies so far are "
            "kept if they are recorded; run again later."
        )

    @property
    def _who(self) -> str:
        return f"{self.name} at {urlsplit(self.base_url).hostname}"

    def _connection(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._http is None:
                _check_access(self.base_url, self.key_variable, self.options)
                self._http = httpx.Client(
                    timeout=httpx.Timeout(self.timeout, connect=min(self.timeout, CONNECT_TIMEOUT)),
                    auth=None if self.key_variable is None else self._authorise,
                    follow_redirects=False,
                    headers={"Accept-Encoding": "identity"},  # what a few packed bytes unpack to has no bound
                    trust_env=urlsplit(self.base_url).hostname not in LOOPBACK,
                )
            return self._http

    def _try(self, body: dict[str, Any]) -> tuple[Reply | None, str, float | None]:
        """One request: the reply, or else what failed and for how many seconds the server asks to wait."""
        import httpx

        http = self._connection()
        with self._lock:
            self.used["requests"] += 1
        if self.requests_per_minute is not None:
            with self._lock:
                start = max(time.monotonic(), self._next_turn)
                self._next_turn = start + 60.0 / self.requests_per_minute
            if (wait := start - time.monotonic()) > 0:
                self.sleep(wait)
        try:
            response = self._post(http, body)
        except (httpx.RequestError, TimeoutError) as error:  # httpx has timeouts of its own
            return None, f"{type(error).__name__} ({self._without_key(str(error))})", None
        said = self._without_key(" ".join(response.text.split()))
        code, said = "", f"status {response.status_code}, {said[:300]!r}"
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            code = str(response.json()["error"]["code"] or "")
        if response.status_code in RETRIED and code != "insufficient_quota":  # a 429 that no waiting heals
            return None, said, _retry_after(response.headers.get("retry-after"))
        if response.status_code != 200:
            if code in BLOCKED:
                return Reply("", FILTERED[0], date=now()), "", None
            raise ChatError(f"{self._who} refuses: {said}. Check model, key and options.", response.status_code)
        try:
            reply = _read_completion(response.json())
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None, f"status 200 without a completion: {said}", None
        with self._lock:
            self.used.update(read=reply.input_tokens, written=reply.output_tokens)
        return replace(reply, text=self._without_key(reply.text)), "", None

    def _post(self, http: httpx.Client, body: dict[str, Any]) -> httpx.Response:
        """A whole response of bounded size and time; TimeoutError or httpx.RequestError for nothing, or too much."""
        import httpx

        longest = 5 * self.timeout if self.total_timeout is None else self.total_timeout
        end, parts, size = time.monotonic() + longest, [], 0
        with http.stream("POST", f"{self.base_url}/chat/completions", json=body) as response:
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > LONGEST_BODY:
                    raise httpx.RequestError(f"a response of more than {LONGEST_BODY} bytes")
                if time.monotonic() > end:
                    raise TimeoutError(f"no whole response in {longest:.0f} s")
        asked = response.headers.get("retry-after")
        headers = {} if asked is None else {"retry-after": asked}
        return httpx.Response(response.status_code, headers=headers, content=b"".join(parts))

    def _authorise(self, request: httpx.Request) -> httpx.Request:
        """Put the key into a request; it stands in no variable, so no traceback can show it."""
        request.headers["Authorization"] = f"Bearer {os.environ.get(self.key_variable or '', '')}"
        return request

    def _without_key(self, text: str) -> str:
        key = os.environ.get(self.key_variable or "", "")
        return text.replace(key, "[key]") if key else text


def _check_access(base_url: str, key_variable: str | None, options: Mapping[str, Any] | None) -> None:
    """Refuse an address that is none, or unsafe for a key, and a key that is missing or would be seen."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url is {base_url!r}: give an address like {OPENAI}.")
    if parts.username or parts.password or parts.query:
        raise ValueError(
            "base_url holds a user, a password or a query: addresses are written to logs, give the key by an "
            "environment variable."
        )
    if key_variable is None:
        return
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError(
            f"base_url is {base_url}, and the key would travel unencrypted: use https, or key_variable=None for a "
            "server without a key."
        )
    key = os.environ.get(key_variable, "")
    if not key:
        raise ValueError(
            f"the environment variable {key_variable} is not set: put the endpoint's key there, or give "
            "key_variable=None if it needs none."
        )
    if not all("!" <= letter <= "~" for letter in key):  # an error about the header would show it
        raise ValueError(
            f"the environment variable {key_variable} holds spaces, line breaks or other letters that no key has: "
            "set it to the key alone."
        )
    if key in base_url or key in json.dumps(options, default=str):
        raise ValueError(
            f"base_url or options hold the key of {key_variable}, and both are written to files: leave it out, it is "
            "sent by itself."
        )


def _read_completion(answer: Any) -> Reply:
    """A `chat.completion` object as a reply; LookupError, TypeError or AttributeError if it is none."""
    choice, usage = answer["choices"][0], answer.get("usage") or {}
    message, reason = choice["message"], str(choice.get("finish_reason") or "")
    text = message.get("content")
    if isinstance(text, list):  # some servers answer in parts
        text = "".join(part.get("text", "") for part in text)
    if message.get("refusal"):
        text, reason = message["refusal"], FILTERED[1]
    if not isinstance(text or "", str):
        raise TypeError("the answer is no text")
    # a server's odd count is 0: the answer is there and paid for
    given = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
    tokens = [int(n) if isinstance(n, int | float) and 0 <= n < MOST_TOKENS else 0 for n in given]
    return Reply(whole_text(text or ""), whole_text(reason), *tokens, now())


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date; None without or if it is neither."""
    with suppress(ValueError):
        return max(0.0, float(value or ""))
    with suppress(ValueError):
        date = parsedate_to_datetime(value or "")
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return None
