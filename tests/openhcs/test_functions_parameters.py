"""Parameters say what they allow, and refuse the rest when a step is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Len, MultipleOf, Unit

from openhcs._errors import ParameterError
from openhcs.functions import (
    PlaneArray,
    function,
    gaussian,
    median,
    segment_nuclei,
    spec_of,
    stitch,
)
from openhcs.pipeline import Step


@function()
def everything(  # type: ignore[no-untyped-def]
    plane: PlaneArray,
    length_um: Annotated[float, Gt(0), Unit("µm")] = 1.0,
    *,
    count: Annotated[int, Interval(ge=1, le=9), MultipleOf(2)] = 2,
    scales_um: Annotated[tuple[Annotated[float, Gt(0)], ...], Len(1)] = (1.0,),
    mode: Literal["fast", "exact"] | None = None,
    loose=3,  # a user's function may tell less
) -> PlaneArray:
    """Take every kind of parameter."""
    del length_um, count, scales_um, mode, loose
    return plane


def refusal(**parameters: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        Step(everything, **parameters)
    return str(caught.value)


def test_a_value_out_of_bounds_is_refused_with_bounds_and_unit() -> None:
    assert refusal(length_um=0) == "length_um of everything is float, more than 0 µm, not 0"
    assert "at least 1 and at most 9 and a multiple of 2, not 10" in refusal(count=10)
    assert "not 3" in refusal(count=3)
    assert "1 or more of them" in refusal(scales_um=())
    assert "not (1.0, -2.0)" in refusal(scales_um=(1.0, -2.0))


def test_a_value_of_another_type_is_refused_before_its_bounds_are_looked_at() -> None:
    assert "length_um of everything is float" in refusal(length_um="1")
    assert "count of everything is int" in refusal(count=2.0)
    assert "did you mean 'exact'?" in refusal(mode="exacct")
    assert "has to be a finite number" in refusal(length_um=float("nan"))


def test_values_within_bounds_pass_and_lists_become_tuples() -> None:
    step = Step(everything, length_um=1, count=8, scales_um=[1, 2.5], mode="fast", loose="x")
    assert step.parameters == {
        "length_um": 1,
        "count": 8,
        "scales_um": (1, 2.5),
        "mode": "fast",
        "loose": "x",
    }


def test_parameters_before_and_behind_the_star_can_be_set_but_not_the_first() -> None:
    assert list(spec_of(everything).parameters) == [
        "length_um",
        "count",
        "scales_um",
        "mode",
        "loose",
    ]
    with pytest.raises(ParameterError, match="plane"):
        Step(everything, plane=1)


def test_a_parameter_tells_its_unit_choices_and_bounds() -> None:
    parameters = spec_of(everything).parameters
    assert parameters["length_um"].unit == "µm"
    assert parameters["length_um"].allowed == "float, more than 0 µm"
    assert parameters["mode"].choices == ("fast", "exact")
    assert parameters["loose"].allowed == "any value"
    assert not parameters["loose"].required
    assert spec_of(stitch).parameters["max_shift_um"].unit == "µm"


@pytest.mark.parametrize(
    ("call", "values"),
    [
        (gaussian, {"sigma_um": 0.0}),
        (median, {"size_px": 33}),
        (segment_nuclei, {"threshold": "ostu"}),
        (segment_nuclei, {"split_depth": 1.5}),
        (stitch, {"least_ncc": 2.0}),
    ],
)
def test_the_functions_of_the_catalogue_have_bounds(call: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        Step(call, **values)


def test_bounds_that_a_type_shares_are_seen_within_a_union() -> None:
    @function()
    def optional(plane: PlaneArray, *, size: Annotated[int, Ge(1)] | None = None) -> PlaneArray:
        """Take a number or nothing."""
        del size
        return plane

    assert Step(optional, size=None).parameters == {"size": None}
    with pytest.raises(ParameterError, match="at least 1"):
        Step(optional, size=0)
