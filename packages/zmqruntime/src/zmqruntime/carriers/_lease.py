"""A claim on the bytes of one payload, which ends exactly once."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from zmqruntime._errors import LeaseInUseError, LeaseReleasedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self


class Lease:
    """Read-only access to the buffers of a payload, for as long as the holder needs it.

    Parameters
    ----------
    views
        The buffers, read-only bytes.
    check
        Raises `StaleSlotError` if the memory was written to since; None where nobody can.
    verify
        Compares the buffers with a checksum, if there is one, and says whether; None where there
        can be none.
    on_release
        Called once, in the thread that releases.
    on_copy
        Called with the number of bytes of each copy.

    Notes
    -----
    `map` costs nothing and binds the sender's memory until `release`; `copy` costs one copy and
    binds nothing. A lease that is forgotten is released when Python collects it, with a
    `ResourceWarning`.
    """

    __slots__ = ("_check", "_on_copy", "_on_release", "_released", "_verify", "_views")

    def __init__(
        self,
        views: tuple[memoryview, ...],
        *,
        check: Callable[[], None] | None = None,
        verify: Callable[[tuple[memoryview, ...]], bool] | None = None,
        on_release: Callable[[], None],
        on_copy: Callable[[int], None],
    ) -> None:
        self._views = views
        self._check = check
        self._verify = verify
        self._on_release = on_release
        self._on_copy = on_copy
        self._released = False

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers together; 0 once released."""
        return 0 if self._released else sum(view.nbytes for view in self._views)

    @property
    def released(self) -> bool:
        """Whether the claim has ended."""
        return self._released

    def map(self) -> tuple[memoryview, ...]:
        """View the buffers where they lie.

        Returns
        -------
        tuple[memoryview, ...]
            Read-only bytes, valid until `release`. Arrays made from them must be gone by then.

        Raises
        ------
        LeaseReleasedError
            If the claim has ended.
        StaleSlotError
            If the sender has overwritten them, because the lease ran out.
        """
        self._require()
        if self._check is not None:
            self._check()
        return self._views

    def verify(self) -> bool:
        """Compare the buffers with the checksum that the sender left, if it leaves some.

        Returns
        -------
        bool
            Whether there is one; only payloads in shared memory have them.

        Raises
        ------
        LeaseReleasedError
            If the claim has ended.
        StaleSlotError
            If the bytes are not those that the sender wrote.
        """
        self._require()
        return self._verify is not None and self._verify(self._views)

    def copy(self) -> tuple[bytes, ...]:
        """Take the buffers along and end the claim.

        Returns
        -------
        tuple[bytes, ...]
            The caller's own bytes, one object per buffer.

        Raises
        ------
        LeaseReleasedError
            If the claim has ended.
        LeaseInUseError
            If an array still refers to the mapped views.
        StaleSlotError
            If the sender had overwritten them by the end; the claim has ended then, too.
        """
        self._require()
        taken = tuple(bytes(view) for view in self._views)
        self._on_copy(sum(map(len, taken)))
        self._end()  # raises if what was copied is not what was sent
        return taken

    def release(self) -> None:
        """End the claim: the sender may use the memory for something else.

        Raises
        ------
        LeaseReleasedError
            If it has ended before.
        LeaseInUseError
            If an array made from a mapped view is still alive; the claim goes on.
        StaleSlotError
            If the lease ran out and the memory was overwritten meanwhile: what was read from it may
            be torn. The claim has ended.
        """
        self._require()
        self._end()

    def _require(self) -> None:
        if self._released:
            msg = "the lease was released before; take what is needed while it lasts"
            raise LeaseReleasedError(msg)

    def _end(self) -> None:
        try:
            for view in self._views:
                view.release()
        except BufferError as error:
            msg = (
                "an array still refers to the leased memory; "
                "drop it before the release, or use copy()"
            )
            raise LeaseInUseError(msg) from error
        self._released = True
        self._views = ()
        try:
            if self._check is not None:  # while the slot is ours: a moment later it may be reused
                self._check()
        finally:
            self._on_release()

    def __enter__(self) -> Self:
        self._require()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._released:
            self.release()

    def __del__(self) -> None:
        if not getattr(self, "_released", True):
            warnings.warn("a lease was dropped without release()", ResourceWarning, stacklevel=2)
            self._end()
