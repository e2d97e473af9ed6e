"""What a function gave, held against what it declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions import Kind
from openhcs.pipeline._lazy import frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions import FunctionSpec
    from openhcs.pipeline._groups import GroupKey

__all__ = ["image_by_key", "named_outputs"]


def named_outputs(spec: FunctionSpec, value: object) -> Mapping[str, Any]:
    """Give a function's outputs by name; the order in which it names them means nothing.

    Parameters
    ----------
    spec
        The function's declaration.
    value
        What it returned.

    Returns
    -------
    Mapping
        Images as they are; labels as read-only arrays (y, x); tables as columns of equal length;
        records as Python scalars.

    Raises
    ------
    TypeError
        If an output is missing, not declared, or not of its kind.
    """
    by_name = _by_name(spec, value)
    return {
        output.name: _checked(spec, output.name, output.kind, by_name[output.name])
        for output in spec.outputs
    }


def image_by_key(
    spec: FunctionSpec, value: object, keys: Iterable[GroupKey]
) -> Mapping[GroupKey, NDArray[Any]]:
    """Give the arrays of an image output by the keys that they belong to.

    Raises
    ------
    TypeError
        If the channels given are not the channels that went in, or an array is not a plane.
    """
    keys = tuple(keys)
    if isinstance(value, Mapping):
        wanted = {str(key.channel): key for key in keys}
        if set(value) != set(wanted):
            message = (
                f"{spec.name} gave images for channels {_listed(value)}, "
                f"but was to give {_listed(wanted)}"
            )
            raise TypeError(message)
        return {key: _plane(spec, value[channel]) for channel, key in wanted.items()}
    if len(keys) != 1:
        message = f"{spec.name} gave one image where one for each of {len(keys)} channels is due"
        raise TypeError(message)
    return {keys[0]: _plane(spec, value)}


def _by_name(spec: FunctionSpec, value: object) -> Mapping[str, Any]:
    names = [output.name for output in spec.outputs]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given: Mapping[str, Any] = {
            field.name: getattr(value, field.name) for field in dataclasses.fields(value)
        }
    elif len(names) == 1:
        return {names[0]: value}
    elif isinstance(value, Mapping):
        given = value
    else:
        message = (
            f"{spec.name} gave a {type(value).__name__}; with outputs {_listed(names)} it has to "
            "give a dataclass or a mapping with these names"
        )
        raise TypeError(message)
    if set(given) != set(names):
        message = f"{spec.name} gave {_listed(given)}, but declares {_listed(names)}"
        raise TypeError(message)
    return given


def _checked(spec: FunctionSpec, name: str, kind: Kind, value: Any) -> Any:
    match kind:
        case Kind.IMAGE:
            return value
        case Kind.LABELS:
            return _labels(spec, name, value)
        case Kind.TABLE:
            return _table(spec, name, value)
        case Kind.RECORD:
            return _record(spec, name, value)


def _plane(spec: FunctionSpec, value: object) -> NDArray[Any]:
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind in "buif":
        return value
    message = f"{spec.name} has to give an image (y, x) of numbers, not {_described(value)}"
    raise TypeError(message)


def _labels(spec: FunctionSpec, name: str, value: object) -> NDArray[Any]:
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind in "ui":
        return frozen(value)
    message = f"{name} of {spec.name} has to be an integer array (y, x), not {_described(value)}"
    raise TypeError(message)


def _table(spec: FunctionSpec, name: str, value: object) -> Mapping[str, NDArray[Any]]:
    if not isinstance(value, Mapping):
        message = f"{name} of {spec.name} has to be columns by name, not {_described(value)}"
        raise TypeError(message)
    columns = {str(column): np.asarray(values) for column, values in value.items()}
    for column, array in columns.items():
        if array.ndim != 1 or array.dtype.kind not in "buifU":
            message = (
                f"column {column!r} of {name} of {spec.name} has to be a row of numbers or text, "
                f"not {_described(array)}"
            )
            raise TypeError(message)
    if len({len(array) for array in columns.values()}) > 1:
        lengths = ", ".join(f"{column} {len(array)}" for column, array in columns.items())
        message = f"the columns of {name} of {spec.name} differ in length: {lengths}"
        raise TypeError(message)
    return columns


def _record(spec: FunctionSpec, name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        message = f"{name} of {spec.name} has to be scalars by name, not {_described(value)}"
        raise TypeError(message)
    record: dict[str, Any] = {}
    for key, item in value.items():
        scalar = item.item() if isinstance(item, np.generic) else item
        if scalar is not None and not isinstance(scalar, bool | int | float | str):
            message = (
                f"{key!r} of {name} of {spec.name} has to be a number, text, True, False or None, "
                f"not {_described(item)}"
            )
            raise TypeError(message)
        record[str(key)] = scalar
    return record


def _listed(names: Iterable[object]) -> str:
    return ", ".join(sorted(repr(str(name)) for name in names)) or "none"


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"a {type(value).__name__}"
