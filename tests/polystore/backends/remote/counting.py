"""A way to a server that says what was asked for, and how many bytes came."""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Counting", "Request"]


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    method: str
    path: str
    part: str | None
    status: int
    nbytes: int


class Counting:
    """Hands requests on to a server on `port`, and keeps a list of them."""

    def __init__(self, port: int) -> None:
        self.requests: list[Request] = []
        self.before: Callable[[str, str], None] = lambda _method, _path: None
        counting = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def hand_on(self) -> None:
                counting.before(self.command, self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                there = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                try:
                    there.request(self.command, self.path, body, dict(self.headers))
                    answer = there.getresponse()
                    content = answer.read()
                    headers = answer.getheaders()
                finally:
                    there.close()
                part = self.headers.get("Range")
                counting.requests.append(
                    Request(self.command, self.path, part, answer.status, len(content))
                )
                self.send_response_only(answer.status)
                for name, value in headers:
                    if name.lower() not in {"connection", "transfer-encoding"}:
                        self.send_header(name, value)
                if not any(name.lower() == "content-length" for name, _ in headers):
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = hand_on  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def taken(self) -> list[Request]:
        """What was asked for since this was last called."""
        taken, self.requests = self.requests, []
        return taken

    def __enter__(self) -> Counting:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
