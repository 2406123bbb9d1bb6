"""What the parts of a turn share: what a node sends by, and how much of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import Table, text

from app.rules.ids import SECOND, Instant
from app.store.keys import Keys
from app.store.tables import WebhookDelivery

#: Seconds for which a delivery is taken: an attempt's 15, and as long for a store that is slow to hear of its end.
LEASE = 30.0
#: Entries that one endpoint's cursor passes in one turn.
LOOKS_AT = 2_000
MOST_KEPT = 50  # attempts of one delivery

#: As a table: what changes many rows at once is no business of the session's.
DELIVERIES = cast(Table, WebhookDelivery.__table__)

#: Literal, so that both stores use the index that has this for its condition.
PENDING = text("webhook_deliveries.status = 'PENDING'")
FAILED = text("webhook_deliveries.status = 'FAILED'")
ENDED = text("webhook_deliveries.status <> 'PENDING'")


@dataclass(frozen=True, slots=True)
class Room:
    """How many first attempts and how many more attempts of an endpoint may begin."""

    first: int
    again: int

    @property
    def size(self) -> int:
        """Of both."""
        return self.first + self.again


@dataclass(frozen=True, slots=True)
class Sender:
    """What a node sends by. `source` names the gateway, `schedule` and `lease` are in seconds."""

    keys: Keys = field(repr=False)
    source: str
    schedule: Sequence[float]
    lease: float = LEASE

    def leased(self, now: Instant) -> Instant:
        """Until when what is taken now is taken."""
        return Instant(now + int(self.lease * SECOND))
