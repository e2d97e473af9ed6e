"""Filters of SciPy, for the double's arrays."""

from __future__ import annotations

from typing import Any

import scipy.ndimage
from cupy import (  # type: ignore[import-not-found]  # the double beside this
    CALLS,
    bare,
    dressed,
    lifted,
)


def label(input: Any, structure: Any = None, output: Any = None) -> Any:  # noqa: A002  # SciPy's name
    """Number objects; as CuPy's, it takes a structure from the host."""
    keywords = {} if output is None else {"output": bare(output)}
    CALLS.add(("cupyx.scipy.ndimage", "label", 1, ("output", "structure")))
    return dressed(scipy.ndimage.label(bare(input), structure, **keywords))


def __getattr__(name: str) -> Any:
    return lifted(f"cupyx.scipy.ndimage.{name}", getattr(scipy.ndimage, name))
