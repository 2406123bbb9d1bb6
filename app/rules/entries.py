"""The ledger's entries: what can happen, and the one byte form of an entry that is hashed.

`leafHash` is SHA-256 over 0x00 and the RFC 8785 form of the entry (RFC 6962's leaf). An entry holds only strings,
safe integers, booleans and null under ASCII keys, for which sorted orjson output is the RFC 8785 form.
"""

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from fnmatch import translate
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson


class Event(StrEnum):
    """What can stand in a ledger."""

    OFFERED = "delegation.offered"
    ACCEPTED = "delegation.accepted"
    DECLINED = "delegation.declined"
    LAPSED = "delegation.lapsed"
    AMENDED = "delegation.amended"
    TERMS_ACKNOWLEDGED = "delegation.terms_acknowledged"
    SUSPENDED = "delegation.suspended"
    RESUMED = "delegation.resumed"
    REVOKED = "delegation.revoked"
    EXPIRED = "delegation.expired"
    ACTION = "delegation.action"
    DENIED = "delegation.denied"
    QUOTA_EXHAUSTED = "delegation.quota_exhausted"
    BINDING_CREATED = "binding.created"
    BINDING_REVOKED = "binding.revoked"
    TRUST_LOST = "binding.trust_lost"
    TRUST_REGAINED = "binding.trust_regained"
    TOKEN_ISSUED = "token.issued"
    TOKEN_ROTATED = "token.rotated"
    AGENT_REGISTERED = "agent.registered"
    AGENT_UPDATED = "agent.updated"
    TRUST_REPORTED = "agent.trust_reported"
    UPSTREAM_REGISTERED = "upstream.registered"
    UPSTREAM_UPDATED = "upstream.updated"
    ACTION_DEFINED = "upstream.action_defined"
    ACTION_REMOVED = "upstream.action_removed"
    API_KEY_CREATED = "api_key.created"
    API_KEY_REVOKED = "api_key.revoked"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_UPDATED = "webhook.updated"
    WEBHOOK_DELETED = "webhook.deleted"
    WEBHOOK_SECRET_ROTATED = "webhook.secret_rotated"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_TEST = "webhook.test"


class Outcome(StrEnum):
    """How a dispatch ended; PENDING until it has."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    REFUSED = "REFUSED"
    WITHHELD = "WITHHELD"
    FAILED = "FAILED"
    INDETERMINATE = "INDETERMINATE"


def canonical(entry: dict[str, Any]) -> bytes:
    """The RFC 8785 form of an entry."""
    return orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)


def leaf_hash(form: bytes) -> str:
    """The hash of an entry in canonical form, in hex."""
    return sha256(b"\0" + form).hexdigest()


#: Names or globs of events in one list, and characters of each.
MOST_EVENTS = 50
LONGEST_EVENT = 100


# Compiling a glob takes a tenth of a millisecond, and whoever looks for something to send needs those of every endpoint.
@lru_cache(4_096)
def meant(glob: str) -> frozenset[str]:
    """The events that a name or glob (`delegation.*`) stands for: none where it is misspelt, or too long."""
    if len(glob) > LONGEST_EVENT:
        return frozenset()
    matches = re.compile(translate(glob)).match
    return frozenset(event.value for event in Event if matches(event.value))


def event_filter(globs: Iterable[str] | None) -> Callable[[str], bool] | None:
    """Whether an event is one of these names or globs (`delegation.*`); None where every event is."""
    wanted = list(globs or ())
    if not wanted:
        return None
    pattern = re.compile("|".join(map(translate, wanted)))
    return lambda event: pattern.match(event) is not None
