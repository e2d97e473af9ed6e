"""OME-XML, as far as it says which plane of which well is where.

Notes
-----
OME schema 2016-06 and its forerunners from 2012 on: elements go by their local names. Units of a
plane's position are those of the schema, and µm where none is given. See the OME-TIFF
specification (https://docs.openmicroscopy.org/ome-model) for ``TiffData``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openhcs.plates._xml import XmlError, elements, local_name, read_prolog
from openhcs.plates.formats.ome_tiff._units import length_nm, length_um, time_s

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element

__all__ = [
    "OmeDocument",
    "OmeImage",
    "OmePlane",
    "OmePlate",
    "OmeSample",
    "OmeWell",
    "TiffData",
    "read_ome_xml",
]

_ORDERS = frozenset({"XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"})
_MOST_PLANES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffData:
    """Where some planes of an image are.

    Parameters
    ----------
    c, z, t
        The first of them.
    ifd, count
        Directory of the first, and how many there are; None where that is not said.
    file, uuid
        Name and identifier of their file; empty where that is not said.
    """

    c: int
    z: int
    t: int
    ifd: int | None
    count: int | None
    file: str
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OmePlane:
    """What is said of one plane: place on the stage (µm), exposure and time (s); NaN without."""

    x_um: float
    y_um: float
    z_um: float
    exposure_s: float
    time_s: float


@dataclass(slots=True, kw_only=True)
class OmeImage:
    """An ``Image`` with its ``Pixels``.

    Parameters
    ----------
    id, name
        Of the image.
    order
        Order of the planes in files, the first letter the fastest: ``CZT``.
    sizes
        Number of channels, planes and time points.
    pixel_um, step_um
        Size of a pixel (y, x) and distance of planes, µm; NaN without.
    channels
        Name, excitation and emission (nm) of each channel.
    stage_um
        Place of the image on the stage (x, y), µm; NaN without.
    data
        Where its planes are.
    planes
        What is said of planes, by c, z and t.
    """

    id: str
    name: str = ""
    order: str = "CZT"
    sizes: tuple[int, int, int] = (1, 1, 1)
    pixel_um: tuple[float, float] = (float("nan"), float("nan"))
    step_um: float = float("nan")
    channels: list[tuple[str, float, float]] = field(default_factory=list)
    stage_um: tuple[float, float] = (float("nan"), float("nan"))
    data: list[TiffData] = field(default_factory=list)
    planes: dict[tuple[int, int, int], OmePlane] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeSample:
    """A ``WellSample``: a field of a well, with its image where it has one."""

    id: str
    index: int
    x_um: float
    y_um: float
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeWell:
    """A ``Well``; row and column are 0-based, or -1 where they are not said."""

    row: int
    col: int
    samples: tuple[OmeSample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OmePlate:
    """A ``Plate``; `acquisitions` lists the samples of each acquisition, rows are 0 if unknown."""

    id: str
    name: str
    rows: int
    columns: int
    wells: tuple[OmeWell, ...]
    acquisitions: tuple[frozenset[str], ...]


@dataclass(slots=True, kw_only=True)
class OmeDocument:
    """What a document says.

    Parameters
    ----------
    uuid
        Of the file that it is in; empty without.
    elsewhere
        The file that holds the metadata, where this one does not.
    version
        Of the schema: ``2016-06``.
    plates, images
        All of them; images by their id.
    odd
        What is said of images that no image can be.
    broken
        Where the document breaks off; empty when it is whole.
    """

    uuid: str = ""
    elsewhere: str = ""
    version: str = ""
    plates: list[OmePlate] = field(default_factory=list)
    images: dict[str, OmeImage] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)
    broken: str = ""


def read_ome_xml(source: Path | bytes) -> OmeDocument:
    """Read a document.

    Parameters
    ----------
    source
        A companion file, or the text of a TIFF file's tag 270.

    Returns
    -------
    OmeDocument
        What it says, as far as it can be read.

    Raises
    ------
    XmlEntityError
        If it declares an entity.
    OSError
        If the file cannot be read.
    """
    document = OmeDocument()
    try:
        prolog = read_prolog(source)
        if prolog.root != "OME":
            document.broken = f"its root element is {prolog.root}, not OME"
            return document
        document.uuid = _bare(prolog.attributes.get("UUID", ""))
        document.version = prolog.namespace.rstrip("/").rpartition("/")[2]
        for element in elements(source):
            name = local_name(element.tag)
            if name == "Image":
                try:
                    image = _image(element)
                    document.images.setdefault(image.id, image)
                except ValueError as error:
                    document.odd.append(str(error))
                element.clear()
            elif name == "Plate":
                document.plates.append(_plate(element))
                element.clear()
            elif name == "BinaryOnly":
                document.elsewhere = element.get("MetadataFile", "")
            elif name in {"StructuredAnnotations", "ROI"}:
                element.clear()  # may be most of the document, and is not asked for
    except XmlError as error:
        document.broken = str(error)
    return document


def _image(element: Element) -> OmeImage:
    image = OmeImage(id=element.get("ID", ""), name=element.get("Name", ""))
    for child in element:
        name = local_name(child.tag)
        if name == "StageLabel":
            image.stage_um = (
                length_um(child.get("X"), child.get("XUnit")),
                length_um(child.get("Y"), child.get("YUnit")),
            )
        elif name == "Pixels":
            _pixels(image, child)
    return image


def _pixels(image: OmeImage, element: Element) -> None:
    get = element.get
    order = get("DimensionOrder", "XYCZT")
    image.order = (order if order in _ORDERS else "XYCZT")[2:]
    image.pixel_um = (
        length_um(get("PhysicalSizeY"), get("PhysicalSizeYUnit")),
        length_um(get("PhysicalSizeX"), get("PhysicalSizeXUnit")),
    )
    image.step_um = length_um(get("PhysicalSizeZ"), get("PhysicalSizeZUnit"))
    samples = 0
    for child in element:
        name = local_name(child.tag)
        if name == "Channel":
            samples += max(1, _integer(child.get("SamplesPerPixel"), 1))
            image.channels.append(
                (
                    (child.get("Name") or child.get("Fluor") or "").strip(),
                    length_nm(
                        child.get("ExcitationWavelength"), child.get("ExcitationWavelengthUnit")
                    ),
                    length_nm(child.get("EmissionWavelength"), child.get("EmissionWavelengthUnit")),
                )
            )
        elif name == "TiffData":
            image.data.append(_tiff_data(child))
        elif name == "Plane":
            key = tuple(_integer(child.get(f"The{axis}"), 0) for axis in "CZT")
            image.planes[key[0], key[1], key[2]] = _plane(child)
    planes = [_integer(get(f"Size{axis}"), 1) for axis in "CZT"]
    if samples == planes[0] and image.channels:
        planes[0] = len(image.channels)  # colours of one channel are one plane
    if min(planes) < 1 or planes[0] * planes[1] * planes[2] > _MOST_PLANES:
        raise ValueError(f"image {image.id} has {planes} channels, planes and time points")
    image.sizes = planes[0], planes[1], planes[2]


def _tiff_data(element: Element) -> TiffData:
    get = element.get
    file = uuid = ""
    for child in element:
        if local_name(child.tag) == "UUID":
            file, uuid = child.get("FileName", ""), _bare(child.text or "")
    return TiffData(
        c=_integer(get("FirstC"), 0),
        z=_integer(get("FirstZ"), 0),
        t=_integer(get("FirstT"), 0),
        ifd=_integer(get("IFD"), 0) if get("IFD") is not None else None,
        count=_integer(get("PlaneCount"), 1) if get("PlaneCount") is not None else None,
        file=file,
        uuid=uuid,
    )


def _plane(element: Element) -> OmePlane:
    get = element.get
    return OmePlane(
        x_um=length_um(get("PositionX"), get("PositionXUnit")),
        y_um=length_um(get("PositionY"), get("PositionYUnit")),
        z_um=length_um(get("PositionZ"), get("PositionZUnit")),
        exposure_s=time_s(get("ExposureTime"), get("ExposureTimeUnit")),
        time_s=time_s(get("DeltaT"), get("DeltaTUnit")),
    )


def _plate(element: Element) -> OmePlate:
    wells: list[OmeWell] = []
    acquisitions: list[frozenset[str]] = []
    for child in element:
        name = local_name(child.tag)
        if name == "Well":
            samples = [_sample(each) for each in child if local_name(each.tag) == "WellSample"]
            row, col = (_integer(child.get(axis), -1) for axis in ("Row", "Column"))
            wells.append(OmeWell(row=row, col=col, samples=tuple(samples)))
        elif name == "PlateAcquisition":
            listed = [each.get("ID", "") for each in child]
            acquisitions.append(frozenset(each for each in listed if each))
    return OmePlate(
        id=element.get("ID", ""),
        name=element.get("Name", ""),
        rows=_integer(element.get("Rows"), 0),
        columns=_integer(element.get("Columns"), 0),
        wells=tuple(wells),
        acquisitions=tuple(acquisitions),
    )


def _sample(element: Element) -> OmeSample:
    image = next((each.get("ID", "") for each in element if local_name(each.tag) == "ImageRef"), "")
    return OmeSample(
        id=element.get("ID", ""),
        index=_integer(element.get("Index"), -1),
        x_um=length_um(element.get("PositionX"), element.get("PositionXUnit")),
        y_um=length_um(element.get("PositionY"), element.get("PositionYUnit")),
        image=image,
    )


def _integer(text: str | None, default: int) -> int:
    try:
        value = int(text) if text is not None else default
    except ValueError:
        return default
    return value if -1 <= value < 1 << 30 else default


def _bare(uuid: str) -> str:
    return uuid.strip().lower().removeprefix("urn:uuid:")
