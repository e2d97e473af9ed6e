"""Checks of the arguments of a call, of which all that fail are told at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openhcs._errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ParameterChecks"]


class ParameterChecks:
    """Checks all arguments of a call, so that each that is wrong is told of at once."""

    def __init__(self) -> None:
        self._problems: list[ParameterError] = []

    def of(self, check: Callable[..., Any], *arguments: object) -> Any:
        """Give what a check gives; None where it fails."""
        try:
            return check(*arguments)
        except ParameterError as error:
            self.note(error)
            return None

    def note(self, error: ParameterError) -> None:
        """Take note of something that is wrong."""
        self._problems.extend((error, *error.others))

    def over(self) -> None:
        """End the checks.

        Raises
        ------
        ParameterError
            The first that failed; the others are its notes.
        """
        if not self._problems:
            return
        first, *others = self._problems
        for other in others:
            first.add_note(str(other))
        first.others = tuple(others)
        raise first
