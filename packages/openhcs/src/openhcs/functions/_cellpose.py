"""Cells by Cellpose, where it is installed."""

from __future__ import annotations

import math
import os
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import NDArray  # noqa: TC002  # annotations are read when compiling

from openhcs.functions._checks import plane_like
from openhcs.functions._device import Device  # noqa: TC001  # annotations are read when compiling
from openhcs.functions._inputs import ChannelPlanes  # noqa: TC001  # read when compiling
from openhcs.functions._networks import (
    IntensityRange,
    as_labels,
    checked_range,
    checked_version,
    found_file,
    sketch,
)
from openhcs.functions._quantities import (  # noqa: TC001  # annotations are read when compiling
    FileName,
    LengthUm,
    PositiveUm,
)
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["segment_cellpose"]

FlowThreshold: TypeAlias = Annotated[float, Ge(0)]
CellThreshold: TypeAlias = Annotated[float, Interval(ge=-6, le=6)]

Model: TypeAlias = Literal["cpsam_v2", "cpsam"]
"""What Cellpose knows by these names, and that needs nothing else installed."""

_INSTALL = "'openhcs[cellpose]'"
_MOST_CHANNELS = 3
_PATCHES = {"cpu": 1, "gpu": 8}
"""Patches of a plane that go through the network at once."""
_PROCESS_BYTES = 1_500_000_000
"""What PyTorch, and the flows of a large plane, take beside the weights."""


class _Weights:
    """The files of a Cellpose network."""

    def files(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        checked_version("cellpose", (4, 2), 4, _INSTALL)
        # Before that, reading a file of weights could execute what it holds.
        checked_version("torch", (2, 6), 2, _INSTALL)
        return (str(_file(parameters)),)

    def holds_bytes(self, parameters: Mapping[str, Any]) -> int:
        # While they are read the weights are there twice.
        return _PROCESS_BYTES + 2 * _file(parameters).stat().st_size

    def stand_in(self, argument: ChannelPlanes, parameters: Mapping[str, Any]) -> NDArray[np.int32]:
        checked_range(parameters["intensity_range"])
        return sketch(_stacked(argument)[0])


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("cells", Kind.LABELS),),
    needs=frozenset({"pixel_um", "device"}),
    requires=("cellpose", "torch"),
    extra="cellpose",
    gpu="torch",
    weights=_Weights(),
)
def segment_cellpose(
    channels: ChannelPlanes,
    *,
    pixel_um: tuple[float, float],
    device: Device = "cpu",
    model: Model = "cpsam_v2",
    weights: FileName | None = None,
    diameter_um: PositiveUm | None = None,
    flow_threshold: FlowThreshold = 0.4,
    cell_threshold: CellThreshold = 0.0,
    min_diameter_um: LengthUm = 2.0,
    intensity_range: IntensityRange = None,
) -> NDArray[np.int32]:
    """Find cells, or nuclei, with Cellpose 4, where it is installed and has its weights.

    Parameters
    ----------
    channels
        One to three planes by channel name, of one shape (y, x), in any order; limit the step to
        them by ``channel=``.
    pixel_um
        Size of a pixel (y, x) in µm, greater than 0.
    device
        Where the network computes.
    model
        ``"cpsam_v2"`` or ``"cpsam"``, whose weights Cellpose keeps in ``~/.cellpose/models``, or
        where ``CELLPOSE_LOCAL_MODELS_PATH`` says.
    weights
        File of the weights of another model, such as one that was trained on cells of one's own;
        `model` is not looked at then.
    diameter_um
        Diameter of the cells; planes are scaled until it is the 30 px that the network was trained
        on. None leaves planes as they are, which is right for cells of 7 to 120 px.
    flow_threshold
        How far the flows of a found cell may lie from those that its shape has; 0 keeps every one.
    cell_threshold
        From which score on a pixel belongs to a cell, -6 to 6: lower for more and larger cells.
    min_diameter_um
        Cells whose area is that of a smaller disk are left out; 0 keeps every one.
    intensity_range
        Two levels of brightness that become 0 and 1; None takes the 1 % and 99 % quantiles of each
        plane, which makes cells of the noise of an empty one.

    Returns
    -------
    NDArray[np.int32]
        Shape (y, x): 0 is background, cells count from 1 without gaps. Cells at the border are
        kept.

    Raises
    ------
    ValueError
        If there are more than three channels, shapes differ, a parameter is out of its range, the
        weights are not there, or Cellpose is of another version than 4.2 or later.

    Notes
    -----
    Pachitariu, Rariden & Stringer, Cellpose-SAM, bioRxiv (2025) 2025.04.28.651001; Stringer et al.,
    Nature Methods 18 (2021) 100-106. The network has 305 million weights, and takes
    half a minute for every 256 by 256 px on two cores; on a GPU it computes with 16 bits.
    """
    checked_range(intensity_range)
    pixels = _stacked(channels)
    file = _file({"model": model, "weights": weights})
    side_um = math.sqrt(pixel_um[0] * pixel_um[1])
    if not pixels.any():
        return np.zeros(pixels.shape[1:], np.int32)
    network = _network(str(file), file.stat().st_mtime_ns, device)
    least = math.pi / 4 * min_diameter_um**2 / (pixel_um[0] * pixel_um[1])
    found, _, _ = network.eval(
        pixels,
        channel_axis=0,
        batch_size=_PATCHES[device],
        diameter=None if diameter_um is None else diameter_um / side_um,
        normalize=True if intensity_range is None else {"lowhigh": list(intensity_range)},
        flow_threshold=flow_threshold,
        cellprob_threshold=cell_threshold,
        min_size=max(1, round(least)),
        max_size_fraction=1.0,
    )
    return as_labels(found, pixels.shape[1:])


def _stacked(channels: ChannelPlanes) -> NDArray[np.float32]:
    """Give the planes as one array of its own, shape (channel, y, x)."""
    names = list(channels)
    if len(names) > _MOST_CHANNELS:
        message = (
            f"Cellpose takes one to {_MOST_CHANNELS} channels, and there are {', '.join(names)}: "
            "name those that show the cells with channel="
        )
        raise ValueError(message)
    first = np.asarray(channels[names[0]])
    others = (plane_like(channels, name, first.shape, names[0]) for name in names[1:])
    stack = np.stack([plane.astype(np.float32) for plane in (first, *others)])
    return np.nan_to_num(stack, copy=False, posinf=0.0, neginf=0.0)


def _file(parameters: Mapping[str, Any]) -> Path:
    """Find the file of weights that a step's parameters name.

    Raises
    ------
    ValueError
        If it is not there, or is not whole.
    """
    model = parameters["model"]
    folder = os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or Path.home() / ".cellpose" / "models"
    get = (
        f'fetch it once with python -c "from cellpose.models import CellposeModel; '
        f"CellposeModel(pretrained_model='{model}')\", 1.2 GB, or give weights="
    )
    path = found_file(parameters["weights"], model, [Path(folder) / model], get)
    if not zipfile.is_zipfile(path):  # as PyTorch writes weights
        message = f"{path} is no file of weights, or not all of it is there: fetch it again"
        raise ValueError(message)
    return path


@lru_cache(maxsize=1)
def _network(path: str, changed: int, device: Device) -> Any:  # noqa: ARG001  # a changed one anew
    """Load a network, which later calls in this process use again."""
    import torch
    from cellpose.models import CellposeModel

    there = torch.device("cuda" if device == "gpu" else "cpu")
    # Processors without instructions for 16 bits take many times as long with them.
    return CellposeModel(pretrained_model=path, device=there, use_bfloat16=device == "gpu")
