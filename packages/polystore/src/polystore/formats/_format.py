"""What turns a payload into the bytes of a file, and such bytes into a payload."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from polystore._kinds import Kind
    from polystore._payload import Payload

__all__ = ["Format"]


@runtime_checkable
class Format(Protocol):
    """Writes payloads as files that others read too, and reads such files.

    Called by a store, from the thread of whoever stores or loads; several threads may use one
    format at the same time. `polystore.testing.FormatTests` is what it has to pass.
    """

    @property
    def name(self) -> str:
        """What people call it, as ``"OME-TIFF"``."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Ends of the names of its files, in small letters, with the dot; the first is preferred.

        The longest that fits a name counts, so that ``.ome.tif`` is not ``.tif``.
        """
        ...

    @property
    def package(self) -> str:
        """What to install to have it, as ``"polystore[tiff]"``."""
        ...

    @property
    def kinds(self) -> frozenset[Kind]:
        """Kinds of payloads of which it can hold at least some."""
        ...

    def refusal(self, payload: Payload) -> str | None:
        """Say why a payload cannot be held, or None where it can.

        Whatever the payload says has to come back; a format that would drop any of it refuses.
        Called before anything is written, and to find out which formats could hold a payload.
        """
        ...

    def write(self, payload: Payload, stream: IO[bytes]) -> None:
        """Write a payload as one whole file.

        Parameters
        ----------
        payload
            One for which `refusal` is None.
        stream
            Empty, at its start; it can be written and sought.

        Raises
        ------
        FormatError
            If it turns out that the payload cannot be held.
        MissingExtraError
            If the library that does the work is not installed.
        """
        ...

    def read(self, stream: IO[bytes], where: str) -> Payload:
        """Read a file, of this library or of another.

        What the file says about its own size is compared with its length, or with what such files
        may hold, before memory is taken for it.

        Parameters
        ----------
        stream
            At the start of the file; it can be read and sought.
        where
            Name of the file, for messages.

        Raises
        ------
        UnreadableError
            If it is no such file, is cut off or damaged, or holds no payload.
        MissingExtraError
            If the library that does the work is not installed.
        """
        ...
