"""The local key: who runs on this computer as the same user, to a server with keys."""

from __future__ import annotations

from zmqruntime._errors import KeyFileError
from zmqruntime.processes._runtime_dir import runtime_dir
from zmqruntime.security._curve import ClientKeys, KeyPair
from zmqruntime.security._private import read_private, write_file

__all__ = ["LOCAL_NAME", "local_client_keys", "local_pair"]

LOCAL_NAME = "local"


def local_pair(*, make: bool) -> KeyPair | None:
    """Read the pair with which programs of this user reach his own servers on this computer.

    Parameters
    ----------
    make
        Make it where there is none.

    Returns
    -------
    KeyPair or None
        None when there is none.

    Raises
    ------
    KeyFileError, ExposedKeyError
        If the file is damaged, or others can read it.

    Notes
    -----
    It lies beside the lock files, in a folder that nobody else can enter. A server lets it in
    from loopback only, and lets it do everything, as the user can who runs the server.
    """
    path = runtime_dir() / "local.key"
    for _ in range(2):
        try:
            return KeyPair.from_secret(LOCAL_NAME, read_private(path).decode("ascii").strip())
        except FileNotFoundError:
            if not make:
                return None
        except UnicodeDecodeError as error:
            raise KeyFileError(f"{path} is damaged: remove it") from error
        try:
            write_file(path, KeyPair.make(LOCAL_NAME).secret.encode("ascii") + b"\n")
        except FileExistsError:
            continue  # another server made it at the same moment
    raise KeyFileError(f"{path} comes and goes")


def local_client_keys(server_key: str) -> ClientKeys | None:
    """Compose what is needed to reach a server of this user on this computer.

    Parameters
    ----------
    server_key
        The server's public key, from its lock file.

    Returns
    -------
    ClientKeys or None
        None when no pair was made for this user's programs.
    """
    pair = local_pair(make=False)
    return None if pair is None else ClientKeys(pair, server_key)
