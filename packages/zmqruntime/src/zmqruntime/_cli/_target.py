"""Which service is meant, and with which keys it is reached."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from zmqruntime._client import ZMQClient
from zmqruntime._endpoints import Endpoint
from zmqruntime._errors import InvalidEndpointError
from zmqruntime.security import ClientKeys, KeyFolder

__all__ = ["add_key_options", "add_target", "folder_of", "make_client"]

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_target(parser: ArgumentParser) -> None:
    """Add ``HOST:PORT``, ``--timeout`` and the options for keys."""
    parser.add_argument(
        "target", metavar="HOST:PORT", type=_endpoint, help="control port of the service"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="longest wait for an answer (default: %(default)g s)",
    )
    add_key_options(parser)
    parser.add_argument("--key", metavar="NAME", help="which of your pairs to use")
    parser.add_argument("--server-key", metavar="KEY", help="public key that the service must have")


def add_key_options(parser: ArgumentParser) -> None:
    """Add ``--folder``."""
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="folder of keys (default: ~/.config/zmqruntime/keys)",
    )


def folder_of(arguments: Namespace) -> KeyFolder:
    """Return the folder that was named, or the user's."""
    return KeyFolder.default() if arguments.folder is None else KeyFolder(arguments.folder)


def make_client(arguments: Namespace) -> ZMQClient:
    """Make a client for the service that was named.

    Keys are used when they were named, or when the service's key is known; a service without
    keys, or of this user on this computer, is reached without.

    Raises
    ------
    KeyFileError, ExposedKeyError
        If the keys cannot be read.
    """
    endpoint, folder = arguments.target, folder_of(arguments)
    known = folder.server_key(endpoint.host, endpoint.port)
    keys = None
    if arguments.server_key is not None:
        keys = ClientKeys(folder.pair(arguments.key), arguments.server_key)
    elif known is not None or arguments.key is not None:
        keys = folder.client_keys(endpoint.host, endpoint.port, name=arguments.key)
    return ZMQClient(endpoint, app="zmqruntime", role="command", keys=keys)


def _endpoint(text: str) -> Endpoint:
    try:
        return Endpoint.parse(text)
    except InvalidEndpointError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
