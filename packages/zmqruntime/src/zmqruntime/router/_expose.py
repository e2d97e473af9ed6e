"""Exposure: the explicit list of what may be called or read, and nothing beside it.

What a peer asks for is looked up in a table of pairs of text. No attribute is ever looked up by a
name that came from a socket: methods are bound when they are listed, and plain attributes are read
by the name that the program listed.
"""

from __future__ import annotations

import inspect
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zmqruntime._errors import InvalidRequestError, NotFoundError
from zmqruntime.router._errors import ExposeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from zmqruntime.router._codecs import Serializer

__all__ = ["Exposed", "Exposure", "return_type"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """One attribute that may be called or read.

    Attributes
    ----------
    obj, attr
        Its names.
    function
        What to call.
    readable
        Whether it is a plain attribute: read by a call without arguments.
    serializer
        Turns what it returns into bytes, for callers that read them with a function of their own.
    turns
        Held while it runs, where the calls of an object have to take turns.
    """

    obj: str
    attr: str
    function: Callable[..., Any]
    readable: bool = False
    serializer: Serializer | None = None
    turns: threading.Lock | None = field(default=None, compare=False)

    @property
    def capability(self) -> str:
        """What a peer needs to call it."""
        return f"call:{self.obj}.{self.attr}"

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Check that a plain attribute is only read.

        Raises
        ------
        InvalidRequestError
            If there are arguments for it.
        """
        if self.readable and (args or kwargs):
            raise InvalidRequestError(
                f"{self.obj}.{self.attr} is a value, not a function: read it without arguments"
            )


class Exposure:
    """The list of a server; any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], Exposed] = {}

    def add(
        self,
        name: str,
        obj: object,
        attributes: Iterable[str],
        *,
        serializer: Serializer | None = None,
        take_turns: bool = False,
    ) -> None:
        """List attributes of an object; all of them, or none if one cannot be listed.

        Parameters
        ----------
        name
            What peers call the object.
        obj
            The object; a module or class will do.
        attributes
            Names of its methods and plain attributes. Properties are not read now.
        serializer
            Turns what they return into bytes, for callers with a deserializer.
        take_turns
            Run one call of this object at a time.

        Raises
        ------
        ExposeError
            If a name is private, dotted or no identifier, is listed already, or the object has no
            such attribute, or it is a coroutine function.
        """
        _check_name(name, "object")
        if isinstance(attributes, str):
            raise ExposeError(f"attributes of {name!r} are a list of names: [{attributes!r}]")
        turns = threading.Lock() if take_turns else None
        entries = {
            (name, attr): _resolve(name, obj, attr, serializer=serializer, turns=turns)
            for attr in attributes
        }
        with self._lock:
            for obj_name, attr in entries:
                if (obj_name, attr) in self._entries:
                    raise ExposeError(f"{obj_name}.{attr} is exposed already")
            self._entries.update(entries)

    def remove(self, name: str) -> None:
        """Take an object off the list; one that is not on it is ignored."""
        with self._lock:
            for pair in [pair for pair in self._entries if pair[0] == name]:
                del self._entries[pair]

    def find(self, obj: str, attr: str) -> Exposed:
        """Look a pair of names up.

        Raises
        ------
        NotFoundError
            If it is not on the list; the message does not tell whether the object has it.
        """
        found = self._entries.get((obj, attr))
        if found is None:
            raise NotFoundError(f"nothing is exposed as {obj[:80]!r}.{attr[:80]!r} here")
        return found

    @property
    def entries(self) -> tuple[Exposed, ...]:
        """Everything on the list, in order of names."""
        with self._lock:
            return tuple(self._entries[pair] for pair in sorted(self._entries))


def return_type(function: Callable[..., Any]) -> str:
    """Say what a function says it returns, as its source has it; empty when it does not."""
    try:
        annotation = inspect.signature(function).return_annotation
    except (TypeError, ValueError):
        return ""  # a builtin
    if annotation is inspect.Signature.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _check_name(name: str, what: str) -> None:
    if not name.isidentifier() or name.startswith("_") or len(name) > 200:
        raise ExposeError(
            f"{name!r} cannot be the name of an {what}: expected an identifier that does not begin "
            "with an underscore"
        )


def _resolve(
    name: str,
    obj: object,
    attr: str,
    *,
    serializer: Serializer | None,
    turns: threading.Lock | None,
) -> Exposed:
    _check_name(attr, "attribute")
    try:
        static = inspect.getattr_static(obj, attr)
    except AttributeError:
        static = None
    function: Callable[..., Any] | None = None
    if not isinstance(static, property):
        try:
            found = getattr(obj, attr)
        except AttributeError as error:
            raise ExposeError(f"{name} ({type(obj).__qualname__}) has no {attr!r}") from error
        function = found if callable(found) else None
    if function is not None and inspect.iscoroutinefunction(function):
        raise ExposeError(f"{name}.{attr} is a coroutine function, and there is no loop to run it")
    return Exposed(
        obj=name,
        attr=attr,
        function=function if function is not None else lambda: getattr(obj, attr),
        readable=function is None,
        serializer=serializer,
        turns=turns,
    )
