"""Cells and cytoplasm: processor time beside the scikit-image or numpy that does the same.

One field of 1080 x 1080 with 300 nuclei; the channel that guides is the same field out of focus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from _turns import at_most
from functions_objects import PIXEL_UM, nuclei_field
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import expand_labels, watershed

from openhcs.functions import segment_cells, segment_cytoplasm, segment_nuclei

if TYPE_CHECKING:
    from _rows import Row
    from numpy.typing import NDArray

__all__ = ["rows"]

DISTANCE_UM = 8.0
BODY_UM = 6.0


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows; medians of `repeats`."""
    plane = nuclei_field()
    nuclei = segment_nuclei(plane, pixel_um=PIXEL_UM)
    guide = ndimage.gaussian_filter(plane, BODY_UM / PIXEL_UM[0])
    given: dict[str, Any] = {"nuclei": nuclei, "pixel_um": PIXEL_UM, "distance_um": DISTANCE_UM}
    cells = segment_cells({}, **given)
    return [
        at_most(
            "segment_cells by distance; limit scikit-image's expand_labels",
            lambda: segment_cells({}, **given),
            lambda: expand_labels(nuclei, DISTANCE_UM / PIXEL_UM[0]),  # type: ignore[no-untyped-call]  # skimage's
            target=1.25,
            repeats=repeats,
        ),
        at_most(
            "segment_cells by a channel; limit gaussian, Otsu, EDT, scikit-image's watershed",
            lambda: segment_cells({"GFP": guide}, guide="GFP", **given),
            lambda: _bare_parts(guide, nuclei),
            target=1.5,
            repeats=repeats,
        ),
        at_most(
            "segment_cytoplasm; limit the cells times where there is no nucleus",
            lambda: segment_cytoplasm({}, cells=cells, nuclei=nuclei),
            lambda: cells * (nuclei == 0),
            target=2,
            repeats=repeats,
        ),
    ]


def _bare_parts(guide: NDArray[np.uint16], nuclei: NDArray[np.int32]) -> NDArray[Any]:
    smoothed = ndimage.gaussian_filter(guide.astype(np.float32), 1.0 / PIXEL_UM[0])
    distance = ndimage.distance_transform_edt(nuclei == 0, sampling=PIXEL_UM)
    body = smoothed > 0.6 * threshold_otsu(smoothed)  # type: ignore[no-untyped-call]  # skimage's
    body = (body & (distance <= DISTANCE_UM)) | (nuclei > 0)
    cells: NDArray[Any] = watershed(-smoothed, nuclei, mask=body)  # type: ignore[no-untyped-call]  # skimage's
    return cells
