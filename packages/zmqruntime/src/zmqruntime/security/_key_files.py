"""Key files: what stands in them, and how they are read without giving a secret away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from zmqruntime._errors import KeyFileError
from zmqruntime._typed import from_json
from zmqruntime.security._capabilities import Role
from zmqruntime.security._curve import check_key

__all__ = [
    "AuthorizedFile",
    "PublicFile",
    "SecretFile",
    "check_name",
    "decode_file",
    "encode_file",
    "read_public",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MOST_PUBLIC_BYTES = 4096

F = TypeVar("F", bound="_File")

_Key = Annotated[str, msgspec.Meta(min_length=40, max_length=40)]
_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class _File(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    name: _Word
    public: _Key


class SecretFile(_File, frozen=True, kw_only=True, tag="zmqruntime secret key"):
    """A pair."""

    secret: _Key


class PublicFile(_File, frozen=True, kw_only=True, tag="zmqruntime public key"):
    """The half of a pair that is given to others."""


class AuthorizedFile(_File, frozen=True, kw_only=True, tag="zmqruntime authorized key"):
    """A key that is let in, and what it may do."""

    role: Role | None = None
    capabilities: frozenset[str] = frozenset()
    since: str = ""


def read_public(key: str | Path) -> tuple[str, str]:
    """Read a public key.

    Parameters
    ----------
    key
        The key itself, or the path of a ``.pub`` file.

    Returns
    -------
    tuple[str, str]
        Key, and the name in its file, empty when it came as text.

    Raises
    ------
    KeyFileError
        If it is neither.
    """
    if isinstance(key, str) and len(key) == 40 and not Path(key).exists():
        return check_key(key), ""
    path = Path(key).expanduser()
    try:
        with path.open("rb") as stream:
            text = stream.read(_MOST_PUBLIC_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from error
    if len(text) > _MOST_PUBLIC_BYTES:
        raise KeyFileError(f"{path} is too long for a public key")
    file = decode_file(path, text, PublicFile)
    return check_key(file.public), file.name


def check_name(name: str) -> str:
    """Return a name that can name a file, or raise a `KeyFileError`."""
    if not _NAME.fullmatch(name):
        raise KeyFileError(
            f"{name!r} cannot name a key: use up to 64 letters, digits, '.', '_' and '-'"
        )
    return name


def encode_file(file: _File) -> bytes:
    """Write a key file for programs and people."""
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def decode_file(path: Path, text: bytes, shape: type[F]) -> F:
    """Read a key file, or raise a `KeyFileError` that does not show what is in it."""
    try:
        return from_json(text, shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # the message of a decoder may quote what it read: not into a log, it may be a secret
        raise KeyFileError(f"{path} is not the file of a {shape.__struct_config__.tag}") from error
