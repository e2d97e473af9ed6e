"""Functions that other installed packages bring, found by what these say about themselves.

A package offers a module of declared functions in its own metadata::

    [project.entry-points."openhcs.functions"]
    my_lab = "my_lab.steps"

Its functions can then be named in the text of a pipeline, with an import line. A module is
imported when a text imports from it, and not before.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING

from openhcs._errors import ParameterError
from openhcs.functions._registry import FunctionSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ENTRY_POINTS", "declared_functions", "installed_functions", "installed_modules"]

ENTRY_POINTS = "openhcs.functions"
"""Group of entry points under which packages name their modules."""


def installed_modules() -> tuple[str, ...]:
    """Name the modules that installed packages offer, in alphabetical order."""
    found = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return tuple(sorted({point.value for point in found}))


def installed_functions(module: str) -> Mapping[str, FunctionSpec]:
    """Give the declared functions of a module that an installed package offers.

    Parameters
    ----------
    module
        Its name.

    Returns
    -------
    Mapping
        By name; empty when no package offers the module, which is then not imported.

    Raises
    ------
    ParameterError
        If the package offers a module that cannot be imported.
    """
    return declared_functions(module) if module in installed_modules() else {}


def declared_functions(module: str) -> Mapping[str, FunctionSpec]:
    """Give the functions of a module that declare their axes, by name.

    Parameters
    ----------
    module
        Its name; the module is imported, which runs it.

    Returns
    -------
    Mapping
        By name, in alphabetical order. Functions that it has imported itself count too.

    Raises
    ------
    ParameterError
        If it cannot be imported.
    """
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        message = f"the module {module!r} cannot be imported: {error}"
        raise ParameterError(message, 0) from error
    specs = (getattr(value, "__openhcs__", None) for value in vars(found).values())
    named = {spec.name: spec for spec in specs if isinstance(spec, FunctionSpec)}
    return dict(sorted(named.items()))
