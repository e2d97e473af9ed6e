"""A request as version 0.1 wrote it; every later version has to read it."""

from openhcs import Pipeline, RunRequest, Settings, Step
from openhcs.functions import project_max, stitch

request = RunRequest(
    plate="/data/plate",
    pipeline=Pipeline(
        Step(project_max),
        Step(stitch),
    ),
    format="harmony",
    pattern="(?P<well>[A-P]\\d\\d)_f(?P<field>\\d+)\\.tif",
    files="files.csv",
    plate_size=(8, 12),
    platemap="map.csv",
    wells="A01,B*",
    fields=(0, 1, 2),
    channels=("DAPI", "GFP"),
    acquisition=1,
    settings=Settings(keep=True, otherwise="drop", missing="fail-well", pixel_um=(0.5, 0.5)),
)
