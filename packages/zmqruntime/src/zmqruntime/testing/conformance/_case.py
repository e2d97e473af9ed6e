"""Case: one thing that an implementation is to do, and what it takes to try it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.testing.conformance._subject import Subject

__all__ = ["Case", "Needs"]


class Needs(StrEnum):
    """What a case takes of its subject."""

    READ = "read"
    TOKEN = "token"
    PROPERTY = "property"
    BAD_VALUE = "bad value"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that an implementation is to do.

    Attributes
    ----------
    name
        For reports, for example ``1/welcome-echoes-the-hello``.
    protocol
        1 or 2.
    summary
        What is to be so.
    needs
        What it takes of its subject.
    function
        Tries it.
    """

    name: str
    protocol: int
    summary: str
    needs: Needs
    function: Callable[[Subject], None]

    @classmethod
    def of(cls, protocol: int, function: Callable[[Subject], None], needs: Needs) -> Self:
        """Make a case of a function whose name and docstring say what is to be so."""
        name = f"{protocol}/{function.__name__.replace('_', '-')}"
        summary = (function.__doc__ or "").strip()
        return cls(name=name, protocol=protocol, summary=summary, needs=needs, function=function)

    def applies(self, subject: Subject) -> bool:
        """Say whether the subject has what it takes."""
        profile = subject.profile
        match self.needs:
            case Needs.READ:
                return True
            case Needs.TOKEN:
                return subject.token is not None
            case Needs.PROPERTY:
                return profile.property is not None
            case Needs.BAD_VALUE:
                return profile.property is not None and profile.bad_value is not None
            case Needs.COMMAND:
                return profile.command is not None

    def run(self, subject: Subject) -> None:
        """Try it.

        Raises
        ------
        ConformanceError
            If it is not so.
        """
        self.function(subject)
