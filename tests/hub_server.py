"""A hub on this machine: the endpoints that `huggingface_hub` uses to push and to load a model, kept in memory.

Answers have the forms that the client parses (create, preupload, LFS batch and PUT, commit, revision, tree,
resolve). Every request is counted, and some can be told to fail. Large files go the LFS way, so the client runs with
HF_HUB_DISABLE_XET=1; the token that it asks for on the xet way is refused here like any other write.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_TestTokenThatNobodyMayEverSee42"


@dataclass
class Repository:
    """Files by path: `(content, is_lfs)`; one commit after the other."""

    private: bool = False
    files: dict[str, tuple[bytes, bool]] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    def commit(self) -> str:
        """Id of a new commit of the files as they are."""
        text = repr(sorted((name, hashlib.sha1(c).hexdigest()) for name, (c, _) in self.files.items()))
        self.commits.append(hashlib.sha1(f"{len(self.commits)}{text}".encode()).hexdigest())
        return self.commits[-1]


class Hub:
    """The server and what it saw.

    Attributes:
        repositories: by `owner/name`.
        requests: (method, path) -> how often.
        puts: sha256 -> how often its bytes arrived whole.
        readers: owners that the token may read but not write.
        hold_after: number of whole uploads after which the next ones are held until `released`.
        holding: set when an upload is held.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: Counter[tuple[str, str]] = Counter()
        self.puts: Counter[str] = Counter()
        self.readers: set[str] = set()
        self.failing: dict[str, int] = {}  # start of a path -> status
        self.hold_after: int | None = None
        self.holding = threading.Event()
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Hub:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def count(self, method: str, pattern: str) -> int:
        """How many requests had this method and a path that matches."""
        return sum(n for (m, path), n in self.requests.items() if m == method and re.search(pattern, path))


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.answer("GET")

        def do_HEAD(self) -> None:
            self.answer("HEAD")

        def do_POST(self) -> None:
            self.answer("POST")

        def do_PUT(self) -> None:
            self.answer("PUT")

        def answer(self, method: str) -> None:
            path = unquote(urlsplit(self.path).path)
            with hub.lock:
                hub.requests[method, path] += 1
            failing = next((s for start, s in hub.failing.items() if path.startswith(start)), None)
            body = self.body()
            if failing is not None:
                return self.refuse(failing, "told to fail")
            if path.startswith("/lfs/"):
                return self.put(path.removeprefix("/lfs/"), body)
            token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
            for verb, pattern, route in ROUTES:
                found = re.fullmatch(pattern, path)
                if verb == ("GET" if method == "HEAD" else method) and found:
                    return route(self, token, body, **found.groupdict())
            return self.refuse(404, f"no route for {method} {path}")

        def body(self) -> bytes:
            if "chunked" in (self.headers.get("transfer-encoding") or ""):
                parts = []
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("content-length") or 0))

        def reply(self, content: Any = None, status: int = 200, headers: dict[str, str] | None = None) -> None:
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(raw)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(raw)

        def refuse(self, status: int, message: str, code: str | None = None) -> None:
            headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
            self.reply({"error": message}, status, headers)

        def may_write(self, token: str, repo: str) -> bool:
            if token == TOKEN and repo.partition("/")[0] not in hub.readers:
                return True
            self.refuse(403 if token == TOKEN else 401, "You don't have the rights to write to this repository")
            return False

        def found(self, token: str, repo: str) -> Repository | None:
            held = hub.repositories.get(repo)
            if held is None or (held.private and token != TOKEN):
                self.refuse(404 if token == TOKEN else 401, "Repository not found", "RepoNotFound")
                return None
            return held

        def whoami(self, token: str, body: bytes) -> None:
            if token != TOKEN:
                return self.refuse(401, "Invalid credentials")
            return self.reply({"type": "user", "name": "tester", "orgs": []})

        def create(self, token: str, body: bytes) -> None:
            wanted = json.loads(body)
            repo = f"{wanted['organization']}/{wanted['name']}"
            if not self.may_write(token, repo):
                return None
            if repo in hub.repositories:
                return self.reply({"url": f"{hub.endpoint}/{repo}", "error": "exists"}, 409)
            hub.repositories[repo] = Repository(private=wanted.get("visibility") == "private")
            hub.repositories[repo].files[".gitattributes"] = (b"*.safetensors filter=lfs\n", False)
            hub.repositories[repo].commit()
            return self.reply({"url": f"{hub.endpoint}/{repo}"})

        def validate(self, token: str, body: bytes) -> None:
            import yaml

            header = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            models = header.get("base_model") or []
            wrong = [name for name in models if not re.fullmatch(r"[\w.-]+/[\w.-]+", name)]
            if wrong or not header.get("license"):
                return self.reply({"errors": [{"message": f"bad metadata {wrong}"}], "warnings": []}, 400)
            return self.reply({"errors": [], "warnings": []})

        def preupload(self, token: str, body: bytes, repo: str) -> None:
            held = self.found(token, repo)
            if held is None or not self.may_write(token, repo):
                return None
            files = []
            for wanted in json.loads(body)["files"]:
                name = wanted["path"]
                is_lfs = name.endswith((".safetensors", ".png"))
                entry = {"path": name, "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
                if name in held.files:
                    content = held.files[name][0]
                    entry["oid"] = hashlib.sha256(content).hexdigest() if is_lfs else _git_oid(content)
                files.append(entry)
            return self.reply({"files": files})

        def batch(self, token: str, body: bytes, repo: str) -> None:
            if not self.may_write(token, repo):
                return None
            objects = []
            for wanted in json.loads(body)["objects"]:
                href = f"{hub.endpoint}/lfs/{wanted['oid']}"
                actions = {} if wanted["oid"] in hub.objects else {"actions": {"upload": {"href": href}}}
                objects.append({"oid": wanted["oid"], "size": wanted["size"], **actions})
            return self.reply({"transfer": "basic", "objects": objects})

        def put(self, oid: str, body: bytes) -> None:
            with hub.lock:
                held = hub.hold_after is not None and sum(hub.puts.values()) >= hub.hold_after
                if not held:
                    hub.puts[oid] += 1
            if held:
                hub.holding.set()
                hub.released.wait(60)
                return self.refuse(503, "held")
            if hashlib.sha256(body).hexdigest() != oid:
                return self.refuse(400, "the bytes have another sha256")
            hub.objects[oid] = body
            return self.reply(b"")

        def commit(self, token: str, body: bytes, repo: str) -> None:
            held = self.found(token, repo)
            if held is None or not self.may_write(token, repo):
                return None
            for line in body.decode().splitlines():
                item = json.loads(line)
                value = item["value"]
                if item["key"] == "file":
                    held.files[value["path"]] = (base64.b64decode(value["content"]), False)
                elif item["key"] == "lfsFile":
                    held.files[value["path"]] = (hub.objects[value["oid"]], True)
                elif item["key"] == "deletedFile":
                    del held.files[value["path"]]
            oid = held.commit()
            url = f"{hub.endpoint}/{repo}/commit/{oid}"
            return self.reply({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

        def info(self, token: str, body: bytes, repo: str, revision: str | None = None) -> None:
            held = self.found(token, repo)
            if held is None:
                return None
            if not held.commits:
                return self.refuse(404, "Revision not found", "RevisionNotFound")
            siblings = [{"rfilename": name} for name in held.files]
            facts = {"id": repo, "sha": held.commits[-1], "private": held.private, "siblings": siblings}
            return self.reply({**facts, "tags": [], "downloads": 0, "likes": 0})

        def tree(self, token: str, body: bytes, repo: str, revision: str) -> None:
            held = self.found(token, repo)
            if held is None:
                return None
            entries = []
            for name, (content, is_lfs) in sorted(held.files.items()):
                entry = {"type": "file", "path": name, "size": len(content), "oid": _git_oid(content)}
                if is_lfs:
                    oid = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 134}
                entries.append(entry)
            return self.reply(entries)

        def resolve(self, token: str, body: bytes, repo: str, revision: str, name: str) -> None:
            held = self.found(token, repo)
            if held is None:
                return None
            if name not in held.files:
                return self.refuse(404, "Entry not found", "EntryNotFound")
            content, is_lfs = held.files[name]
            etag = hashlib.sha256(content).hexdigest() if is_lfs else _git_oid(content)
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": held.commits[-1]}
            return self.reply(content, headers=headers)

        def no_xet(self, token: str, body: bytes, repo: str, kind: str) -> None:
            if self.found(token, repo) is not None and (kind == "read" or self.may_write(token, repo)):
                self.refuse(501, "no xet storage here")

    repo = r"(?P<repo>[\w.-]+/[\w.-]+)"
    ROUTES: list[tuple[str, str, Any]] = [
        ("GET", "/api/whoami-v2", Handler.whoami),
        ("POST", "/api/repos/create", Handler.create),
        ("POST", "/api/validate-yaml", Handler.validate),
        ("POST", rf"/api/models/{repo}/preupload/main", Handler.preupload),
        ("POST", rf"/{repo}\.git/info/lfs/objects/batch", Handler.batch),
        ("POST", rf"/api/models/{repo}/commit/main", Handler.commit),
        ("GET", rf"/api/models/{repo}(/revision/(?P<revision>\w+))?", Handler.info),
        ("GET", rf"/api/models/{repo}/tree/(?P<revision>\w+)", Handler.tree),
        ("GET", rf"/api/models/{repo}/xet-(?P<kind>read|write)-token/\w+", Handler.no_xet),
        ("GET", rf"/{repo}/resolve/(?P<revision>\w+)/(?P<name>.+)", Handler.resolve),
    ]
    return Handler
