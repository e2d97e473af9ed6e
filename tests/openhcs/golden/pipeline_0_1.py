"""A pipeline as version 0.1 wrote it; every later version has to read it."""

from openhcs import Branch, Pipeline, Route, Step
from openhcs.functions import (
    adapt,
    correct_illumination,
    gaussian,
    measure_image_quality,
    measure_objects,
    project_max,
    segment_cells,
    segment_nuclei,
    stitch,
    subtract_background,
)

smooth = Pipeline(
    Step(gaussian, sigma_um=0.5),
    Step(subtract_background, radius_um=25.0),
    name="smooth",
    wells="A01-H12",
)

pipeline = Pipeline(
    Step(measure_image_quality),
    Step(correct_illumination, source="auto", dark=None),
    Step(project_max, keep=True),
    Step(stitch, reference="DAPI", least_ncc=0.3),
    Branch(
        Route({"DAPI": smooth}, otherwise="pass"),
        Step(adapt("skimage.filters.unsharp_mask"), name="sharp", radius=2.0, preserve_range=True),
        Step(segment_nuclei, channel="DAPI", threshold="otsu", min_diameter_um=5.0),
    ),
    Step(segment_cells, nuclei="segment_nuclei", guide="GFP", distance_um=8.0),
    Step(measure_objects, name="of_cells", labels="segment_cells.cells"),
    Step(gaussian, name="last", channel="GFP", otherwise="drop", input="step:stitch"),
    otherwise="pass",
    missing="skip-group",
    pixel_um=(0.65, 0.65),
)
