"""Capabilities: what a key may do; everything else is denied."""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase

from zmqruntime._errors import KeyFileError
from zmqruntime.control._peer import OPEN_GRANTS

__all__ = ["Role", "capabilities_of", "check_capabilities", "covers", "is_privileged"]

_MOST, _LONGEST = 256, 256


class Role(StrEnum):
    """A name for a set of capabilities; a key has one."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


_GRANTS = {
    Role.VIEWER: frozenset({"topic:subscribe:*"}),
    Role.OPERATOR: OPEN_GRANTS | {"service:inspect"},
    Role.ADMIN: frozenset({"*"}),
}


def capabilities_of(role: Role | str) -> frozenset[str]:
    """Return what a role may do, in the notation of `fnmatch`.

    Parameters
    ----------
    role
        ``viewer`` sees streams. ``operator`` also publishes, calls, changes state, gives
        commands, submits work and looks at lanes. ``admin`` may do everything: stop the service,
        read its declared folders, lend tokens.

    Raises
    ------
    ValueError
        If there is no such role.
    """
    return _GRANTS[Role(role)]


def check_capabilities(names: frozenset[str]) -> frozenset[str]:
    """Check capabilities that were read from a file or a message.

    Raises
    ------
    KeyFileError
        If there are too many, or one is empty, too long or not plain ASCII.
    """
    if len(names) > _MOST:
        raise KeyFileError(f"{len(names)} capabilities: at most {_MOST} are allowed")
    for name in names:
        if not 1 <= len(name) <= _LONGEST or not name.isascii() or not name.isprintable():
            raise KeyFileError(f"{name[:40]!r} is no capability: 1 to {_LONGEST} ASCII characters")
    return names


def covers(grants: frozenset[str], capability: str) -> bool:
    """Say whether a capability, which may be a pattern itself, is among those granted.

    Parameters
    ----------
    grants
        What is granted.
    capability
        A name, or a pattern ending with ``*``.

    Notes
    -----
    A pattern is covered by the very same text, or by a grant that is a plain beginning and a star:
    ``call:*`` covers ``call:camera.*``. A grant with other wildcards covers names only, for
    ``call:?`` matches the text ``call:*`` and grants much less.
    """
    if capability in grants:
        return True
    if not any(sign in capability for sign in "*?["):
        return any(fnmatchcase(capability, grant) for grant in grants)
    return any(
        grant.endswith("*")
        and not any(sign in grant[:-1] for sign in "*?[")
        and capability.startswith(grant[:-1])
        for grant in grants
    )


def is_privileged(capability: str) -> bool:
    """Say whether a capability is beyond using the service, so that it is never without record."""
    return not covers(_GRANTS[Role.OPERATOR], capability)
