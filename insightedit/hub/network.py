"""The model hub: models are fetched once, with time limits; what went wrong is one sentence, without a token in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""`owner/name` of a model on the hub."""
PATIENCE = 20.0  # seconds for an answer of the hub, where only a few bytes are asked for
MODEL_INDEX = "model_index.json"
CONFIG = "config.yaml"  # of the run that a model comes from
FACTS = "export.json"  # what `insightedit.export.card` wrote about the model
PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")  # of a part; pickles are never fetched
ROOT_FILES = (MODEL_INDEX, FACTS, CONFIG, "README.md")
MORE_PARTS = ("text_encoder", "tokenizer")  # what training on needs and the index does not name


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
    """HTTP status behind an error: of a response, or in the words of the uploader that is not written in Python."""
    for cause in reasons(error):
        code = getattr(getattr(cause, "response", None), "status_code", None)
        if code is not None:
            return int(code)
        if isinstance(cause, PermissionError):
            return 403
        if found := re.search(r"\b(?:status|HTTP)\D{0,20}\b([45]\d\d)\b", str(cause)):
            return int(found[1])
    return None


def is_network(error: BaseException) -> bool:
    """Whether connection or time failed, in whichever HTTP client `huggingface_hub` is built on."""
    from huggingface_hub.errors import HfHubHTTPError

    client: type[BaseException] = HfHubHTTPError.__mro__[1]  # the client's own base class of errors
    words = re.compile(r"connect|timed? ?out|dns|network", re.IGNORECASE)
    return any(
        isinstance(cause, ConnectionError | TimeoutError | client) or words.search(str(cause)) is not None
        for cause in reasons(error)
        if not isinstance(cause, HfHubHTTPError)
    )


def without_token(text: str) -> str:
    """A message with every token blanked out."""
    from huggingface_hub import get_token

    token = get_token()
    text = text.replace(token, "***") if token else text
    return re.sub(r"\bhf_\w{8,}", "***", text)


def fetch_model(repo: str) -> Path:
    """Folder in the hub's cache of a model `owner/name`, fetched; of an older copy where the hub cannot be reached.

    A ValueError tells in one sentence that there is no such model, it is not for this user, or the hub did not answer.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        if (kept := _cached(repo)) is not None:
            return kept
        raise ValueError(
            f"{repo} is not in this machine's cache, and HF_HUB_OFFLINE keeps the hub's client from fetching it: "
            "unset that, or name a model folder."
        )
    try:
        with patience(PATIENCE):
            commit = HfApi(library_name="insightedit").model_info(repo, timeout=PATIENCE).sha
            options: dict[str, Any] = {"revision": commit, "etag_timeout": PATIENCE, "max_workers": 4}
            place = Path(snapshot_download(repo, allow_patterns=list(ROOT_FILES), **options))
            if not (place / MODEL_INDEX).is_file():
                raise ValueError(f"{repo} holds no {MODEL_INDEX}, so it is no model that edits pictures.")
            index = json.loads((place / MODEL_INDEX).read_text(encoding="utf-8"))
            parts = [name for name in [*index, *MORE_PARTS] if "/" not in name and not name.startswith("_")]
            patterns = [f"{part}/{pattern}" for part in parts for pattern in PATTERNS]
            return Path(snapshot_download(repo, allow_patterns=patterns, **options))
    except Exception as error:
        if type(error) is ValueError and error.__cause__ is None:
            raise  # one of our own
        # the hub itself failed, so the cached copy serves; one that says no is believed
        status = status_of(error)
        failed = is_network(error) if status is None else status == 429 or status >= 500
        if failed and (kept := _cached(repo)) is not None:
            return kept
        raise ValueError(without_token(_explain(error, repo))) from None  # causes carry request headers


def check_on_hub(repo: str, revision: str | None = None) -> None:
    """Ask the hub for a model before a library does, which tries for minutes and then names another reason.

    What the cache holds is not asked for, nor what no name on the hub can be, nor anything with HF_HUB_OFFLINE set.
    Raises as `fetch_model`.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HFValidationError

    if constants.HF_HUB_OFFLINE:
        return
    try:
        snapshot_download(repo, revision=revision, local_files_only=True)
    except HFValidationError:
        return
    except (OSError, ValueError):
        try:
            HfApi(library_name="insightedit").model_info(repo, revision=revision, timeout=PATIENCE)
        except Exception as error:
            raise ValueError(without_token(_explain(error, repo))) from None


def _cached(repo: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        place = Path(snapshot_download(repo, local_files_only=True))
    except (OSError, ValueError):
        return None
    return place if (place / MODEL_INDEX).is_file() else None


def _explain(error: BaseException, repo: str) -> str:
    from huggingface_hub import errors

    chain, status, hub = list(reasons(error)), status_of(error), hub_address()
    if any(isinstance(cause, errors.GatedRepoError) for cause in chain) or status == 403:
        return (
            f"{repo} is gated: ask for access at {hub}/{repo}, then log in with `hf auth login` (or set HF_TOKEN) as "
            "the user who was let in."
        )
    if any(isinstance(cause, errors.RepositoryNotFoundError) for cause in chain) or status == 401:
        return (
            f"The hub at {hub} shows no model {repo}: check the name; for a private one log in with `hf auth login`, "
            "or set HF_TOKEN."
        )
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return f"{repo} holds no {MODEL_INDEX}, so it is no model that edits pictures."
    if status == 429:
        return f"The hub at {hub} gets too many requests from here: wait some minutes, or log in with `hf auth login`."
    if status is not None and status >= 500:
        return f"The hub at {hub} failed (status {status}) and {repo} is not in this machine's cache: try again later."
    if is_network(error):
        return (
            f"The hub at {hub} gives no answer and {repo} is not in this machine's cache: check the network and "
            "HF_ENDPOINT, or name a model folder."
        )
    if any(isinstance(cause, json.JSONDecodeError | KeyError | TypeError) for cause in chain):
        return (
            f"What answers at {hub} is no hub (a network's log-in page?): check the network and HF_ENDPOINT, then try "
            f"{repo} again."
        )
    said = " ".join(str(error).split()) or type(error).__name__
    return f"The hub at {hub} did not give {repo}: {said[:300].rstrip('.')}."
