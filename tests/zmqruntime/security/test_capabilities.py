from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqruntime import Encoding, KeyFileError, Peer
from zmqruntime.security import AuthorizedKey, KeyPair, Role, capabilities_of
from zmqruntime.security._capabilities import check_capabilities, covers, is_privileged

NAMES = (
    "topic:subscribe:frames",
    "topic:publish:frames",
    "state:layer/1/opacity:write",
    "command:napari.pixel.request_keyframe",
    "call:camera.snap",
    "pipeline:submit",
    "service:inspect",
    "fs:plates:read",
    "token:lend",
    "service:shutdown",
)
PATTERNS = st.text("ab:*?[]", max_size=6)


def may(role: Role) -> list[str]:
    peer = Peer(
        id=b"\0",
        owner=False,
        permitted=True,
        encoding=Encoding.JSON,
        grants=capabilities_of(role),
    )
    return [name for name in NAMES if peer.may(name)]


@pytest.mark.req("S.6", "S.7", "004.15")
def test_roles_are_sets_of_capabilities_and_the_rest_is_denied() -> None:
    assert may(Role.VIEWER) == [NAMES[0]]
    assert may(Role.OPERATOR) == list(NAMES[:7])
    assert may(Role.ADMIN) == list(NAMES)
    nobody = Peer(id=b"\0", owner=False, permitted=True, encoding=Encoding.JSON)
    assert not any(nobody.may(name) for name in NAMES)
    with pytest.raises(ValueError, match="emperor"):
        capabilities_of("emperor")


@given(st.frozensets(PATTERNS, max_size=3), PATTERNS, st.text("ab:", max_size=6))
def test_what_is_covered_lends_nothing_that_was_not_granted(
    grants: frozenset[str], lent: str, name: str
) -> None:
    if covers(grants, lent) and fnmatchcase(name, lent):
        assert any(fnmatchcase(name, grant) for grant in grants)


def test_a_pattern_with_other_signs_is_not_taken_for_a_longer_one() -> None:
    assert covers(frozenset({"call:*"}), "call:camera.*")
    assert not covers(frozenset({"call:?"}), "call:*")
    assert not covers(frozenset({"call:camera.*"}), "call:*")


def test_what_goes_beyond_using_a_service_is_privileged() -> None:
    assert [name for name in NAMES if is_privileged(name)] == list(NAMES[7:])


@pytest.mark.parametrize(
    "names", [{""}, {"x" * 300}, {"é"}, {"a\n"}, {f"c{n}" for n in range(300)}]
)
def test_capabilities_of_a_file_are_checked(names: set[str]) -> None:
    with pytest.raises(KeyFileError):
        check_capabilities(frozenset(names))
    with pytest.raises(KeyFileError):
        AuthorizedKey(name="x", public=KeyPair.make("x").public, capabilities=frozenset(names))


@pytest.mark.req("S.6")
def test_a_witness_hears_of_every_question() -> None:
    heard: list[tuple[str, bool]] = []
    peer = Peer(
        id=b"\0",
        owner=False,
        permitted=True,
        encoding=Encoding.JSON,
        grants=frozenset({"call:*"}),
        witness=lambda _, capability, allowed: heard.append((capability, allowed)),
    )
    assert (peer.may("call:x"), peer.may("fs:x:read"), peer.holds("call:y")) == (True, False, True)
    assert heard == [("call:x", True), ("fs:x:read", False)]
