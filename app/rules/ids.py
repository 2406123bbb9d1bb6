"""Typed ids: a prefix that says what the id names, and a UUIDv7 (RFC 9562).

Making an id needs a clock and randomness, so it happens in `store/engine.py`; here are only the names.
"""

import re
from typing import NewType

TenantId = NewType("TenantId", str)
ApiKeyId = NewType("ApiKeyId", str)
AgentId = NewType("AgentId", str)
UpstreamId = NewType("UpstreamId", str)
ActionId = NewType("ActionId", str)
DelegationId = NewType("DelegationId", str)
BindingId = NewType("BindingId", str)
TokenId = NewType("TokenId", str)
DispatchId = NewType("DispatchId", str)
EntryId = NewType("EntryId", str)
PairId = NewType("PairId", str)
BootId = NewType("BootId", str)
EndpointId = NewType("EndpointId", str)
DeliveryId = NewType("DeliveryId", str)
CallbackId = NewType("CallbackId", str)

#: Microseconds since 1970-01-01T00:00:00Z. One number for both stores, the wire and the ledger.
Instant = NewType("Instant", int)

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

PREFIXES = frozenset(
    {"ten", "key", "agt", "ups", "act", "dlg", "bnd", "tok", "dsp", "aud", "par", "bot", "whk", "whd", "cbs"}
)

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = re.compile(rf"([a-z]{{3}})_{_UUID}")


def prefix_of(id: str) -> str | None:
    """The prefix of a well-formed id of ours, else None."""
    match = _ID.fullmatch(id)
    return match[1] if match and match[1] in PREFIXES else None
