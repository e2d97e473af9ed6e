"""Stores of Zarr in an object store: documents are objects, and so are chunks or shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polystore._errors import MissingExtraError, NotStoredError, UnreadableError
from polystore.omezarr._paths import is_relative
from polystore.remote._objects import RemoteObjects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polystore.omezarr._places import Pixels
    from polystore.remote._access import RemoteAccess

__all__ = ["RemoteFolder"]


class RemotePlace:
    """What is below a prefix of an object store; a `Place`.

    Parameters
    ----------
    objects
        The store.
    prefix
        Without ``/`` at its ends; empty for all of it.
    """

    def __init__(self, objects: RemoteObjects, prefix: str) -> None:
        self.objects = objects
        self.prefix = prefix

    def __str__(self) -> str:
        objects = self.objects
        here = "/".join(part for part in (objects.url.rstrip("/"), self.prefix) if part)
        endpoint = objects.access.endpoint
        return here if endpoint is None else f"{here} at {endpoint}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return (self.prefix or self.objects.url.rstrip("/")).rpartition("/")[2]

    @property
    def real(self) -> str:
        """The same as its text: there are no links."""
        return str(self)

    def below(self, path: str) -> RemotePlace:
        """Give the place of a path; ``..`` leads nowhere."""
        if not is_relative(path):
            raise UnreadableError(f"{self}: the path {path!r} in its metadata may not be followed")
        return RemotePlace(self.objects, self._at(path))

    def content(self, file: str, most_bytes: int) -> bytes | None:
        """Read an object; one request."""
        try:
            return self.objects.get(self._at(file), most_bytes).content
        except NotStoredError:
            return None

    def has(self, file: str) -> bool:
        """Say whether there is an object; one request."""
        return self.objects.is_there(self._at(file))

    def folders(self) -> tuple[str, ...]:
        """List what is below in one step; one request for each thousand."""
        found = self.objects.listing(self.prefix).folders
        return tuple(sorted(each.rstrip("/").rpartition("/")[2] for each in found))

    def pixels(self, document: Mapping[str, Any]) -> Pixels:
        """Open the array; no request."""
        try:
            from polystore.omezarr._remote_pixels import open_pixels
        except ImportError as error:
            raise MissingExtraError("OME-Zarr needs zarr: install polystore[zarr]") from error
        return open_pixels(self.objects, self.prefix, document)

    def _at(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path


class RemoteFolder(RemotePlace):
    """A plate, an image or a folder of them in an object store, for whatever reads OME-Zarr here.

    Nothing is asked of the store before something is read. Several threads may use it at once; a
    process that was forked cannot, and says so: open it in each process.

    Parameters
    ----------
    url
        ``s3://bucket/path/plate.zarr``, ``gs://…``, ``az://…``, and for tests ``memory:///``.
    access
        Credentials, endpoint, and how long anything may take.

    Raises
    ------
    StorageError
        If the URL holds credentials, or is none that is known; a folder of this computer is given
        to readers as its path.
    MissingExtraError
        If obstore is not installed.

    Examples
    --------
    ::

        plate = PlateReader(RemoteFolder("s3://screens/7.zarr", RemoteAccess(anonymous=True)))
        plane = plate.open_image("B03", "stitched").read(2, c=1)

    Notes
    -----
    A document is one request. Of an array, the chunks of the part that is asked for are requested
    and nothing else; of a shard that is its index, which is kept, and a range of bytes for each
    chunk, or all of it at once where all of it is asked for. Requests for chunks are made on the
    condition that the object is the one the index is of, so that one that is replaced meanwhile
    is never mixed with the one before.
    """

    def __init__(self, url: str, access: RemoteAccess | None = None) -> None:
        super().__init__(RemoteObjects(url, access), "")
