"""What a webhook says and how it is signed: Standard Webhooks 1.0 around a body with CloudEvents 1.0 names.

`asyncapi.yaml` tells receivers the same.
"""

import hmac
from base64 import b64encode
from collections.abc import Iterable, Sequence
from enum import StrEnum
from hashlib import sha256

import orjson

from app.rules.entries import MOST_EVENTS, Event, meant
from app.rules.errors import Code, Refusal
from app.rules.ids import DeliveryId, EndpointId, EntryId
from app.rules.texts import shown

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32


class EndpointStatus(StrEnum):
    """Whether an endpoint is sent anything."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class DeliveryStatus(StrEnum):
    """Where the delivery of one entry to one endpoint stands."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


def matching(globs: Iterable[str]) -> list[str]:
    """The events that names or globs (`delegation.*`) stand for."""
    wanted = frozenset[str]().union(*map(meant, globs))
    return [event.value for event in Event if event.value in wanted]


def refuse_events(globs: Sequence[str]) -> Refusal | None:
    """Refuses an empty list, a long one, and what no event is meant by."""
    if not 1 <= len(globs) <= MOST_EVENTS:
        message = f"events has {len(globs)} names or globs: give 1 to {MOST_EVENTS}, such as delegation.*"
        return Refusal(Code.INVALID, message, ("events",))
    for glob in globs:
        if not meant(glob):
            message = f"events: {shown(glob)!r} matches no event: give names or globs such as delegation.*"
            return Refusal(Code.INVALID, message, ("events",))
    return None


def delivery_id(entry_id: EntryId, endpoint_id: EndpointId) -> DeliveryId:
    """The id of an entry's delivery to an endpoint, always the same one: a receiver knows a repeat by it.

    A UUID of version 8 (RFC 9562): the entry's instant, then a hash of both ids.
    """
    stamp = entry_id.partition("_")[2][:13]
    digest = sha256(f"{entry_id} {endpoint_id}".encode()).hexdigest()
    return DeliveryId(f"whd_{stamp}-8{digest[:3]}-8{digest[3:6]}-{digest[6:18]}")


def body_of(source: str, entry_id: str, event: str, time: str, entry: str) -> bytes:
    """The request's body. `entry` is the entry in canonical form: what stands in the endpoint's owner's own ledger."""
    named = {"id": entry_id, "source": source, "specversion": "1.0", "time": time, "type": event}
    return b'{"data":%b,%b' % (entry.encode(), orjson.dumps(named)[1:])


def render_secret(random: bytes) -> str:
    """A secret as its owner sees it, once."""
    return SECRET_PREFIX + b64encode(random).decode()


def signatures(secrets: Iterable[bytes], id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one for each secret, so that either verifies while they change.

    `timestamp` is in seconds since 1970.
    """
    content = b"%b.%d.%b" % (id.encode(), timestamp, body)
    return " ".join(f"v1,{b64encode(hmac.digest(secret, content, 'sha256')).decode()}" for secret in secrets)
