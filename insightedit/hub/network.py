"""Talking to the hub: how long to wait, what went wrong, and no token in any message."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""`owner/name` of a model on the hub."""
PATIENCE = 20.0  # seconds for an answer of the hub, where only a few bytes are asked for
MODEL_INDEX = "model_index.json"
CONFIG = "config.yaml"  # of the run that a model comes from
FACTS = "export.json"  # what `insightedit.export.card` wrote about the model


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """A limit on how long the hub's client waits for the next bytes; by itself it waits for ever."""
    from huggingface_hub import get_session

    session: Any = get_session()
    before, session.timeout = getattr(session, "timeout", None), seconds
    try:
        yield
    finally:
        session.timeout = before


def hub_address() -> str:
    """Where the client looks for the hub, without a password in it."""
    from huggingface_hub import constants

    return re.sub(r"//[^/@]*@", "//", constants.ENDPOINT)


def reasons(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def status_of(error: BaseException) -> int | None:
    """HTTP status behind an error: of its response, or in the words of the uploader that is not written in Python."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    if code is not None:
        return int(code)
    if isinstance(error, PermissionError):
        return 403
    found = re.search(r"\b(?:status|HTTP)\D{0,20}\b([45]\d\d)\b", str(error))
    return int(found[1]) if found else None


def is_network(error: BaseException) -> bool:
    """Connection and time-out errors of whichever HTTP client `huggingface_hub` is built on."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return False
    client: type[BaseException] = HfHubHTTPError.__mro__[1]  # the client's own base class of errors
    words: Callable[[str], Any] = re.compile(r"connect|timed? ?out|dns|network", re.IGNORECASE).search
    return isinstance(error, ConnectionError | TimeoutError | client) or words(str(error)) is not None


def without_token(text: str) -> str:
    """A message with every token blanked out."""
    from huggingface_hub import get_token

    token = get_token()
    text = text.replace(token, "***") if token else text
    return re.sub(r"\bhf_\w{8,}", "***", text)
