"""Model folders to the hub, through `huggingface_hub`: checked first, resumable, and explained in one sentence.

The token comes from where the client keeps it (`HF_TOKEN` or `hf auth login`) and goes nowhere else: it is no
argument here, and it is blanked out of every message. The hub is the client's, too: `HF_ENDPOINT` names another.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from insightedit.hub import network

PART_ENDINGS = (".json", ".safetensors", ".txt", ".model", ".jinja")  # of what loading reads
UPLOAD_PATIENCE = 300.0  # seconds: it puts large files in their places before it answers
LICENCES = {"LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.txt"}
ALWAYS_THERE = {".gitattributes", "README.md"}  # the hub's own beginnings of a repository


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    url: str  # page of the model
    commit: str  # id of the newest commit there
    files: int  # that the folder holds
    already_there: int  # of them, byte for byte
    left_out: int  # how many other files lie in the folder, which are not uploaded


def check_target(repo: str, *, private: bool = False) -> None:
    """Find out before hours of work whether a push can succeed at all: id, token, network."""
    if not network.HUB_ID.fullmatch(repo):
        raise ValueError(f"{repo!r} is no hub id: write owner/name, e.g. your-name/my-editor.")
    with hub_errors(repo), network.patience(network.PATIENCE):
        api = _api()
        api.whoami()
        _remote_files(api, repo, private)


def push_folder(folder: str | os.PathLike, repo: str, *, private: bool = False, replace: bool = False) -> Pushed:
    """Upload a model folder; give the same call again to go on after an interruption.

    Files that the hub already holds are not sent again. A repository that holds another model is left alone unless
    `replace` is set; then the new model becomes its newest version, and its history keeps the old one.

    Args:
        folder: as `insightedit.export.folder.export_pipeline` writes it; other files in it stay here.
        repo: `owner/name`; made if missing.
        private: make it private; an existing repository stays as it is.
        replace: put this model in the place of another one.

    Raises:
        ValueError: if the folder is no model folder, the repository holds other things, or the hub refuses.
    """
    folder = Path(folder)
    if not (folder / network.MODEL_INDEX).is_file():
        raise ValueError(f"{folder} holds no {network.MODEL_INDEX}, so it is no model folder: export a run first.")
    check_target(repo, private=private)
    again = f"`insightedit push {folder} {repo}` goes on where it stopped"
    with hub_errors(repo, again), network.patience(UPLOAD_PATIENCE):
        api = _api()
        remote = _remote_files(api, repo, private)
        files, held = _files(folder), remote or {}
        foreign = sorted(set(held) - set(files) - ALWAYS_THERE)
        if foreign and network.MODEL_INDEX not in held:
            raise ValueError(
                f"{repo} exists and holds other files ({len(foreign)}, e.g. {foreign[0]}) but no model: name another "
                "repository."
            )
        weights = [name for name in held if name.endswith(".safetensors")]
        other = sorted(name for name in weights if name not in files or not _same(folder / name, held[name]))
        if other and not replace:
            raise ValueError(
                f"{repo} exists and holds another model ({len(other)} of its weight files differ, e.g. {other[0]}): "
                "give --replace to make this one its newest version, or name another repository."
            )
        address_card(folder, repo)
        if remote is None:
            api.create_repo(repo, private=private, exist_ok=True)
        there = sum(_same(folder / name, entry) for name, entry in held.items() if name in files)
        # what else lies there than files of the older model that the new one lacks stays
        stale = [name for name in held if name not in files and name.endswith(PART_ENDINGS)]
        parts = {name.partition("/")[0] for name in files if "/" in name}
        parts |= {name.partition("/")[0] for name in held if re.fullmatch(r"[^/]+/[^/]*config\.json", name)}
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message="Upload an insightedit model",
            allow_patterns=[escape(name) for name in sorted(files)],
            delete_patterns=[name for name in stale if name.partition("/")[0] in parts] if replace else None,
        )
    others = sum(path.is_file() for path in folder.rglob("*")) - len(files)
    return Pushed(f"{api.endpoint}/{repo}", commit.oid, len(files), there, others)


def address_card(folder: Path, repo: str) -> None:
    """Let the card's commands name the repository instead of the folder; one without an export's facts stays."""
    card, facts_file = folder / "README.md", folder / network.FACTS
    if not (card.is_file() and facts_file.is_file()):
        return
    facts = json.loads(facts_file.read_text(encoding="utf-8"))
    if facts["name"] == repo:
        return
    text = card.read_text(encoding="utf-8")
    text = text.replace(f'from_pretrained("{facts["name"]}")', f'from_pretrained("{repo}")')
    text = text.replace(f"--model {facts['name']} ", f"--model {repo} ")
    card.write_text(text, encoding="utf-8")
    facts_file.write_text(json.dumps({**facts, "name": repo}, indent=1) + "\n", encoding="utf-8")


@contextmanager
def hub_errors(repo: str, again: str | None = None) -> Iterator[None]:
    """Turn what the hub's client raises into a `ValueError` of one sentence; `again` is what goes on after it."""
    try:
        yield
    except Exception as error:
        if type(error) is ValueError and error.__cause__ is None:
            raise  # one of our own
        raise ValueError(_explain(error, repo, again)) from None  # `from None`: causes carry request headers


