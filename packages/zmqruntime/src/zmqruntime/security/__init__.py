"""Keys, tokens, capabilities and the audit log: who is let in, and what each may do."""

from __future__ import annotations

from zmqruntime.security._audit import Audit, AuditLine, audit_path
from zmqruntime.security._authorized import AuthorizedKey
from zmqruntime.security._capabilities import Role, capabilities_of
from zmqruntime.security._curve import ClientKeys, KeyPair
from zmqruntime.security._keyring import KeyFolder
from zmqruntime.security._rates import Rate, Rates
from zmqruntime.security._roots import Roots
from zmqruntime.security._seal import SEAL_BYTES, Seal, SealCheck
from zmqruntime.security._tokens import Tickets, TokenClaims, TokenMint

__all__ = [
    "SEAL_BYTES",
    "Audit",
    "AuditLine",
    "AuthorizedKey",
    "ClientKeys",
    "KeyFolder",
    "KeyPair",
    "Rate",
    "Rates",
    "Role",
    "Roots",
    "Seal",
    "SealCheck",
    "Tickets",
    "TokenClaims",
    "TokenMint",
    "audit_path",
    "capabilities_of",
]
