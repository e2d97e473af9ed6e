"""What the names of a text stand for, by the modules that it may import from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs.codegen._names import Constructor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from openhcs.codegen._names import Names, Reference

__all__ = ["Scope", "UnclearError"]


class UnclearError(Exception):
    """A name stands for several things; the message says which."""


class Scope:
    """The names that one text may use, which import lines choose among.

    Parameters
    ----------
    names
        By module, what may be used without an import line, where no other module has it.
    find
        Asked for a module that `names` does not have; gives what may be imported from it, or None.
    """

    def __init__(
        self,
        names: Names,
        find: Callable[[str], Mapping[str, Constructor | Reference] | None],
    ) -> None:
        self._modules = dict(names)
        self._find = find
        self._entries: dict[str, Constructor | Reference] = {}
        self._imported: dict[str, str] = {}
        self._unclear: dict[str, list[str]] = {}
        for module in names:
            self._offer(module)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that are known so far."""
        return tuple(self._modules)

    @property
    def constructors(self) -> tuple[str, ...]:
        """Names that may be called."""
        return tuple(n for n, entry in self._entries.items() if isinstance(entry, Constructor))

    def module(self, name: str) -> Mapping[str, Constructor | Reference] | None:
        """Give what may be imported from a module; None where nothing may."""
        if name not in self._modules:
            found = self._find(name)
            if found is None:
                return None
            self._modules[name] = found
            self._offer(name)
        return self._modules[name]

    def bind(self, module: str, name: str) -> None:
        """Have a name stand for what a module has under it.

        Raises
        ------
        UnclearError
            If it was imported from another module before.
        """
        entry = self._modules[module][name]
        before = self._imported.setdefault(name, module)
        if entry != self._modules[before][name]:
            message = f"{name!r} is imported from {before!r} already, and stands for one thing"
            raise UnclearError(message)
        self._unclear.pop(name, None)
        self._entries[name] = entry

    def get(self, name: str) -> Constructor | Reference | None:
        """Give what a name stands for; None where it stands for nothing.

        Raises
        ------
        UnclearError
            If several modules have it, and the text imports it from none of them.
        """
        if name in self._unclear:
            modules = " and in ".join(map(repr, self._unclear[name]))
            message = f"{name!r} is in {modules}: import it from one of them"
            raise UnclearError(message)
        return self._entries.get(name)

    def _offer(self, module: str) -> None:
        for name, entry in self._modules[module].items():
            known = self._entries.setdefault(name, entry)
            if known != entry and name not in self._imported:
                first = next(each for each, has in self._modules.items() if name in has)
                self._unclear.setdefault(name, [first]).append(module)
