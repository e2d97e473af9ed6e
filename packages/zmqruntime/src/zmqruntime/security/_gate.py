"""Gate: everything a server decides about who it talks to, from the handshake to each message."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zmq

from zmqruntime._endpoints import is_loopback
from zmqruntime._errors import BusyError, ForbiddenError, KeyFileError, TokenError
from zmqruntime.control._peer import NOWHERE, OPEN_GRANTS, Source
from zmqruntime.loop._monitor import Monitor
from zmqruntime.security._audit import AuditLine
from zmqruntime.security._authorized import AuthorizedKey, AuthorizedKeys
from zmqruntime.security._capabilities import is_privileged
from zmqruntime.security._connections import Connections
from zmqruntime.security._curve import secure_server_socket
from zmqruntime.security._local import LOCAL_NAME, local_pair
from zmqruntime.security._private import make_private_folder
from zmqruntime.security._rates import Rate, RateLimiter, Rates
from zmqruntime.security._tokens import TOKEN_PREFIX, Tickets, TokenMint
from zmqruntime.security._watch import FolderWatch
from zmqruntime.security._zap import ZapHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.loop._loop import IOThread
    from zmqruntime.security._audit import Audit
    from zmqruntime.security._curve import KeyPair
    from zmqruntime.security._keyring import KeyFolder
    from zmqruntime.security._tokens import TokenClaims
    from zmqruntime.security._zap import ZapRequest

__all__ = ["Gate", "Standing"]

logger = logging.getLogger(__name__)

_FAREWELL_S = 0.5  # until a peer that is cut has read why
_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
_COMPLAINTS = Rate(1.0, 60.0)  # lines about denials, for each key or address
_MOST_UNTOLD = 4096
_EVERYTHING = frozenset({"*"})


@dataclass(frozen=True, slots=True)
class Standing:
    """What a message's sender may do.

    Attributes
    ----------
    name
        What the server's user calls the key; empty without keys.
    permitted
        Whether it may ask for more than a sign of life.
    grants
        Capabilities, in the notation of `fnmatch`.
    """

    name: str = ""
    permitted: bool = False
    grants: frozenset[str] = frozenset()


_STRANGER = Standing()
_ANYBODY = Standing(permitted=True, grants=OPEN_GRANTS)
_SELF = Standing(name=LOCAL_NAME, permitted=True, grants=_EVERYTHING)


def _is_here(address: str) -> bool:
    """Say whether an address is of this computer: loopback, or of a socket file.

    libzmq names the peer of a socket file ``localhost:`` with its user, group and process, and an
    IPv4 peer of a socket that listens on IPv6 by a mapped address. Others have numeric addresses.
    """
    return is_loopback(address.removeprefix("::ffff:")) or address.startswith("localhost:")


class Gate:
    """Decides for one server, on its loop.

    Parameters
    ----------
    loop
        Loop of the server; its context gets the one ZAP handler that it can have.
    keys
        Keys of the server and of those who are let in; None for a server that lets in everybody
        who reaches it (`open_to_all`), or everybody who shows its token.
    open_to_all
        Without keys: whether whoever reaches the server may use it.
    rates
        What is put up with.
    audit
        Where decisions are written, or None.
    clock
        Monotonic seconds.

    Raises
    ------
    KeyFileError, ExposedKeyError
        If the server's pair cannot be read or made.
    """

    def __init__(
        self,
        loop: IOThread,
        *,
        keys: KeyFolder | None = None,
        open_to_all: bool = False,
        rates: Rates | None = None,
        audit: Audit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.audit = audit
        self.tickets = Tickets(clock=clock)
        self.mint: TokenMint | None = None
        self.counters: Counter[str] = Counter()
        rates = rates or Rates()
        self._loop = loop
        self._folder = None if keys is None else keys.authorized_folder
        self._pair: KeyPair | None = None if keys is None else keys.server_pair()
        self._own: KeyPair | None = None if keys is None else local_pair(make=True)
        self._authorized = None if self._folder is None else AuthorizedKeys(self._folder)
        self._open_to_all = open_to_all
        self._standings: dict[str, tuple[AuthorizedKey, Standing]] = {}
        self._requests = RateLimiter(rates.requests, clock=clock)
        self._connections = Connections(rates, clock=clock, on_refused=self._on_refused)
        self._complaints = RateLimiter(_COMPLAINTS, clock=clock)
        self._complaining = threading.Lock()
        self._untold: Counter[str] = Counter()
        self._changed: list[Callable[[str, str], object]] = []
        self._going: dict[int, tuple[str, int]] = {}  # connections that will be ended
        self._zap: ZapHandler | None = None
        self._watch: FolderWatch | None = None

    @property
    def keyed(self) -> bool:
        """Whether connections are encrypted and a key is needed."""
        return self._pair is not None

    @property
    def server_key(self) -> str:
        """Public key of the server, to be pinned by clients; empty without keys."""
        return self._pair.public if self._pair is not None else ""

    def open(self, server_id: str) -> None:
        """Begin to let people in; on the loop, before a socket binds."""
        self.mint = TokenMint(server_id)
        self._zap = ZapHandler(self._loop, self._decide)
        if self._folder is not None:
            make_private_folder(self._folder.parent)
            make_private_folder(self._folder)
            self._watch = FolderWatch(self._loop, self._folder, self.look)

    def close(self) -> None:
        """Let nobody in any more; on the loop. Twice is harmless."""
        if self._watch is not None:
            self._watch.close()
        if self._zap is not None:
            self._zap.close()
        if self.audit is not None:
            self.audit.close()

    def prepare(self, socket: zmq.Socket[bytes]) -> None:
        """Prepare a socket of any type that will bind; on the loop, before it does."""
        secure_server_socket(socket, self._pair)

    def watch(self, socket: zmq.Socket[bytes]) -> Monitor:
        """Count the connections of a socket that has no monitor yet; on the loop.

        Returns
        -------
        Monitor
            To be closed before the socket.
        """
        return Monitor(self._loop, socket, _EVENTS, lambda _: None, detail=self.on_event)

    def on_event(self, event: int, value: int) -> None:
        """Heed an event of a socket's monitor; on the loop."""
        self._connections.on_event(event, value)

    def on_changed(self, callback: Callable[[str, str], object]) -> None:
        """Call a function, on the loop, with a key and why its connections will be ended."""
        self._changed.append(callback)

    def source_of(self, frame: zmq.Frame) -> Source:
        """Say where a message comes from, by its first frame, as the socket knows; on the loop."""
        key, address = "", ""
        try:
            if self._pair is not None:
                key = str(frame.get("User-Id"))
            address = str(frame.get("Peer-Address"))
            descriptor = int(frame.get(zmq.SRCFD))
        except (zmq.ZMQError, zmq.ZMQVersionError):
            return Source(key=key, address=address)
        self._connections.heard(descriptor, key)
        return Source(key=key, address=address, descriptor=descriptor)

    def admits(self, source: Source) -> bool:
        """Say whether a message of the data channel is from somebody who is let in now."""
        try:
            self._standing_of(source)
        except ForbiddenError:
            self.counters["refused"] += 1
            return False
        return True

    def judge(self, source: Source, token: str | None) -> Standing:
        """Say what the sender of a request may do; with each request, so that it may change.

        Parameters
        ----------
        source
            From `source_of`.
        token
            What it shows; one that is not from the mint changes nothing.

        Raises
        ------
        ForbiddenError
            If its key is not let in any more, or its token is not good.
        BusyError
            If it asks too often.
        """
        standing = self._standing_of(source)
        if not self._requests.allows(source.key or source.address):
            self.counters["limited"] += 1
            raise BusyError("too many requests: wait a moment", retryable=True)
        if token is None or not token.startswith(TOKEN_PREFIX) or self.mint is None:
            return standing
        try:
            claims = self.mint.check(token, key=source.key)
        except TokenError as error:
            self.note(source, standing.name, what="token", verdict="denied", text=str(error))
            raise ForbiddenError(str(error), code="unauthenticated") from error
        if not source.key:
            return standing  # where nobody proves a key, a token that was overheard proves nothing
        return Standing(standing.name, standing.permitted, standing.grants | claims.caps)

    def bearer(self, token: str | None) -> TokenClaims:
        """Say what a token allows on a connection that proves no key, for a gateway.

        Raises
        ------
        ForbiddenError
            If there is none, or it is not one that was lent to whoever holds it.
        """
        if token is None or self.mint is None:
            raise ForbiddenError("show a token of this server", code="unauthenticated")
        try:
            return self.mint.check(token, key="")
        except TokenError as error:
            self.note(NOWHERE, "", what="token", verdict="denied", text=str(error))
            raise ForbiddenError(str(error), code="unauthenticated") from error

    def note(
        self,
        source: Source,
        name: str,
        *,
        what: str,
        verdict: str,
        capability: str = "",
        subject: str = "",
        trace: str = "",
        version: int | None = None,
        ms: float | None = None,
        text: str = "",
    ) -> bool:
        """Write a line of the audit log, if there is one; any thread.

        Returns
        -------
        bool
            False when there is a log and it cannot be written.
        """
        if self.audit is None:
            return True
        if verdict == "denied" and not self._may_complain(source.key or source.address):
            return True
        more = self._untold.pop(source.key or source.address, 0)
        if more:
            text = f"{text}; {more} more were denied before".removeprefix("; ")
        return self.audit.write(
            AuditLine(
                time=time.time(),
                who=name,
                key=source.key,
                address=source.address,
                what=what,
                capability=capability,
                verdict=verdict,
                subject=subject,
                trace=trace,
                version=version,
                ms=ms,
                text=text,
            )
        )

    def _may_complain(self, who: str) -> bool:
        """Keep who is refused again and again from pushing everything else out of the log."""
        with self._complaining:
            if self._complaints.allows(who):
                return True
            self._untold[who] += 1
            self.counters["denials_not_written"] += 1
            if len(self._untold) > _MOST_UNTOLD:
                del self._untold[next(iter(self._untold))]
        return False

    def is_privileged(self, capability: str) -> bool:
        """Say whether a capability may be used only when that can be written down."""
        return self.audit is not None and is_privileged(capability)

    def look(self) -> None:
        """Read the folder of keys again, and part from those it no longer lets in; on the loop."""
        if self._authorized is None:
            return
        self._authorized.reload()
        for key in tuple(self._standings):
            self._check(key)

    def _check(self, key: str) -> AuthorizedKey | None:
        """Look a key up, and end its connections if it may do something else than before."""
        if self._authorized is None:
            return None
        entry = self._authorized.find(key)
        known = self._standings.get(key)
        if known is not None and known[0] != entry:
            del self._standings[key]
            name = known[0].name
            if entry is None:
                self._part(key, name, f"the key {name!r} was revoked on this server")
            elif known[0].grants != entry.grants:
                self._part(key, name, f"what the key {name!r} may do was changed: connect again")
        return entry

    def _standing_of(self, source: Source) -> Standing:
        if self._authorized is None:
            return _ANYBODY if self._open_to_all else _STRANGER
        if self._own is not None and source.key == self._own.public:
            return _SELF
        entry = self._check(source.key)
        if entry is None or self._is_going(source.descriptor):
            self.counters["refused"] += 1
            raise ForbiddenError(
                "this key is not authorised here, or is so no longer: ask whoever runs the "
                "server (zmqruntime keys authorize)",
                code="unauthenticated",
            )
        known = self._standings.get(source.key)
        if known is None:
            known = (entry, Standing(entry.name, permitted=True, grants=entry.grants))
            self._standings[source.key] = known
        return known[1]

    def _part(self, key: str, name: str, why: str) -> None:
        """Tell those who have a key why, then end their connections."""
        logger.warning("%s", why)
        self.note(Source(key=key), name, what="revoke", verdict="ok", text=why)
        leaving = self._connections.of(key)  # not those that come with what holds from now on
        self._going |= leaving

        def cut() -> None:
            for descriptor, name in leaving.items():
                if self._going.get(descriptor) == name:
                    del self._going[descriptor]
                self.counters["cut"] += self._connections.end(descriptor, name)

        self._loop.call_later(_FAREWELL_S, cut)
        for callback in self._changed:
            self._loop.call_here(callback, key, why)  # one that fails keeps nobody else from it

    def _is_going(self, descriptor: int) -> bool:
        name = self._going.get(descriptor)
        return name is not None and self._connections.leads_to(descriptor, name)

    def _decide(self, request: ZapRequest) -> tuple[str, str]:
        """Answer libzmq's question about a connection."""
        source = Source(key=request.key, address=request.address)
        if self._pair is None:
            welcome, name = request.mechanism == "NULL", ""
        elif request.mechanism != "CURVE":
            welcome, name = False, ""
        elif self._is_own(request):
            welcome, name = True, LOCAL_NAME
        else:
            entry = self._check(request.key)
            welcome, name = entry is not None, "" if entry is None else entry.name
        if not welcome:
            self.counters["denied"] += 1
            self.note(source, name, what="connect", verdict="denied", text=request.mechanism)
            logger.info("a connection from %s was denied", request.address)
            return "400", "this key is not authorised here"
        self._connections.authenticated(request.address)
        return "200", "OK"

    def _is_own(self, request: ZapRequest) -> bool:
        """Say whether it is the user himself on this computer; his key may be new."""
        if self._own is None or not _is_here(request.address):
            return False
        if request.key != self._own.public:
            try:
                self._own = local_pair(make=False) or self._own
            except KeyFileError:
                return False
        return request.key == self._own.public

    def _on_refused(self, address: str, why: str) -> None:
        self.counters["refused_connections"] += 1
        if self.counters["refused_connections"] in (1, 10, 100, 1000, 10_000):
            logger.warning("refused a connection from %s: %s", address, why)
            self.note(Source(address=address), "", what="connect", verdict="denied", text=why)
