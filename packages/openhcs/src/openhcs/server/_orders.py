"""Orders: what is submitted is held against what the server allows, before it is accepted."""

from __future__ import annotations

import dataclasses
import difflib
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from openhcs._errors import ParameterError, PipelineError
from openhcs._typed import from_plain
from openhcs.pipeline import RunRequest, Settings, from_source
from openhcs.server._messages import Order, Submission
from openhcs.server._settings import known_keys
from zmqruntime import ForbiddenError, InvalidRequestError, NotFoundError, RequestError
from zmqruntime.security import Roots

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openhcs.server._messages import ViewerAddress
    from openhcs.server._settings import ServerSettings
    from zmqruntime import Peer

__all__ = ["OrderDesk", "owner_of", "plate_of", "request_of"]

_OWN: Final = "local"
"""Folder of the results of this user's own programs, which need no key."""
_LONGEST_NAME: Final = 200
_NEAR: Final = 2000
"""Entries of a folder among which one like a mistyped name is looked for."""
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class OrderDesk:
    """Makes orders of submissions, or refuses them.

    Parameters
    ----------
    settings
        What is allowed.

    Raises
    ------
    ValueError
        If a root cannot be used.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._roots = Roots(settings.roots)

    def roots(self, peer: Peer) -> tuple[str, ...]:
        """Name the roots that a peer may read."""
        return self._roots.visible_to(peer)

    def prepare(self, kind: str, payload: Any, peer: Peer) -> dict[str, Any]:  # noqa: ARG002  # there is one kind
        """Make the order that is kept; as `zmqruntime.execution.ExecutionServer` asks for it.

        Raises
        ------
        InvalidRequestError
            If it is no submission, its text says anything but a pipeline, or it names a file that
            lies outside of the roots.
        ForbiddenError
            If the peer may not read a root, or a viewer is not known here.
        NotFoundError
            If there is no such plate or file.
        """
        try:
            submission = from_plain(payload, Submission)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(f"this is no submission of a run: {error}") from error
        for table in (submission.platemap, submission.files):
            if table is not None and len(table.name.encode()) > _LONGEST_NAME:
                raise InvalidRequestError(
                    f"the name of a table has more than {_LONGEST_NAME} bytes: {table.name}"
                )
        try:
            request = request_of(submission)
        except PipelineError as error:
            raise InvalidRequestError(str(error)) from error
        if request.platemap is not None or request.files is not None:
            raise InvalidRequestError(
                "a table of conditions or of files travels with a submission: leave its name out "
                "of the request"
            )
        places: dict[str, str] = {}

        def place(name: str) -> str:
            places[name] = str(self._resolve(name, peer))
            return places[name]

        request.with_files(place)
        if submission.viewer is not None:
            self._check_viewer(submission.viewer, peer)
        out = self._settings.results / owner_of(peer) / submission.results
        order = Order(submission=submission, places=places, out=str(out))
        built: dict[str, Any] = msgspec.to_builtins(order, builtin_types=(bytes,))
        return built

    def _resolve(self, name: str, peer: Peer) -> Path:
        """Find a file or folder by the name of its root and its path below that."""
        root, _, path = name.partition("/")
        visible = self.roots(peer)
        if root not in visible:
            known = f"it may read {', '.join(visible)}" if visible else "it may read none"
            close = difflib.get_close_matches(root, visible, n=1)
            advice = f" (did you mean {close[0]}/{path}?)" if close else ""
            who = f"the key {peer.name}" if peer.name else "this program"
            raise ForbiddenError(
                f"{name!r} lies in no root of this server that {who} may read: {known}{advice}. "
                "Write a root's name, a slash, and the path below it"
            )
        try:
            return self._roots.resolve(peer, root, path)
        except NotFoundError:
            near = _close_entry(self._settings.roots[root], path)
            advice = f"; did you mean {root}/{near}?" if near else ""
            raise NotFoundError(f"there is no {path!r} in the root {root!r}{advice}") from None
        except RequestError:  # some of which are errors of the system too
            raise
        except OSError as error:
            raise InvalidRequestError(
                f"{_short(path)} cannot be looked for in the root {root!r}: {error.strerror}"
            ) from error

    def _check_viewer(self, viewer: ViewerAddress, peer: Peer) -> None:
        """Refuse a viewer that may be anybody's: images of a plate are not for all."""
        if viewer.host in _HERE and peer.owner:
            return
        needed = f"viewer:{viewer.host}"
        if not peer.may(needed):
            raise ForbiddenError(
                f"{peer} may not send images to {viewer.host}, where somebody else may sit: it "
                f"needs {needed}",
                details={"capability": needed},
            )
        if known_keys(self._settings.keys, viewer.host, viewer.port) is None:
            raise ForbiddenError(
                f"the viewer at {viewer.host}:{viewer.port} is not known to the server, which "
                f"sends images to known ones alone: on the server, zmqruntime keys trust "
                f"{viewer.host} VIEWER.pub"
            )


def request_of(submission: Submission) -> RunRequest:
    """Read the request that a submission makes; names of files are as they were submitted.

    Raises
    ------
    PipelineError
        If its text or its options cannot be used.
    """
    text, filename = submission.text, submission.filename
    if submission.options is None:
        return RunRequest.from_source(text or "", filename)
    options = dict(submission.options)
    settings = options.pop("settings", None) or {}
    pipeline = None if text is None else from_source(text, filename)
    if "pipeline" in options:
        message = "a submission has its pipeline as text, and not among its options"
        raise ParameterError(message)
    try:
        _check_names("option", options, RunRequest)
        _check_names("setting", settings, Settings)
        return RunRequest(pipeline=pipeline, settings=Settings(**settings), **options)
    except ParameterError:
        raise
    except TypeError as error:
        message = f"the options of a submission do not make a request: {error}"
        raise ParameterError(message) from error


def _check_names(what: str, given: Mapping[str, object], of: type[RunRequest | Settings]) -> None:
    known = [field.name for field in dataclasses.fields(of)]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            advice = f"; did you mean {close[0]!r}?" if close else ""
            message = f"there is no {what} {name!r} of a run{advice}"
            raise ParameterError(message)


def plate_of(order: Order) -> str:
    """Give the plate of an order, as its submitter named it."""
    return next(iter(order.places), "")  # a request names its plate before all else


def owner_of(peer: Peer) -> str:
    """Name the folder that holds the results of a peer: as the server's user calls its key.

    Programs of that user on that computer are known by the server's token, with keys or without.

    Raises
    ------
    ForbiddenError
        If its key is called as the folder of programs without one.
    """
    if peer.owner:  # on a server with keys, its user's programs come with a key of that name
        return _OWN
    if peer.name == _OWN:
        raise ForbiddenError(
            f"results of a key that is called {_OWN!r} would lie among those of the server's own "
            "user: it has to be authorised there under another name"
        )
    return peer.name or _OWN


def _short(path: str) -> str:
    return repr(path if len(path) <= _LONGEST_NAME else f"{path[:_LONGEST_NAME]}...")


def _close_entry(root: Path, path: str) -> str:
    """Give the path that a mistyped one most likely means; empty where none is like it."""
    parent, _, name = path.rpartition("/")
    try:
        folder = (root / parent).resolve()
        if not (folder.is_relative_to(root.resolve()) and folder.is_dir()):
            return ""
        names = sorted(entry.name for entry in islice(folder.iterdir(), _NEAR))
    except OSError:  # such as a folder that the server may not list: there is no advice then
        return ""
    close = difflib.get_close_matches(name, names, n=1)
    return f"{parent}/{close[0]}" if parent and close else "".join(close)
