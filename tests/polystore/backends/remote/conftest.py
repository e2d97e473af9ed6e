from __future__ import annotations

import http.client
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from polystore.backends import RemoteAccess, RemoteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_ID = "AKIAEXAMPLEKEYID"
SECRET = "never-to-be-seen-in-a-message"
PROGRAM = Path(__file__).with_name("server_program.py")
_numbers = count()


@dataclass(frozen=True)
class Server:
    """A server that speaks S3."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def access(self, **options: Any) -> RemoteAccess:
        given = {"endpoint": self.endpoint, "key_id": KEY_ID, "secret_key": SECRET, **options}
        return RemoteAccess(**given)

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            assert answer.status < 300, answer.status
            return answer.read()
        finally:
            connection.close()

    def bucket(self) -> str:
        name = f"plates-{next(_numbers)}"
        self.ask("PUT", f"/{name}")
        return name

    def store(self, bucket: str | None = None, **options: Any) -> RemoteStore:
        return RemoteStore(f"s3://{bucket or self.bucket()}/some/prefix", self.access(), **options)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    program = subprocess.Popen(
        [sys.executable, str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    yield Server(int(program.stdout.readline()))
    program.stdin.close()
    program.wait()
    program.stdout.close()
