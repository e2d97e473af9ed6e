"""Every function of the catalogue on images as they come from a dead camera or an empty well."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from openhcs.functions import (
    REGISTRY,
    Axes,
    FunctionSpec,
    Kind,
    Stack,
    Tile,
    best_focus,
    measure_objects,
    measure_texture,
    segment_nuclei,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

PIXEL_UM = (0.5, 0.65)
FIELDS = 10
"""Enough for an illumination to be estimated from."""

SHAPES = ((40, 48), (1, 40), (1, 1), (40, 1), (3, 5))
DTYPES = (np.uint8, np.uint16, np.int32, np.float32)


def _bright(shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
    image = np.full(shape, 10, dtype)
    image[shape[0] // 2, shape[1] // 2] = 250
    return image


def _full(shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
    """A camera in floats is full where one of 16 bits is."""
    top = 65535.0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    return np.full(shape, top, dtype)


def _halves(shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
    image = _full(shape, dtype)
    image[:, : shape[1] // 2] = 0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).min
    return image


def _noise(shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
    return np.random.default_rng(0).integers(90, 120, shape).astype(dtype)


def _holed(*values: float) -> Callable[[tuple[int, int], Any], NDArray[Any]]:
    def make(shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
        image = _noise(shape, dtype)
        image[: shape[0] // 4 + 1] = np.resize(values, (shape[0] // 4 + 1, shape[1]))
        return image

    return make


WHOLE: Mapping[str, Callable[[tuple[int, int], Any], NDArray[Any]]] = {
    "zero": lambda shape, dtype: np.zeros(shape, dtype),
    "constant": lambda shape, dtype: np.full(shape, 100, dtype),
    "one bright pixel": _bright,
    "saturated": _full,
    "noise": _noise,
    "dark and saturated": _halves,
}
BROKEN: Mapping[str, Callable[[tuple[int, int], Any], NDArray[Any]]] = {
    "some NaN": _holed(np.nan),
    "some infinite": _holed(np.inf, -np.inf),
    "some of all": _holed(np.nan, np.inf, 3.0, -np.inf),
    "all NaN": lambda shape, dtype: np.full(shape, np.nan, dtype),
    "all infinite": lambda shape, dtype: np.full(shape, np.inf, dtype),
}


def _strided(image: NDArray[Any]) -> NDArray[Any]:
    """The same pixels, none beside the other in memory."""
    wide = np.zeros((2 * image.shape[0], 3 * image.shape[1]), image.dtype)
    wide[::2, ::3] = image
    return wide[::2, ::3]


LAYOUTS: Sequence[Callable[[NDArray[Any]], NDArray[Any]]] = (
    np.ascontiguousarray,
    np.asfortranarray,
    _strided,
    lambda image: np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1],
)


def _given(image: NDArray[Any], layout: int) -> NDArray[Any]:
    """As runs hand arrays over: read-only, whatever their layout."""
    given = LAYOUTS[layout % len(LAYOUTS)](image)
    given.setflags(write=False)
    return given


def _one_label(shape: tuple[int, int]) -> NDArray[np.int32]:
    return np.ones(shape, np.int32)


def _gaps(shape: tuple[int, int]) -> NDArray[np.int32]:
    """Objects of one pixel, of a row and of all the rest, and numbers that nothing has."""
    labels = np.zeros(shape, np.int32)
    labels[shape[0] // 2 :] = 70_000
    labels[-1] = 9
    labels[0, 0] = 3
    return labels


def _dots(shape: tuple[int, int]) -> NDArray[np.int32]:
    labels = np.zeros(shape, np.int32)
    labels[::4, ::4] = 1 + np.arange(labels[::4, ::4].size).reshape(labels[::4, ::4].shape)
    return labels


LABELS: Mapping[str, Callable[[tuple[int, int]], NDArray[np.int32]]] = {
    "no object": lambda shape: np.zeros(shape, np.int32),
    "one object that is everything": _one_label,
    "numbers with gaps": _gaps,
    "objects of a pixel": _dots,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """What a function is called with."""

    words: str
    image: NDArray[Any]
    labels: NDArray[np.int32]
    count: int
    """Of channels, z planes, time points or fields."""

    @property
    def planes(self) -> Sequence[NDArray[Any]]:
        """The image, and the same some pixels on; the last has nothing."""
        height, width = self.image.shape
        others = [np.roll(self.image, n * (width // 3 + 1), (0, 1)) for n in range(1, self.count)]
        if len(others) > 1:
            others[-1] = np.zeros((height, width), self.image.dtype)
        for other in others:
            other.setflags(write=False)
        return [self.image, *others]

    def argument(self, axes: Axes) -> Any:
        planes = self.planes
        match axes:
            case Axes.PLANE:
                return self.image
            case Axes.ZSTACK | Axes.TIME:
                loaders = [lambda plane=plane: plane for plane in planes]
                return Stack(loaders, [2.0 * n for n in range(self.count)])
            case Axes.CHANNELS:
                return dict(zip("ABC", planes, strict=False))
            case Axes.FIELDS | Axes.CHANNEL_FIELDS:
                width = self.image.shape[1] * PIXEL_UM[1]
                tiles = tuple(
                    Tile(field=n, x_um=0.25 * n * width, y_um=0.0, load=lambda plane=plane: plane)  # type: ignore[misc]
                    for n, plane in enumerate(planes)
                )
                return tiles if axes is Axes.FIELDS else {"A": tiles, "B": tiles[:1]}


def _cases(spec: FunctionSpec, content: str) -> Iterator[Case]:
    make = {**WHOLE, **BROKEN}[content]
    dtypes = DTYPES if content in WHOLE else (np.float32,)
    objects = LABELS if spec.inputs else {"": _one_label}
    counts = (1,) if spec.axes is Axes.PLANE else (1, 2) if spec.axes is Axes.CHANNELS else (1, 3)
    # Every pixel type with every shape; where that is much, they take turns.
    turns = spec.inputs or spec.preparation is not None
    if turns and content not in ("zero", "noise"):
        counts = counts[-1:]
    shapes = SHAPES if content in WHOLE or not turns else SHAPES[::2]
    arranged = itertools.product(shapes, counts, (None,) if turns else dtypes, objects)
    for place, (shape, count, chosen, name) in enumerate(arranged):
        dtype = dtypes[(place + place // len(dtypes)) % len(dtypes)] if chosen is None else chosen
        yield Case(
            words=f"{content}, {shape}, {np.dtype(dtype)}, {count} of {spec.axes}, {name}",
            image=_given(make(shape, dtype), place),
            labels=_given(objects[name](shape), place + 1),
            count=count,
        )


def _keywords(spec: FunctionSpec, case: Case, set_: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {name: each.default for name, each in spec.parameters.items()}
    parameters.update(set_)
    keywords: dict[str, Any] = dict(parameters)
    for name in spec.inputs:
        along = spec.axes in (Axes.ZSTACK, Axes.TIME)
        keywords[name] = Stack([lambda: case.labels] * case.count) if along else case.labels
    if "pixel_um" in spec.needs:
        keywords["pixel_um"] = PIXEL_UM
    if spec.preparation is not None:
        wanted = spec.preparation.wanted(parameters, vendor=False, available=FIELDS)
        summary = spec.preparation.summarise(case.image, parameters)
        shape = (case.image.shape[0], case.image.shape[1])
        keywords["prepared"] = spec.preparation.combine(
            [summary] * wanted, parameters, shape=shape, vendor=None
        ).arrays
    return keywords


def _called(spec: FunctionSpec, case: Case, set_: Mapping[str, Any]) -> Any:
    """Call a function; None where it says in words why it cannot."""
    before = case.image.tobytes(), case.labels.tobytes()
    try:
        keywords = _keywords(spec, case, set_)
        if spec.weights is not None:
            # As in a trial, without the packages that the network needs.
            result = spec.weights.stand_in(case.argument(spec.axes), keywords)
        else:
            result = spec.call(case.argument(spec.axes), **keywords)
    except ValueError as error:
        _check_ours(error, case)
        result = None
    assert (case.image.tobytes(), case.labels.tobytes()) == before, case.words
    return result


def _check_ours(error: ValueError, case: Case) -> None:
    """Tell what a function says itself from what went wrong inside a library."""
    assert len(str(error).split()) > 3, case.words
    last = error.__traceback__
    assert last is not None
    while last.tb_next is not None:
        last = last.tb_next
    raised_in = last.tb_frame.f_globals["__name__"]
    assert raised_in.startswith("openhcs."), f"{case.words}: {error!r} of {raised_in}"


def _outputs(spec: FunctionSpec, result: Any) -> Mapping[str, Any]:
    if dataclasses.is_dataclass(result):
        return {output.name: getattr(result, output.name) for output in spec.outputs}
    (output,) = spec.outputs
    return {output.name: result}


def _check_image(spec: FunctionSpec, value: Any, case: Case) -> None:
    images = value.values() if isinstance(value, Mapping) else [value]
    assert images, case.words
    for image in images:
        assert isinstance(image, np.ndarray), case.words
        assert image.dtype.kind in "uif", case.words
        assert image.ndim == 2, case.words
        if "field" not in spec.axes.consumed:
            assert image.shape == case.image.shape, case.words
        if np.isfinite(case.image).all():
            assert np.isfinite(image).all(), case.words


def _check_labels(value: Any, case: Case) -> None:
    assert isinstance(value, np.ndarray), case.words
    assert value.dtype.kind in "ui", case.words
    assert value.shape == case.image.shape, case.words
    assert value.min() >= 0, case.words


def _check_table(value: Any, case: Case) -> None:
    columns = {name: np.asarray(column) for name, column in value.items()}
    assert len({column.shape for column in columns.values()}) <= 1, case.words
    for name, column in columns.items():
        assert column.ndim == 1, (case.words, name)
        assert column.dtype.kind in "buifU", (case.words, name)
        if column.dtype.kind == "f" and np.isfinite(case.image).all():
            assert not np.isinf(column).any(), (case.words, name)


def _check_record(value: Any, case: Case) -> None:
    for name, each in value.items():
        assert isinstance(each, bool | int | float | str | np.generic | None), (case.words, name)
        # A threshold may be one that nothing is above.
        if name.startswith("threshold_"):
            continue
        if isinstance(each, float) and np.isfinite(case.image).all():
            assert not np.isinf(each), (case.words, name)


CALLS: Sequence[tuple[str, Mapping[str, Any]]] = (
    *((name, {}) for name in REGISTRY),
    ("composite", {"weights": {"A": 2.0}}),
    ("detect_spots", {"diameters_um": (1.5, 3.0)}),
    ("measure_colocalisation", {"threshold": "otsu", "rank_weighted": True}),
    ("measure_texture", {"levels": 4, "ranges": {"A": (0.0, 100.0)}}),
    ("normalise", {"low": 0.0, "high": 200.0, "clip": True}),
    ("gaussian_px", {"sigma_px": 12.0}),
    ("segment_cells", {"guide": "A"}),
    ("segment_nuclei", {"threshold": "local", "min_diameter_um": 0.5}),
    ("segment_nuclei", {"threshold": "minimum-error", "smoothing_um": 0.0}),
    ("trace_neurites", {"guide": "A"}),
    ("unmix", {"matrix": {"A": {"B": 0.3}}}),
    ("white_top_hat", {"radius_um": 20.0}),
)


@pytest.mark.parametrize("content", [*WHOLE, *BROKEN])
@pytest.mark.parametrize(("name", "parameters"), CALLS, ids=lambda each: str(each))
def test_a_function_gives_what_it_declares_or_says_why_not(
    name: str, parameters: Mapping[str, Any], content: str
) -> None:
    spec = REGISTRY[name]
    if spec.missing and spec.weights is None:
        pytest.skip(f"needs {', '.join(spec.missing)}")
    for case in _cases(spec, content):
        _check(spec, case, _called(spec, case, parameters))


def _check(spec: FunctionSpec, case: Case, result: Any) -> None:
    if result is None:
        return
    for output, value in zip(spec.outputs, _outputs(spec, result).values(), strict=True):
        match output.kind:
            case Kind.IMAGE:
                _check_image(spec, value, case)
            case Kind.LABELS:
                _check_labels(value, case)
            case Kind.TABLE:
                _check_table(value, case)
            case Kind.RECORD:
                _check_record(value, case)


def test_a_plane_without_a_finite_pixel_is_never_taken_for_the_sharpest() -> None:
    sharp, blank = _bright((40, 48), np.float32), np.full((40, 48), np.nan, np.float32)
    spoilt = np.where(np.arange(48) == 3, np.nan, sharp).astype(np.float32)
    found = best_focus(Stack([lambda: blank, lambda: np.ones_like(sharp), lambda: spoilt]))
    assert found.focus["z"] == 2
    assert found.image is spoilt
    assert np.isfinite(found.focus_curve["score"]).all()


@pytest.mark.parametrize("name", ["difference_of_gaussians", "gaussian", "gaussian_px", "median"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pixel_that_is_no_number_does_not_spread(name: str, value: float) -> None:
    spec = REGISTRY[name]
    plane = _noise((40, 48), np.float32)
    spoilt = plane.copy()
    spoilt[7, 9] = value
    facts = {"pixel_um": PIXEL_UM} if "pixel_um" in spec.needs else {}
    found = spec.call(spoilt, **facts)
    assert np.argwhere(np.isnan(found)).tolist() == [[7, 9]]
    assert np.nanmax(np.abs(found - spec.call(plane, **facts))) < np.ptp(plane)


@pytest.mark.parametrize("name", ["subtract_background", "white_top_hat"])
def test_a_pixel_that_is_no_number_has_no_say_in_the_background(name: str) -> None:
    spec = REGISTRY[name]
    plane = _noise((40, 48), np.float32)
    plane[7, 9] = np.nan
    found = spec.call(plane, pixel_um=PIXEL_UM)
    assert np.argwhere(np.isnan(found)).tolist() == [[7, 9]]


def test_fields_without_a_finite_pixel_say_nothing_of_the_illumination() -> None:
    preparation = REGISTRY["correct_illumination"].preparation
    assert preparation is not None
    parameters = {"source": "auto", "dark": None, "profile": None}
    rng = np.random.default_rng(1)
    planes = [rng.normal(100, 5, (40, 48)).astype(np.float32) for _ in range(12)]
    planes[3][5, 5] = np.inf
    blank = np.full((40, 48), np.nan, np.float32)
    told = preparation.combine(
        [preparation.summarise(plane, parameters) for plane in [*planes, blank]],
        parameters,
        shape=(40, 48),
        vendor=None,
    )
    assert int(told.arrays["fields"]) == 12
    assert np.isfinite(told.arrays["flat"]).all()


def test_an_object_of_a_pixel_has_numbers_where_it_can_and_nan_elsewhere() -> None:
    labels = np.zeros((40, 48), np.int32)
    labels[20, 20] = 5
    channels = {"A": _noise((40, 48), np.uint16)}
    size = measure_objects(channels, labels=labels, pixel_um=PIXEL_UM)
    assert all(np.isfinite(np.asarray(column)).all() for column in size.values())
    assert size["AreaShape_Area"].tolist() == [1]
    assert size["Intensity_StdIntensity_A"].tolist() == [0.0]
    texture = measure_texture(channels, labels=labels, pixel_um=PIXEL_UM)
    assert all(np.isnan(column).all() for name, column in texture.items() if "Texture" in name)


def test_what_is_measured_of_a_spoilt_object_is_not_said_of_its_finite_pixels() -> None:
    plane = _noise((40, 48), np.float32)
    plane[2, 2] = np.nan
    labels = np.ones(plane.shape, np.int32)
    labels[20:] = 2
    channels = {"A": plane}
    texture = measure_texture(channels, labels=labels, pixel_um=PIXEL_UM)
    assert np.isnan(texture["Texture_Contrast_A"]).tolist() == [True, False]
    size = measure_objects(channels, labels=labels, pixel_um=PIXEL_UM)
    assert np.isnan(size["Intensity_MeanIntensity_A"]).tolist() == [True, False]
    assert np.isnan(size["Intensity_MedianIntensity_A"]).tolist() == [True, False]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plane_smaller_than_a_nucleus_holds_none(shape: tuple[int, int]) -> None:
    plane = _bright(shape, np.uint16)
    assert segment_nuclei(plane, pixel_um=PIXEL_UM).shape == shape
    assert not segment_nuclei(plane, pixel_um=PIXEL_UM).any()
