"""Key pairs: what a peer is, and what a socket needs to prove it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zmq
from zmq.utils import z85

from zmqruntime._errors import KeyFileError

if TYPE_CHECKING:
    from typing import Self

__all__ = ["ClientKeys", "KeyPair", "check_key", "secure_server_socket", "to_text"]

_TEXT_LENGTH, _RAW_LENGTH = 40, 32


def check_key(text: str) -> str:
    """Check that a text is a CURVE key, public or secret.

    Parameters
    ----------
    text
        40 characters of Z85.

    Returns
    -------
    str
        The same text.

    Raises
    ------
    KeyFileError
        If it is not one. The message does not repeat it, because it may be a secret.
    """
    try:
        raw = z85.decode(text) if len(text) == _TEXT_LENGTH else b""
    except (KeyError, ValueError):  # a character that Z85 has not
        raw = b""
    except Exception as error:  # struct.error of a group above 2**32
        raise KeyFileError("a key is 40 characters of Z85; this is something else") from error
    if len(raw) != _RAW_LENGTH:
        raise KeyFileError("a key is 40 characters of Z85; this is something else")
    return text


def to_text(raw: bytes) -> str:
    """Write the 32 bytes of a key as people and files have it, 40 characters of Z85."""
    return z85.encode(raw).decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """Who somebody is: a public key to be shown, and the secret one that proves it.

    Attributes
    ----------
    name
        What its owner calls it; nobody else relies on it.
    public, secret
        40 characters of Z85 each. The secret is left out when the pair is printed.
    """

    name: str
    public: str
    secret: str = field(repr=False)

    @classmethod
    def make(cls, name: str) -> Self:
        """Make a new pair from the randomness of the operating system."""
        public, secret = zmq.curve_keypair()
        return cls(name=name, public=public.decode("ascii"), secret=secret.decode("ascii"))

    @classmethod
    def from_secret(cls, name: str, secret: str) -> Self:
        """Compute the public key that belongs to a secret one.

        Raises
        ------
        KeyFileError
            If the text is not a key.
        """
        public = zmq.curve_public(check_key(secret).encode("ascii"))
        return cls(name=name, public=public.decode("ascii"), secret=secret)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs to reach one server: its own pair, and the server's public key.

    Parameters
    ----------
    pair
        Who we are.
    server_key
        Who the server must be. A program that listens there with another key gets nothing.
    """

    pair: KeyPair
    server_key: str

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Prepare a socket that will connect; before it does."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.server_key.encode("ascii"))
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.pair.public.encode("ascii"))
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.pair.secret.encode("ascii"))


def secure_server_socket(socket: zmq.Socket[bytes], pair: KeyPair | None) -> None:
    """Prepare a socket that will bind, of any type; before it does.

    Parameters
    ----------
    socket
        A SUB or an XPUB that binds is the server of the handshake as well as a ROUTER.
    pair
        Keys of the server; None leaves the socket as it is.
    """
    if pair is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.encode("ascii"))