def _api() -> Any:
    """The client, if it has a token and may use the network."""
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise ValueError("The hub's client is offline: unset HF_HUB_OFFLINE to push.")
    if get_token() is None:
        raise ValueError(
            "No hub token found: log in with `hf auth login`, or set HF_TOKEN to a token with write access."
        )
    return HfApi(library_name="insightedit")


def _remote_files(api: Any, repo: str, private: bool) -> dict[str, Any] | None:
    """Path -> entry of what the repository holds; None if there is no such repository yet."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = api.repo_info(repo)
    except RepositoryNotFoundError as error:
        if network.status_of(error) == 401:
            raise
        return None
    if private and info.private is False:
        raise ValueError(
            f"{repo} exists and is public: make it private in its settings, name another one, or leave out --private."
        )
    try:
        entries = list(api.list_repo_tree(repo, recursive=True))
    except RevisionNotFoundError:  # made, nothing in it yet
        return {}
    return {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}


def _files(folder: Path) -> set[str]:
    """What is uploaded: what an export wrote, and a licence; no link, which could lead to any file of this machine."""
    from insightedit.export.checks import owned_files

    owned, names = owned_files(folder), set()
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        is_ours = owned(inner) or inner.as_posix() in LICENCES
        if path.is_symlink() and (is_ours or owned(inner / "config.json")):
            raise ValueError(
                f"{path} is a symbolic link, and what it leads to is not uploaded: copy the folder with its files (cp "
                "-rL) and push the copy."
            )
        if is_ours and path.is_file():
            names.add(inner.as_posix())
    return names


def _same(path: Path, entry: Any) -> bool:
    """Whether a file is the hub's, byte for byte."""
    from huggingface_hub.utils.sha import git_hash

    if entry.size != path.stat().st_size:
        return False
    with path.open("rb") as file:
        if entry.lfs is not None:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.lfs.sha256
        return git_hash(file.read()) == entry.blob_id


def _explain(error: BaseException, repo: str, again: str | None) -> str:
    """One sentence: what happened and what to do."""
    status, endpoint = network.status_of(error), network.hub_address()
    then = f" Nothing is lost: {again}." if again else ""
    sentence: str
    if status == 401:
        sentence = (
            f"The hub at {endpoint} does not accept the token: log in again with `hf auth login`, or set "
            "HF_TOKEN to a valid one."
        )
    elif status == 403:
        sentence = (
            f"The token may not write to {repo}: use a token with write access to {repo.partition('/')[0]}, or push "
            "under a name of your own."
        )
    elif status == 409:
        sentence = f"{repo} changed while it was written to: run the same command again."
    elif status is not None and status >= 500:
        sentence = f"The hub at {endpoint} failed (status {status}).{then or ' Try again later.'}"
    elif network.is_network(error):
        sentence = f"The hub at {endpoint} cannot be reached: check the network and HF_ENDPOINT.{then}"
    else:
        said = " ".join(str(error).split()) or type(error).__name__
        sentence = f"The hub refused {repo}: {said[:300].rstrip('.')}.{then}"
    return network.without_token(sentence)
