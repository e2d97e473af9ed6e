"""``zmqruntime keys``: who you are, whom your servers let in, and which servers you trust."""

from __future__ import annotations

import argparse
import json
import re
from typing import TYPE_CHECKING, Any

from zmqruntime._cli._commands import ExitStatus
from zmqruntime._cli._table import table
from zmqruntime._cli._target import add_key_options, folder_of
from zmqruntime._endpoints import Endpoint
from zmqruntime._errors import InvalidEndpointError
from zmqruntime.security import Role

if TYPE_CHECKING:
    from zmqruntime._cli._commands import Commands
    from zmqruntime.security import AuthorizedKey, KeyFolder

__all__ = ["add_to"]

_PORT = re.compile(r"^([^_]+)_(\d+)$")  # as in the name of a file, which can hold no colon


def add_to(commands: Commands) -> None:
    """Add the command with its own commands."""
    parser = commands.add_parser(
        "keys",
        help="make, list, authorise and revoke keys",
        description="Keys let other computers reach your servers. A pair says who somebody is: "
        "its .key file stays where it was made, its .pub file is given to others.",
    )
    own = parser.add_subparsers(dest="keys_command", required=True, metavar="COMMAND")
    _add_make(own)
    _add_show(own)
    _add_list(own)
    _add_authorize(own)
    _add_revoke(own)
    _add_trust(own)


def _add_make(commands: Commands) -> None:
    parser = commands.add_parser("make", help="make a pair of keys")
    parser.add_argument(
        "--name",
        required=True,
        help="what to call it, for example the name of this computer; 'server' is the pair that "
        "your servers use",
    )
    _finish(parser, _make)


def _add_show(commands: Commands) -> None:
    parser = commands.add_parser("show", help="print the public half of a pair")
    parser.add_argument("name", metavar="NAME", help="which pair")
    _finish(parser, _show)


def _add_list(commands: Commands) -> None:
    parser = commands.add_parser("list", help="list pairs, authorised keys and known servers")
    _finish(parser, _list)


def _add_authorize(commands: Commands) -> None:
    parser = commands.add_parser("authorize", help="let a client reach your servers")
    parser.add_argument("key", metavar="FILE", help="its .pub file, or the public key itself")
    parser.add_argument(
        "--role",
        choices=[role.value for role in Role],
        help="viewer sees streams; operator uses the service; admin may also stop it "
        "(default: viewer)",
    )
    parser.add_argument("--name", help="what to call it here (default: the name in the file)")
    parser.add_argument(
        "--may",
        action="append",
        default=[],
        metavar="CAPABILITY",
        help="something it may do besides, for example fs:plates:read; may be repeated",
    )
    _finish(parser, _authorize)


def _add_revoke(commands: Commands) -> None:
    parser = commands.add_parser("revoke", help="let a client in no more, and cut its connections")
    parser.add_argument("name", metavar="NAME", help="as in the list, or the public key")
    _finish(parser, _revoke)


def _add_trust(commands: Commands) -> None:
    parser = commands.add_parser("trust", help="pin the key of a server on another computer")
    parser.add_argument(
        "server", metavar="HOST[:PORT]", type=_server, help="where it is, as you name it"
    )
    parser.add_argument("key", metavar="FILE", help="its server.pub, or the public key itself")
    _finish(parser, _trust)


def _finish(parser: argparse.ArgumentParser, carry_out: object) -> None:
    add_key_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object for scripts")
    parser.set_defaults(carry_out=carry_out)


def _make(arguments: argparse.Namespace) -> int:
    folder = folder_of(arguments)
    pair = folder.make(arguments.name)
    path = folder.public_path(pair.name)
    if arguments.json:
        _print({"name": pair.name, "public": pair.public, "public_file": str(path)})
        return ExitStatus.DONE
    print(f"Made the pair {pair.name!r} in {folder.path}")
    print(f"  {path.with_suffix('.key')}  secret: it stays here")
    print(f"  {path}  public: give it to others")
    print(f"  {pair.public}")
    if pair.name == "server":
        print("On the computer that is to reach it: zmqruntime keys trust HOST server.pub")
    else:
        print(
            f"On the computer with the server: zmqruntime keys authorize {path.name} "
            "--role operator"
        )
    return ExitStatus.DONE


