"""A web server of the tests that serves one file and misbehaves on request; it notes what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """`answers` are used up one per request, the last one for all that follow; each is called with the handler."""

    daemon_threads = True

    def __init__(self, *answers: Callable[[Handler], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked = list(answers), []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        super().__exit__(*error)


class Handler(BaseHTTPRequestHandler):
    """Lets the server's next answer deal with a request."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append({"path": self.path} | dict(self.headers))
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    do_POST = do_GET

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        """`headers`: names with `_` for `-`; Content-Length is added unless it is given or is empty."""
        self.send_response(status)
        named = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in named.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def serving(content: bytes, etag: str = '"v1"', **headers: str) -> Callable[[Handler], None]:
    """As a good server does it: ranges, and If-Range."""

    def answer(handler: Handler) -> None:
        span, version = handler.headers.get("Range"), handler.headers.get("If-Range", etag)
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span and version == etag else 0
        if start >= len(content):
            handler.reply(416, b"", Content_Range=f"bytes */{len(content)}")
        elif start:
            extent = f"bytes {start}-{len(content) - 1}/{len(content)}"
            handler.reply(206, content[start:], Content_Range=extent, ETag=etag, **headers)
        else:
            handler.reply(200, content, ETag=etag, **headers)

    return answer


def saying(status: int, body: bytes = b"", **headers: str) -> Callable[[Handler], None]:
    """Always the same."""
    return lambda handler: handler.reply(status, body, **headers)
