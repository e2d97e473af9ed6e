"""Text as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from polystore._errors import UnreadableError
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore.formats._guard import reading, refused
from polystore.formats._note import as_note

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TextFormat"]


@dataclass(frozen=True, slots=True)
class TextFormat:
    """Text as ``.txt``, in UTF-8, and nothing else.

    There is no place in such a file for anything but the text, so a payload that says more, as
    the well that it belongs to, is refused: JSON holds it.
    """

    @property
    def name(self) -> str:
        """``"text"``."""
        return "text"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """``".txt"``."""
        return (".txt",)

    @property
    def package(self) -> str:
        """Nothing else is needed."""
        return "polystore"

    @property
    def kinds(self) -> frozenset[Kind]:
        """Text."""
        return frozenset({Kind.TEXT})

    def refusal(self, payload: Payload) -> str | None:
        """Refuse what is no text, or says more than it."""
        if payload.kind is not Kind.TEXT:
            return f"it holds text, and this is of kind {payload.kind}"
        if more := as_note(payload).keys() - {"polystore", "kind"}:
            return f"it holds the text alone, and this payload says {_listed(more)} too"
        return None

    def write(self, payload: Payload, stream: IO[bytes]) -> None:
        """Write the text, character by character; ends of lines stay as they are.

        Raises
        ------
        FormatError
            If the text is not Unicode.
        """
        try:
            stream.write(payload.text.encode())
        except UnicodeEncodeError as error:
            raise refused(self.name, f"it is not Unicode: {error}") from error

    def read(self, stream: IO[bytes], where: str) -> Payload:
        """Read the text.

        Raises
        ------
        UnreadableError
            If it is not UTF-8.
        """
        with reading(where, self.name):
            try:
                return Payload(data=stream.read().decode(), kind=Kind.TEXT)
            except UnicodeDecodeError as error:
                raise UnreadableError(
                    f"{where} is no text in UTF-8: {error}; save it in that encoding"
                ) from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
