"""Introduction: the hello of a client."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import UNSET

from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._shapes import Auth, Client
from zmqruntime.session._writer import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zmqruntime.session._shapes import Envelope

__all__ = ["Introduction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a client says of itself on each connection.

    Attributes
    ----------
    client
        What program it is.
    protocols
        What it speaks.
    topics
        Notifications that it wants, in protocol 2.
    """

    client: Client
    protocols: tuple[int, ...]
    topics: tuple[str, ...]

    @property
    def forgetful(self) -> bool:
        """Whether it speaks nothing in which a session can be resumed."""
        return self.protocols == (1,)

    def hello(self, *, token: str | None, tokens: Mapping[str, str | None]) -> tuple[str, Envelope]:
        """Write a hello, in the form of protocol 2 unless the client speaks only 1.

        Parameters
        ----------
        token
            Proof of who the client is, or None.
        tokens
            What it has of each topic.

        Returns
        -------
        tuple
            Name that the answer echoes, and the envelope.
        """
        name = new_id()
        if self.forgetful:
            return name, protocol1.Hello(
                id=name,
                timestamp=time.time(),
                payload=protocol1.HelloPayload(
                    protocol=1,
                    client=self.client,
                    auth=Auth(token=token) if token is not None else UNSET,
                    extras=protocol1.Extras(
                        features=protocol1.Features(
                            notify_state=True, notify_scene=True, notify_stream=True
                        )
                    ),
                ),
            )
        features = dict.fromkeys(self.topics, True)
        if 1 in self.protocols:
            features.update(dict.fromkeys(protocol1.CAPABILITIES[:3], True))
        return name, protocol2.Hello(
            version=2,
            frame_id=name,
            timestamp=time.time(),
            payload=protocol2.HelloPayload(
                protocols=list(self.protocols),
                client=self.client,
                features=features,
                resume_tokens=dict(tokens),
                auth=Auth(type="bearer", token=token) if token is not None else UNSET,
            ),
        )