def _show(arguments: argparse.Namespace) -> int:
    folder = folder_of(arguments)
    pair = folder.pair(arguments.name)
    if arguments.json:
        path = str(folder.public_path(pair.name))
        _print({"name": pair.name, "public": pair.public, "public_file": path})
    else:
        print(pair.public)
    return ExitStatus.DONE


def _list(arguments: argparse.Namespace) -> int:
    folder = folder_of(arguments)
    pairs = [(name, _public_of(folder, name)) for name in folder.names]
    known = [(_PORT.sub(r"\1:\2", name), public) for name, public in folder.known]
    if arguments.json:
        _print(
            {
                "folder": str(folder.path),
                "pairs": [{"name": name, "public": public} for name, public in pairs],
                "authorized": [_as_json(key) for key in folder.authorized],
                "known": [{"server": name, "public": public} for name, public in known],
            }
        )
        return ExitStatus.DONE
    print(f"Keys in {folder.path}")
    if not pairs:
        print("\nNo pair yet. Make one: zmqruntime keys make --name NAME")
    else:
        print("\nYour pairs\n" + table(("NAME", "PUBLIC KEY"), pairs))
    if folder.authorized:
        rows = [
            (
                key.name,
                key.role.value if key.role is not None else "-",
                ", ".join(sorted(key.capabilities)) or "-",
                key.since,
                key.public,
            )
            for key in folder.authorized
        ]
        head = ("NAME", "ROLE", "BESIDES", "SINCE", "PUBLIC KEY")
        print("\nLet in by your servers\n" + table(head, rows))
    if known:
        print("\nServers you trust\n" + table(("SERVER", "PUBLIC KEY"), known))
    return ExitStatus.DONE


def _authorize(arguments: argparse.Namespace) -> int:
    folder = folder_of(arguments)
    role = arguments.role or (None if arguments.may else Role.VIEWER)
    entry = folder.authorize(
        arguments.key,
        name=arguments.name or "",
        role=role,
        capabilities=frozenset(arguments.may),
    )
    if arguments.json:
        _print(_as_json(entry))
    else:
        grants = ", ".join(sorted(entry.grants))
        print(f"{entry.name!r} is let in from now on, and may: {grants}")
    return ExitStatus.DONE


def _revoke(arguments: argparse.Namespace) -> int:
    entry = folder_of(arguments).revoke(arguments.name)
    if arguments.json:
        _print(_as_json(entry))
    else:
        print(f"{entry.name!r} is let in no more; servers that run cut its connections now")
    return ExitStatus.DONE


def _trust(arguments: argparse.Namespace) -> int:
    host, port = arguments.server
    public = folder_of(arguments).trust(host, arguments.key, port=port)
    server = host if port is None else f"{host}:{port}"
    if arguments.json:
        _print({"server": server, "public": public})
    else:
        print(f"{server} must have the key {public} from now on")
    return ExitStatus.DONE


def _public_of(folder: KeyFolder, name: str) -> str:
    """Return a public key without reading the secret one, whoever may read that."""
    try:
        return folder.public_key(name)
    except ValueError as error:
        return str(error)


def _as_json(key: AuthorizedKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "public": key.public,
        "role": None if key.role is None else key.role.value,
        "capabilities": sorted(key.capabilities),
        "grants": sorted(key.grants),
        "since": key.since,
    }


def _print(value: object) -> None:
    print(json.dumps(value))


def _server(text: str) -> tuple[str, int | None]:
    try:
        one, two = (Endpoint.parse(text, default_port=port) for port in (5555, 5556))
    except InvalidEndpointError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return one.host, one.port if one == two else None
