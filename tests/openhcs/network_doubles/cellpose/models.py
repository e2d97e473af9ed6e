"""The part of Cellpose that is called."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from scipy.ndimage import label

__all__ = ["CellposeModel"]


class CellposeModel:
    """A model that was loaded; what it was told is kept in the file that a variable names."""

    def __init__(
        self,
        gpu: bool = False,
        pretrained_model: str = "cpsam_v2",
        model_type: str | None = None,
        diam_mean: float | None = None,
        device: Any = None,
        nchan: int | None = None,
        use_bfloat16: bool = True,
    ) -> None:
        assert os.path.exists(pretrained_model), "Cellpose would download another model now"
        self._told: dict[str, Any] = {"device": str(device), "use_bfloat16": use_bfloat16}

    def eval(
        self,
        x: Any,
        batch_size: int = 8,
        resample: bool = True,
        channels: Any = None,
        channel_axis: int | None = None,
        z_axis: int | None = None,
        normalize: Any = True,
        rescale: float | None = None,
        diameter: float | None = None,
        flow_threshold: float = 0.4,
        cellprob_threshold: float = 0.0,
        do_3D: bool = False,
        anisotropy: float | None = None,
        flow3D_smooth: int = 0,
        stitch_threshold: float = 0.0,
        min_size: int = 15,
        max_size_fraction: float = 0.4,
        niter: int | None = None,
        augment: bool = False,
        tile_overlap: float = 0.1,
        bsize: int | None = None,
        compute_masks: bool = True,
        progress: Any = None,
    ) -> tuple[Any, list[Any], Any]:
        assert channel_axis == 0
        assert x.dtype == np.float32
        told = {**self._told, "diameter": diameter, "min_size": min_size, "normalize": normalize}
        told |= {"channels": len(x), "flow": flow_threshold, "cell": cellprob_threshold}
        told["most"] = max_size_fraction
        if "NETWORK_DOUBLE_TOLD" in os.environ:
            with open(os.environ["NETWORK_DOUBLE_TOLD"], "w") as file:
                json.dump(told, file)
        if "NETWORK_DOUBLE_FULL" in os.environ:
            from torch import OutOfMemoryError

            message = "CUDA out of memory. Tried to allocate 2.00 GiB"
            raise OutOfMemoryError(message)
        image = x[0]
        found = label(image > (image.min() + image.max()) / 2)[0].astype(np.uint16)
        sizes = np.bincount(found.ravel())
        found[sizes[found] < min_size] = 0  # numbers with gaps: what is made of them has none
        return found.squeeze(), [], np.zeros(256)
