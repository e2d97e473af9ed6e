from __future__ import annotations

import inspect
import re

import pytest

import polystore
from polystore import PolystoreError

LEAVES = [
    each
    for name, each in vars(polystore).items()
    if inspect.isclass(each) and issubclass(each, BaseException) and not each.__subclasses__()
]


@pytest.mark.req("002.22")
@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_every_error_is_one_of_polystore_and_one_of_python(leaf: type[BaseException]) -> None:
    assert issubclass(leaf, PolystoreError)
    ours = {PolystoreError, Exception, BaseException, object}
    builtin = {each for each in leaf.__mro__ if each.__module__ == "builtins"} - ours
    assert builtin, f"who does not know {leaf.__name__} can catch it by no name of Python's"
    assert re.fullmatch(r"[A-Z][A-Za-z]+Error", leaf.__name__)
    assert (leaf.__doc__ or "").endswith(".")
