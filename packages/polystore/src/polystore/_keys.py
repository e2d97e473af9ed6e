"""Names that payloads are kept under, and the folders that such names make.

A key is a path of names with ``/`` between them, as ``plate/B03/stitched.tif``. What is a key is a
key everywhere, in memory, on any disk and in an object store, so its parts are names of files on
every system. Keys that differ in case, or in how an accent is written, are different keys; a store
on a disk that cannot tell them apart refuses the second one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polystore._errors import KeyNameError

if TYPE_CHECKING:
    from polystore._payload import Payload

__all__ = ["KEY_MOST_BYTES", "PART_MOST_BYTES", "Folder", "check_folder", "check_key", "key_of"]

KEY_MOST_BYTES = 1024
"""Longest key in UTF-8, as in S3."""
PART_MOST_BYTES = 200
"""Longest part of a key in UTF-8: a file may have 255, and is called longer while it is written."""

# what is no name of a file on one system or another
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')
_PLAIN = re.compile(r"[A-Za-z0-9_=+,@-][A-Za-z0-9_=+,@.-]*(?<!\.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What lies directly in a folder of keys.

    Attributes
    ----------
    name
        Of the folder; empty for the outermost.
    folders
        Whole names of the folders in it, sorted.
    keys
        Whole keys of what is kept in it, sorted.
    """

    name: str
    folders: tuple[str, ...]
    keys: tuple[str, ...]


def check_key(key: str) -> str:
    r"""Refuse what cannot be a key, and return what can.

    A key is at most `KEY_MOST_BYTES` of UTF-8. Its parts are 1 to `PART_MOST_BYTES` long, begin
    neither with a dot (names that stores use for themselves) nor with a space, end with neither,
    and have no control character and none of ``\ : * ? " < > |``.

    Raises
    ------
    KeyNameError
        If it is none; the message names it and what is wrong.
    """
    if type(key) is not str:
        raise KeyNameError(f"a key is text, and {key!r} is not")
    if key == "":
        raise KeyNameError("'' is no key: it is empty")
    for part in key.split("/"):
        # most parts are of letters and digits, and there are many
        if (len(part) > PART_MOST_BYTES or not _PLAIN.fullmatch(part)) and (
            reason := _reason(part)
        ):
            raise KeyNameError(f"{key!r} is no key: {reason}")
    if len(key) * 4 > KEY_MOST_BYTES and (length := len(key.encode())) > KEY_MOST_BYTES:
        raise KeyNameError(
            f"{key[:60]!r}… is no key: it is {length} bytes, {KEY_MOST_BYTES} are allowed"
        )
    return key


def check_folder(name: str) -> str:
    """Refuse what cannot be a folder of keys, and return what can.

    Raises
    ------
    KeyNameError
        If it is neither empty nor could be a key.
    """
    return name if name == "" else check_key(name)


def key_of(payload: Payload, suffix: str = "") -> str:
    """Make the key that tells a payload from all others of a run.

    Parameters
    ----------
    payload
        Its components, kind and name make the key: ``well=B03/channel=1/image/stitched``. What a
        key may not have is written as ``%`` and the number of the byte.
    suffix
        What the key is to end with, as ``".npy"``.

    Raises
    ------
    KeyNameError
        If a name is so long that the key is too long.
    """
    parts = [f"{name}={value}" for name, value in payload.components.to_dict().items()]
    parts.append(str(payload.kind))
    if payload.name:
        parts.append(payload.name)
    return check_key("/".join(_escaped(part) for part in parts) + suffix)


def _reason(part: str) -> str | None:
    """Say why a part of a key cannot be one."""
    if part == "":
        return "it has an empty part"
    if part in {".", ".."}:
        return f"{part!r} leads elsewhere"
    if found := _FORBIDDEN.search(part):
        return f"{found[0]!r} is not allowed in names of files on every system"
    if part[0] == "." or part[0].isspace():
        return f"its part {part!r} begins with a dot or a space"
    if part[-1] == "." or part[-1].isspace():
        return f"its part {part!r} ends with a dot or a space"
    try:
        length = len(part.encode())
    except UnicodeEncodeError:
        return f"its part {part!r} is not Unicode"
    if length > PART_MOST_BYTES:
        return f"its part {part[:40]!r}… is {length} bytes, {PART_MOST_BYTES} are allowed"
    return None


def _escaped(part: str) -> str:
    if _PLAIN.fullmatch(part):
        return part
    last = len(part) - 1
    return "".join(
        "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
        if char in "%/"
        or _FORBIDDEN.match(char)
        or "\ud800" <= char <= "\udfff"
        or (at in {0, last} and (char == "." or char.isspace()))
        else char
        for at, char in enumerate(part)
    )
