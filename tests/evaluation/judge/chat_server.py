"""A server on this machine that answers as OpenAI's chat completions do, or fails as it is told to."""

from __future__ import annotations

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def completion(text: str, *, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """A whole answer: 1000 tokens read, 10 written."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": usage}


class ChatServer:
    """The server and what it saw.

    Attributes:
        plan: what happens next: (status, body, headers), or seconds of silence. With nothing planned, a completion.
            A list of bytes is sent one by one, 50 ms apart.
        bodies: of all requests.
        keys: Authorization headers of all requests.
    """

    def __init__(self) -> None:
        self.plan: deque[Any] = deque()
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def __enter__(self) -> ChatServer:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


def _handler(chat: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            chat.bodies.append(json.loads(body))
            chat.keys.append(self.headers.get("authorization"))
            chat.paths.append(self.path)
            step = chat.plan.popleft() if chat.plan else (200, completion('{"score": [8, 7], "reasoning": ""}'), {})
            if isinstance(step, float):
                chat.released.wait(step)
                self.close_connection = True
                return
            status, content, headers = step
            slowly = content if isinstance(content, list) and b" " in content else []
            raw = b"".join(slowly) or (content if isinstance(content, bytes) else json.dumps(content).encode())
            self.send_response(status)
            for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for part in slowly or [raw]:
                    self.wfile.write(part)
                    if slowly and chat.released.wait(0.05):
                        break
            except ConnectionError:  # the other side has had enough
                self.close_connection = True

    return Handler
