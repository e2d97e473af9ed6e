from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqruntime import ExposedKeyError, KeyFileError
from zmqruntime.security import AuthorizedKey, KeyFolder, KeyPair, Role
from zmqruntime.security._authorized import AuthorizedKeys
from zmqruntime.security._curve import check_key, to_text
from zmqruntime.security._private import read_private, write_file

if TYPE_CHECKING:
    from pathlib import Path


@given(st.binary(min_size=32, max_size=32))
def test_a_key_is_written_as_text_and_recognised(raw: bytes) -> None:
    assert check_key(to_text(raw)) == to_text(raw)


@given(st.text(max_size=60))
def test_other_text_is_no_key_and_is_not_repeated(text: str) -> None:
    with contextlib.suppress(KeyFileError):
        assert len(check_key(text)) == 40
        return
    with pytest.raises(KeyFileError) as caught:
        check_key(text)
    assert len(text) < 5 or text not in str(caught.value)


def test_a_pair_does_not_print_its_secret() -> None:
    pair = KeyPair.make("desk")
    assert pair.secret not in repr(pair)
    assert KeyPair.from_secret("desk", pair.secret) == pair


@pytest.mark.req("S.2")
def test_secrets_are_files_of_their_own_that_only_this_user_can_read(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        folder = KeyFolder(tmp_path / "keys")
        pair = folder.make("desk")
        folder.authorize(pair.public, name="desk")
    finally:
        os.umask(mask)
    modes = {
        str(path.relative_to(folder.path)): stat.S_IMODE(path.stat().st_mode)
        for path in (folder.path, *folder.path.rglob("*"))
    }
    assert modes == {
        ".": 0o700,
        "desk.key": 0o600,
        "desk.pub": 0o644,
        "authorized": 0o700,
        "authorized/desk.json": 0o600,
    }
    assert pair.secret not in folder.public_path("desk").read_text()
    assert folder.pair("desk") == folder.pair() == pair


def test_a_pair_is_never_written_over(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    pair = folder.make("desk")
    with pytest.raises(KeyFileError, match="there already"):
        folder.make("desk")
    assert folder.pair("desk") == pair
    assert sorted(path.name for path in folder.path.iterdir()) == ["desk.key", "desk.pub"]


@pytest.mark.req("S.2")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622])
def test_a_key_that_others_can_open_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    folder = KeyFolder(tmp_path / "keys")
    folder.make("desk")
    path = folder.path / "desk.key"
    path.chmod(mode)
    with pytest.raises(ExposedKeyError, match=rf"chmod 600 {path}.*new pair"):
        folder.pair("desk")
    with pytest.raises(PermissionError):
        folder.pair()


@pytest.mark.req("S.2")
def test_a_folder_that_others_can_enter_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.mkdir(mode=0o755)
    with pytest.raises(ExposedKeyError, match=f"chmod 700 {path}"):
        KeyFolder(path).make("desk")
    assert not list(path.iterdir())


