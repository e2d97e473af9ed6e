"""Nuclei by StarDist, where it is installed."""

from __future__ import annotations

import json
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray  # noqa: TC002  # annotations are read when compiling

from openhcs.functions._checks import checked_plane
from openhcs.functions._device import Device  # noqa: TC001  # annotations are read when compiling
from openhcs.functions._inputs import PlaneArray  # noqa: TC001  # read when compiling
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
    Fraction,
    PositiveUm,
)
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["segment_stardist"]

Model: TypeAlias = Literal["2D_versatile_fluo", "2D_paper_dsb2018", "2D_demo"]
"""What StarDist knows by these names, of one channel."""

_INSTALL = "'openhcs[stardist]'"
_QUANTILES = (1.0, 99.8)
_TILE_PX = 1024
"""Side of the parts that a larger plane goes through the network in."""
_PROCESS_BYTES = 1_200_000_000
"""What TensorFlow and one tile of a network of the usual size take: 0.9 GB were measured."""
_HDF5 = b"\x89HDF\r\n\x1a\n"


class _Weights:
    """The files of a StarDist network."""

    def files(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        checked_version("stardist", (0, 9), 0, _INSTALL)
        folder = _folder(parameters)
        return tuple(str(path) for path in (folder / "config.json", *_others(folder)))

    def holds_bytes(self, parameters: Mapping[str, Any]) -> int:  # noqa: ARG002  # the same for all
        return _PROCESS_BYTES

    def stand_in(self, argument: PlaneArray, parameters: Mapping[str, Any]) -> NDArray[np.int32]:
        checked_range(parameters["intensity_range"])
        return sketch(checked_plane(argument))


@function(
    axes=Axes.PLANE,
    outputs=(Output("nuclei", Kind.LABELS),),
    needs=frozenset({"pixel_um", "device"}),
    requires=("stardist", "tensorflow"),
    extra="stardist",
    gpu="tensorflow",
    weights=_Weights(),
)
def segment_stardist(
    plane: PlaneArray,
    *,
    pixel_um: tuple[float, float],
    device: Device = "cpu",
    model: Model = "2D_versatile_fluo",
    folder: FileName | None = None,
    probability_threshold: Fraction | None = None,
    overlap_threshold: Fraction | None = None,
    network_pixel_um: PositiveUm | None = None,
    intensity_range: IntensityRange = None,
) -> NDArray[np.int32]:
    """Find nuclei, or other roundish objects, with StarDist, where it is installed with its model.

    Parameters
    ----------
    plane
        Shape (y, x), integers or floats.
    pixel_um
        Size of a pixel (y, x) in µm, greater than 0.
    device
        Where the network computes.
    model
        ``"2D_versatile_fluo"``, ``"2D_paper_dsb2018"`` or ``"2D_demo"``, which StarDist keeps below
        ``~/.keras/models``, or where ``KERAS_HOME`` says.
    folder
        Folder of another model, such as that of one's own training; `model` is not looked at then.
    probability_threshold
        From which probability on there is an object, 0 to 1; None takes the model's own.
    overlap_threshold
        How far two found objects may overlap, 0 to 1; None takes the model's own.
    network_pixel_um
        Size of the pixels that the network was trained on: planes are scaled to it. None leaves
        them as they are.
    intensity_range
        Two levels of brightness that become 0 and 1; None takes the 1 % and 99.8 % quantiles of
        each plane, which makes objects of the noise of an empty one.

    Returns
    -------
    NDArray[np.int32]
        Shape (y, x): 0 is background, objects count from 1 without gaps. Objects at the border are
        kept.

    Raises
    ------
    ValueError
        If the plane has other axes, a parameter is out of its range, the model is not there, or
        StarDist is older than 0.9.

    Notes
    -----
    Schmidt, Weigert, Broaddus & Myers, MICCAI 2018, 265-273. Planes of more than 1024 px go through
    the network in parts, which bounds its memory and changes nothing. A network of the usual size
    takes about 9 s/Mpx on one core.
    """
    checked_range(intensity_range)
    pixels = np.nan_to_num(checked_plane(plane).astype(np.float32), posinf=0.0, neginf=0.0)
    place = _folder({"model": model, "folder": folder})
    low, high = intensity_range or np.percentile(pixels, _QUANTILES)
    if not high > low:
        return np.zeros(pixels.shape, np.int32)
    pixels -= np.float32(low)
    pixels /= np.float32(high - low)
    scale = None
    if network_pixel_um is not None:
        scale = tuple(size / network_pixel_um for size in pixel_um)
    sides = [size * step for size, step in zip(pixels.shape, scale or (1, 1), strict=True)]
    changed = (place / "config.json").stat().st_mtime_ns
    with _on(device):
        found, _ = _network(str(place), changed).predict_instances(
            pixels,
            axes="YX",
            prob_thresh=probability_threshold,
            nms_thresh=overlap_threshold,
            scale=scale,
            n_tiles=tuple(math.ceil(side / _TILE_PX) for side in sides),
            show_tile_progress=False,
        )
    return as_labels(found, pixels.shape)


def _folder(parameters: Mapping[str, Any]) -> Path:
    """Find the folder of the model that a step's parameters name.

    Raises
    ------
    ValueError
        If it is not there, its network is not one of single planes, or it has no weights.
    """
    model = parameters["model"]
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    inside = Path(home) / "models" / "StarDist2D" / model
    # Where it lies differs between versions of Keras.
    kept = [inside / model, inside / f"{model}_extracted", inside]
    places = [place for place in kept if (place / "config.json").is_file()] or kept[:1]
    get = (
        f'fetch it once with python -c "from stardist.models import StarDist2D; '
        f"StarDist2D.from_pretrained('{model}')\", or give folder="
    )
    folder = found_file(parameters["folder"], model, places, get)
    try:
        config = json.loads((folder / "config.json").read_bytes())
        channels, dimensions = config["n_channel_in"], config["n_dim"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{folder} is no model of StarDist: its config.json cannot be read ({error!r})"
        raise ValueError(message) from error
    if (channels, dimensions) != (1, 2):
        message = (
            f"the network in {folder} is one of {dimensions} dimensions and {channels} channels; "
            "planes of one channel are what it would get"
        )
        raise ValueError(message)
    weights = [path for path in _others(folder) if path.suffix != ".json"]
    if not weights:
        # StarDist would go on with a network that was never trained.
        message = f"{folder} has no weights (*.h5) beside its config.json: fetch the model again"
        raise ValueError(message)
    for path in weights:
        with path.open("rb") as file:
            if file.read(len(_HDF5)) != _HDF5:
                message = f"{path} is no file of weights: fetch the model again"
                raise ValueError(message)
    return folder


def _others(folder: Path) -> list[Path]:
    """Give the files beside a model's configuration of which StarDist may take something."""
    return sorted(
        path for pattern in ("thresholds.json", "*.h5", "*.hdf5") for path in folder.glob(pattern)
    )


@lru_cache(maxsize=1)
def _network(path: str, changed: int) -> Any:  # noqa: ARG001  # a changed one is loaded anew
    """Load a network, which later calls in this process use again."""
    from stardist.models import StarDist2D

    folder = Path(path)
    return StarDist2D(None, name=folder.name, basedir=str(folder.parent))


def _on(device: Device) -> Any:
    """Have TensorFlow compute where it is told, with the threads and the memory that it needs."""
    tensorflow = _tensorflow()
    return tensorflow.device("/GPU:0" if device == "gpu" else "/CPU:0")


@lru_cache(maxsize=1)
def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow

    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal():
        # Workers are as many as there are processors: each keeps to its own.
        tensorflow.config.threading.set_intra_op_parallelism_threads(int(threads))
        tensorflow.config.threading.set_inter_op_parallelism_threads(int(threads))
    for gpu in tensorflow.config.list_physical_devices("GPU"):
        # Or the first worker would take all of its memory.
        tensorflow.config.experimental.set_memory_growth(gpu, True)
    return tensorflow
