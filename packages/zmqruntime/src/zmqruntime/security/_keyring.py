"""KeyFolder: the pairs of this user, the keys that are let in, and the servers that are known."""

from __future__ import annotations

import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from zmqruntime._errors import KeyFileError
from zmqruntime.security._authorized import AuthorizedKey, read_authorized
from zmqruntime.security._capabilities import Role
from zmqruntime.security._curve import ClientKeys, KeyPair
from zmqruntime.security._key_files import (
    AuthorizedFile,
    PublicFile,
    SecretFile,
    check_name,
    decode_file,
    encode_file,
    read_public,
)
from zmqruntime.security._private import make_private_folder, read_private, write_file

__all__ = ["KeyFolder"]

logger = logging.getLogger(__name__)

_SERVER = "server"


class KeyFolder:
    """Keys of this user, one file each, in a folder that nobody else can enter.

    Parameters
    ----------
    folder
        Where; made with mode 0700 when something is first written.

    Notes
    -----
    ``NAME.key`` holds a pair (0600), ``NAME.pub`` its public half, to be given to others.
    ``authorized/NAME.json`` lets a client in, ``known/HOST.pub`` or ``known/HOST_PORT.pub`` pins
    the key of a server. Files are written whole and put in place by one system call.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     server, desk = KeyFolder(Path(folder) / "server"), KeyFolder(Path(folder) / "desk")
    ...     _ = server.authorize(desk.make("desk").public, name="desk", role="operator")
    ...     [each.name for each in server.authorized]
    ['desk']
    """

    def __init__(self, folder: Path | str) -> None:
        self.path = Path(folder).expanduser()

    @classmethod
    def default(cls) -> KeyFolder:
        """Return the folder of this user, ``$XDG_CONFIG_HOME/zmqruntime/keys``."""
        base = os.environ.get("XDG_CONFIG_HOME")
        return cls((Path(base) if base else Path.home() / ".config") / "zmqruntime" / "keys")

    @classmethod
    def of(cls, keys: KeyFolder | Path | str) -> KeyFolder:
        """Take a folder as it is, or by its path."""
        return keys if isinstance(keys, KeyFolder) else cls(keys)

    # Pairs of this user.

    def make(self, name: str) -> KeyPair:
        """Make a pair and write its two files.

        Parameters
        ----------
        name
            Letters, digits, ``.``, ``_`` and ``-``. ``server`` is the pair that servers use.

        Raises
        ------
        KeyFileError
            If there is one of that name, the name is none, or the files cannot be written.
        ExposedKeyError
            If others can enter the folder.
        """
        make_private_folder(self.path)
        pair = KeyPair.make(check_name(name))
        path = self.path / f"{name}.key"
        secret = SecretFile(name=name, public=pair.public, secret=pair.secret)
        try:
            write_file(path, encode_file(secret))
        except FileExistsError as error:
            raise KeyFileError(
                f"{path} is there already: choose another name, or remove it if nobody is to "
                "know this key any more"
            ) from error
        public = PublicFile(name=name, public=pair.public)
        write_file(self.public_path(name), encode_file(public), mode=0o644, replace=True)
        return pair

    def public_path(self, name: str) -> Path:
        """Return where the public half of a pair is, to be copied to others."""
        return self.path / f"{name}.pub"

    def pair(self, name: str | None = None) -> KeyPair:
        """Read a pair of this user.

        Parameters
        ----------
        name
            Which one. None takes the only one there is, the servers' left out.

        Raises
        ------
        KeyFileError
            If there is none, or several and no name, or the file is damaged.
        ExposedKeyError
            If others can read the file.
        """
        if name is None:
            names = [each for each in self.names if each != _SERVER] or [*self.names]
            if len(names) != 1:
                found = f"has {', '.join(names)}: name one" if names else "has no pair of keys"
                raise KeyFileError(
                    f"{self.path} {found}"
                    + ("" if names else "; make one: zmqruntime keys make --name NAME")
                )
            name = names[0]
        path = self.path / f"{check_name(name)}.key"
        try:
            file = decode_file(path, read_private(path), SecretFile)
        except FileNotFoundError as error:
            raise KeyFileError(
                f"there is no {path}; make it: zmqruntime keys make --name {name}"
            ) from error
        pair = KeyPair.from_secret(name, file.secret)
        if pair.public != file.public:
            raise KeyFileError(f"{path}: the two halves of the pair do not belong together")
        return pair

    def public_key(self, name: str) -> str:
        """Read the public half of a pair, from its own file.

        Raises
        ------
        KeyFileError
            If there is none, or it is damaged.
        """
        return read_public(self.public_path(check_name(name)))[0]

    def server_pair(self) -> KeyPair:
        """Read the pair that servers use, and make it first where there is none."""
        try:
            return self.pair(_SERVER)
        except KeyFileError:
            if (self.path / f"{_SERVER}.key").exists():
                raise
        logger.info("making the keys of servers in %s", self.path)
        try:
            return self.make(_SERVER)
        except KeyFileError:  # another server made them at the same moment
            return self.pair(_SERVER)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the pairs, sorted."""
        return tuple(sorted(path.stem for path in self.path.glob("*.key")))

    # Clients that are let in.

    @property
    def authorized_folder(self) -> Path:
        """Where the files of authorised keys are."""
        return self.path / "authorized"

    @property
    def authorized(self) -> tuple[AuthorizedKey, ...]:
        """The keys that are let in, sorted by name; damaged files are logged and left out."""
        return tuple(sorted(read_authorized(self.authorized_folder), key=lambda key: key.name))

    def authorize(
        self,
        key: str | Path,
        *,
        name: str = "",
        role: Role | str | None = Role.VIEWER,
        capabilities: frozenset[str] = frozenset(),
    ) -> AuthorizedKey:
        """Let a client in; running servers heed it at once.

        Parameters
        ----------
        key
            Public key, or the path of a ``.pub`` file.
        name
            What to call it here; by default what its file says.
        role
            Viewer, operator or admin; None for `capabilities` alone.
        capabilities
            What it may do besides, for example ``fs:plates:read``.

        Returns
        -------
        AuthorizedKey
            As it was written; one of that name and key is replaced.

        Raises
        ------
        KeyFileError
            If the key is none, the name belongs to another key, or the file cannot be written.
        ValueError
            If there is no such role.
        """
        public, suggested = read_public(key)
        entry = AuthorizedKey(
            name=check_name(name or suggested),
            public=public,
            role=Role(role) if role is not None else None,
            capabilities=frozenset(capabilities),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        for known in self.authorized:
            if known.name == entry.name and known.public != public:
                raise KeyFileError(
                    f"{entry.name!r} is another key here already: give this one another name, or "
                    f"revoke that one first (zmqruntime keys revoke {entry.name})"
                )
            if known.public == public and known.name != entry.name:
                self._remove(known.name)
        file = AuthorizedFile(
            name=entry.name,
            public=public,
            role=entry.role,
            capabilities=entry.capabilities,
            since=entry.since,
        )
        make_private_folder(self.path)
        make_private_folder(self.authorized_folder)
        write_file(self._authorized_path(entry.name), encode_file(file), replace=True)
        return entry

    def revoke(self, name: str) -> AuthorizedKey:
        """Let a client in no more; running servers cut its connections at once.

        Parameters
        ----------
        name
            As in `authorized`; a public key will do too.

        Raises
        ------
        KeyFileError
            If no such key is let in.
        """
        for known in self.authorized:
            if name in (known.name, known.public):
                self._remove(known.name)
                return known
        names = ", ".join(known.name for known in self.authorized) or "nobody"
        raise KeyFileError(f"no key {name!r} is authorised in {self.path}; there is {names}")

    def _authorized_path(self, name: str) -> Path:
        return self.authorized_folder / f"{check_name(name)}.json"

    def _remove(self, name: str) -> None:
        try:
            self._authorized_path(name).unlink(missing_ok=True)
        except OSError as error:
            raise KeyFileError(
                f"cannot remove {self._authorized_path(name)}: {error.strerror}; the key is "
                "still let in"
            ) from error

    # Servers that are known.

    def trust(self, host: str, key: str | Path, *, port: int | None = None) -> str:
        """Pin the key of a server, so that programs here reach it and nobody in its place.

        Parameters
        ----------
        host
            As clients name it.
        key
            Public key, or the path of a ``.pub`` file.
        port
            Control port, when servers of that computer have different keys.

        Returns
        -------
        str
            The public key.
        """
        public, name = read_public(key)
        make_private_folder(self.path)
        folder = make_private_folder(self.path / "known")
        file = PublicFile(name=name or host[:64], public=public)
        write_file(folder / _known_name(host, port), encode_file(file), replace=True)
        return public

    def server_key(self, host: str, port: int) -> str | None:
        """Return the pinned key of a server, or None when it is not known."""
        for path in (_known_name(host, port), _known_name(host, None)):
            if (self.path / "known" / path).exists():
                return read_public(self.path / "known" / path)[0]
        return None

    @property
    def known(self) -> tuple[tuple[str, str], ...]:
        """File name and public key of each pinned server, sorted; damaged ones are left out."""
        found = []
        for path in sorted((self.path / "known").glob("*.pub")):
            try:
                found.append((path.stem, read_public(path)[0]))
            except KeyFileError as error:
                logger.warning("a known server is left out: %s", error)
        return tuple(found)

    def client_keys(self, host: str, port: int, *, name: str | None = None) -> ClientKeys:
        """Return what is needed to reach a server.

        Parameters
        ----------
        host, port
            Where it is.
        name
            Which pair to use; None takes the only one.

        Raises
        ------
        KeyFileError
            If the server's key is not known, or there is no pair.
        """
        server_key = self.server_key(host, port)
        if server_key is None:
            raise KeyFileError(
                f"the key of the server at {host}:{port} is not known in {self.path}: copy its "
                f"server.pub here and run: zmqruntime keys trust {host} FILE"
            )
        return ClientKeys(self.pair(name), server_key)


def _known_name(host: str, port: int | None) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", host)
    return f"{name}.pub" if port is None else f"{name}_{port}.pub"
