from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zmqruntime import InvalidRequestError, NotFoundError
from zmqruntime.router import ExposeError
from zmqruntime.router._expose import Exposure, return_type

# a machine that is busy with others makes few inputs in a second
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Camera:
    serial = "C-1"
    _secret = "nobody's business"

    def __init__(self) -> None:
        self.exposure = 10.0
        self.reads = 0

    @property
    def temperature(self) -> float:
        self.reads += 1
        return 21.5

    def snap(self, count: int = 1) -> list[int]:
        return [0] * count

    def _reset(self) -> None:
        raise AssertionError("private")

    def __reduce__(self) -> Any:
        raise AssertionError("pickled")

    async def later(self) -> None: ...


LISTED = {("camera", "snap"), ("camera", "exposure"), ("camera", "temperature")}
inner = ["_secret", "snap.__func__", "snap.__self__", "__class__.__mro__", "camera.snap"]
hostile = st.one_of(
    st.text(),
    st.sampled_from([*dir(Camera), *inner]),
    st.sampled_from(["camera", "snap"]).map(lambda name: name + "\0"),
)


def exposed() -> tuple[Exposure, Camera]:
    exposure, camera = Exposure(), Camera()
    exposure.add("camera", camera, ["snap", "exposure", "temperature"])
    return exposure, camera


@pytest.mark.req("003.2")
@pytest.mark.req("F.24")
@PATIENT
@given(st.one_of(st.just("camera"), hostile), hostile)
def test_nothing_beside_the_list_is_found_whatever_is_asked_for(obj: str, attr: str) -> None:
    exposure, _ = exposed()
    if (obj, attr) in LISTED:
        assert exposure.find(obj, attr).obj == "camera"
        return
    with pytest.raises(NotFoundError, match="nothing is exposed"):
        exposure.find(obj, attr)


def test_methods_are_bound_when_they_are_listed() -> None:
    exposure, camera = exposed()
    camera.snap = lambda count=1: [7] * count  # type: ignore[method-assign]
    assert exposure.find("camera", "snap").function(2) == [0, 0]


def test_plain_attributes_and_properties_are_read_when_they_are_asked_for() -> None:
    exposure, camera = exposed()
    assert camera.reads == 0
    camera.exposure = 12.0
    assert exposure.find("camera", "exposure").function() == 12.0
    assert exposure.find("camera", "temperature").function() == 21.5
    with pytest.raises(InvalidRequestError, match="without arguments"):
        exposure.find("camera", "exposure").check([1], {})


def test_modules_and_classes_can_be_listed() -> None:
    exposure = Exposure()
    exposure.add("maths", math, ["sqrt", "pi"])
    assert exposure.find("maths", "sqrt").function(9.0) == 3.0
    assert exposure.find("maths", "pi").function() == math.pi


@pytest.mark.parametrize(
    ("name", "attributes", "words"),
    [
        ("camera", ["_reset"], "underscore"),
        ("camera", ["__reduce__"], "underscore"),
        ("camera", ["snap.__func__"], "identifier"),
        ("camera", ["nothing"], "has no"),
        ("camera", ["later"], "coroutine"),
        ("camera", "snap", "list"),
        ("_camera", ["snap"], "underscore"),
        ("camera.one", ["snap"], "identifier"),
        ("", ["snap"], "identifier"),
        ("camera", ["snap", "_reset"], "underscore"),
    ],
)
def test_what_cannot_be_listed_is_refused_and_nothing_is(
    name: str, attributes: list[str], words: str
) -> None:
    exposure = Exposure()
    with pytest.raises(ExposeError, match=words):
        exposure.add(name, Camera(), attributes)
    assert not exposure.entries


def test_a_name_is_listed_once_until_it_is_taken_off() -> None:
    exposure, camera = exposed()
    with pytest.raises(ExposeError, match="already"):
        exposure.add("camera", camera, ["snap"])
    exposure.remove("camera")
    exposure.remove("camera")
    assert not exposure.entries
    exposure.add("camera", camera, ["snap"])
    assert [each.capability for each in exposure.entries] == ["call:camera.snap"]


def test_the_type_of_a_result_is_what_the_source_says() -> None:
    exposure, _ = exposed()
    assert return_type(exposure.find("camera", "snap").function) == "list[int]"
    assert return_type(lambda: None) == ""
    assert return_type(print) in ("", "None")