def test_a_link_in_the_place_of_a_key_is_not_followed(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    folder.make("desk")
    (folder.path / "other.key").symlink_to(folder.path / "desk.key")
    with pytest.raises(KeyFileError):
        folder.pair("other")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kind":"zmqruntime public key"}', "\xff"])
def test_a_damaged_key_is_an_error_that_does_not_show_what_is_in_it(
    tmp_path: Path, text: str
) -> None:
    folder = KeyFolder(tmp_path / "keys")
    secret = folder.make("desk").secret
    path = folder.path / "desk.key"
    path.write_text(text + secret, encoding="latin-1")
    with pytest.raises(KeyFileError, match=r"desk\.key is not the file of a") as caught:
        folder.pair("desk")
    assert secret not in str(caught.value)


@pytest.mark.parametrize("name", ["", "..", "../desk", "a/b", "a b", ".hidden", "é", "x" * 65])
def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyFileError):
        KeyFolder(tmp_path / "keys").make(name)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_client_with_several_pairs_names_one(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    with pytest.raises(KeyFileError, match="keys make"):
        folder.pair()
    folder.server_pair()
    assert folder.pair().name == "server"
    desk = folder.make("desk")
    assert folder.pair() == desk
    folder.make("lab")
    with pytest.raises(KeyFileError, match="desk, lab: name one"):
        folder.pair()
    assert folder.names == ("desk", "lab", "server")


def test_a_key_is_authorised_under_one_name_and_revoked_by_name_or_key(tmp_path: Path) -> None:
    folder, desk = KeyFolder(tmp_path / "server"), KeyFolder(tmp_path / "desk")
    first, second = desk.make("one"), desk.make("two")
    folder.authorize(desk.public_path("one"), role="operator")
    folder.authorize(desk.public_path("one"), name="bench", role="viewer")
    assert [(each.name, each.role) for each in folder.authorized] == [("bench", Role.VIEWER)]
    with pytest.raises(KeyFileError, match="another key"):
        folder.authorize(second.public, name="bench")
    folder.authorize(second.public, name="two", role=None, capabilities=frozenset({"fs:x:read"}))
    assert folder.authorized[1].grants == {"fs:x:read"}
    assert folder.revoke("bench").public == first.public
    assert folder.revoke(second.public).name == "two"
    with pytest.raises(KeyFileError, match="there is nobody"):
        folder.revoke("two")


def test_a_key_needs_a_role_that_exists(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="emperor"):
        KeyFolder(tmp_path / "keys").authorize(KeyPair.make("x").public, name="x", role="emperor")


def test_a_servers_key_is_pinned_by_host_and_by_port(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    pair, one, two = folder.make("desk"), KeyPair.make("1").public, KeyPair.make("2").public
    with pytest.raises(KeyFileError, match=r"zmqruntime keys trust scope\.lab FILE"):
        folder.client_keys("scope.lab", 5555)
    folder.trust("scope.lab", one)
    folder.trust("scope.lab", two, port=7777)
    assert folder.client_keys("scope.lab", 5555).server_key == one
    assert folder.client_keys("scope.lab", 7777).server_key == two
    assert folder.client_keys("scope.lab", 7777).pair == pair
    assert folder.server_key("other.lab", 5555) is None


@pytest.mark.req("S.8")
def test_a_change_in_the_same_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    pair = KeyPair.make("desk")
    keys = AuthorizedKeys(folder.authorized_folder)
    assert keys.find(pair.public) is None
    for _ in range(20):
        folder.authorize(pair.public, name="desk", role="viewer")
        found = keys.find(pair.public)
        assert isinstance(found, AuthorizedKey)
        folder.revoke("desk")
        assert keys.find(pair.public) is None


@pytest.mark.req("S.6")
def test_a_file_that_cannot_be_relied_on_lets_nobody_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = KeyFolder(tmp_path / "keys")
    good, loose, torn = (KeyPair.make(name).public for name in ("good", "loose", "torn"))
    for name, key in (("good", good), ("loose", loose), ("torn", torn)):
        folder.authorize(key, name=name, role="admin")
    (folder.authorized_folder / "loose.json").chmod(0o664)
    torn_file = folder.authorized_folder / "torn.json"
    torn_file.write_bytes(torn_file.read_bytes()[:-20])
    (folder.authorized_folder / "folder.json").mkdir()
    assert [each.name for each in folder.authorized] == ["good"]
    keys = AuthorizedKeys(folder.authorized_folder)
    assert (keys.find(good) is None, keys.find(loose), keys.find(torn)) == (False, None, None)
    assert "chmod 600" in caplog.text


def test_a_file_is_there_whole_or_not_at_all(folder: Path) -> None:
    path = folder / "file"
    with pytest.raises(KeyFileError):
        write_file(folder / "missing" / "file", b"x")
    write_file(path, b"one")
    with pytest.raises(FileExistsError):
        write_file(path, b"two")
    assert read_private(path) == b"one"
    write_file(path, b"two", replace=True)
    assert read_private(path) == b"two"
    assert [each.name for each in folder.iterdir()] == ["file"]
    path.write_bytes(bytes(70_000))
    with pytest.raises(KeyFileError, match="too long"):
        read_private(path)


def test_a_folder_that_cannot_be_read_lets_nobody_in_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = KeyFolder(tmp_path / "keys")
    keys = AuthorizedKeys(folder.authorized_folder)
    pair = KeyPair.make("desk")
    assert keys.find(pair.public) is None
    assert caplog.text == ""  # nobody was authorised yet
    folder.authorize(pair.public, name="desk")
    assert keys.find(pair.public) is not None
    moved = folder.authorized_folder.rename(tmp_path / "away")
    assert keys.find(pair.public) is None
    assert caplog.text.count("cannot be read") == 1
    folder.authorized_folder.symlink_to(folder.authorized_folder)  # a loop
    assert keys.find(pair.public) is None
    assert caplog.text.count("cannot be read") == 2
    folder.authorized_folder.unlink()
    moved.rename(folder.authorized_folder)
    assert keys.find(pair.public) is not None
