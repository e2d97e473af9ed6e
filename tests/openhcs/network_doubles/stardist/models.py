"""The part of StarDist that is called."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import label

__all__ = ["StarDist2D"]


class StarDist2D:
    """A model that was loaded; what it was told is kept in the file that a variable names."""

    def __init__(self, config: Any, name: str | None = None, basedir: str = ".") -> None:
        assert config is None
        assert list(Path(basedir, str(name)).glob("*.h5")), "StarDist would go on untrained now"

    def predict_instances(
        self,
        img: Any,
        axes: str | None = None,
        normalizer: Any = None,
        sparse: bool = True,
        prob_thresh: float | None = None,
        nms_thresh: float | None = None,
        scale: Any = None,
        n_tiles: Any = None,
        show_tile_progress: bool = True,
        verbose: bool = False,
        return_labels: bool = True,
        predict_kwargs: Any = None,
        nms_kwargs: Any = None,
        overlap_label: int | None = None,
        return_predict: bool = False,
    ) -> tuple[Any, dict[str, Any]]:
        assert axes == "YX"
        assert img.dtype == np.float32
        told = {"prob": prob_thresh, "nms": nms_thresh, "scale": scale, "n_tiles": n_tiles}
        told |= {"low": float(img.min()), "high": float(np.quantile(img, 0.998))}
        if "NETWORK_DOUBLE_TOLD" in os.environ:
            Path(os.environ["NETWORK_DOUBLE_TOLD"]).write_text(json.dumps(told))
        return label(img > 0.5)[0].astype(np.int32), {}
