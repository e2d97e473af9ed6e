"""A client as somebody else could write it: the standard library and a WebSocket."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable


class PlainClient:
    """Keeps a copy of the scene and of every property; knows no commands."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.scene: dict[str, Any] | None = None
        self.properties: dict[tuple[str, str, str], Any] = {}
        self.changed = threading.Condition()
        self.open = contextlib.ExitStack()
        self.socket = self.open.enter_context(connect(url))
        payload: dict[str, Any] = {
            "protocol": 1,
            "client": {"name": "plain", "version": "1"},
            "extras": {
                "features": {"notify_state": True, "notify_scene": True, "notify_stream": True}
            },
        }
        if token is not None:
            payload["auth"] = {"token": token}
        self.say({"type": "session.hello", "id": "h1", "payload": payload})
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def say(self, envelope: dict[str, Any]) -> None:
        self.socket.send(json.dumps({**envelope, "timestamp": time.time()}))

    def run(self) -> None:
        try:
            answer = json.loads(self.socket.recv())
            if answer["type"] == "session.welcome" and answer.get("id") == "h1":
                for text in self.socket:
                    self.take(json.loads(text))
        except ConnectionClosed:
            pass
        self.socket.close()

    def take(self, envelope: dict[str, Any]) -> None:
        payload = envelope["payload"]
        with self.changed:
            if envelope["type"] == "notify.scene":
                self.scene = payload["scene"]
            elif envelope["type"] == "notify.state":
                name = (payload["scope"], payload["target"], payload["key"])
                self.properties[name] = payload["value"]
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], object], timeout: float) -> bool:
        with self.changed:
            return bool(self.changed.wait_for(condition, timeout))

    def close(self) -> None:
        self.open.close()
        self.thread.join()


def start(url: str) -> PlainClient:
    return PlainClient(url)
