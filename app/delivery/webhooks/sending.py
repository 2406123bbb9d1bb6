"""One attempt: an entry, signed, POSTed to an endpoint. No transaction is open meanwhile."""

import time
from dataclasses import dataclass, field
from typing import Any, Final

from app.egress.client import Egress
from app.egress.outcomes import Answer, Outbound, Outcome, Rejected, Unknown
from app.rules.errors import Code
from app.rules.ids import DeliveryId, EndpointId, Instant, TenantId
from app.rules.retry import Accepted, Failed, Gone, Result
from app.rules.webhooks import signatures
from app.store.engine import wall_clock

#: For all of an attempt. Whoever answers later is asked again.
SECONDS: Final = 15.0
#: Of the answer nothing but the status counts; one that is longer is not read to its end.
_LARGEST: Final = 64 * 1024  # bytes

_GONE = 410


@dataclass(frozen=True, slots=True)
class Job:
    """A delivery that this process has taken, with what an attempt needs. `again` says that it is not the first."""

    delivery_id: DeliveryId
    endpoint_id: EndpointId
    tenant_id: TenantId
    claim: int
    url: str
    secrets: tuple[bytes, ...] = field(repr=False)
    body: bytes = field(repr=False)
    attempts: list[dict[str, Any]] = field(repr=False)
    failures: int
    again: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of an attempt. `at` is when it began."""

    job: Job
    at: Instant
    milliseconds: int
    result: Result

    @property
    def told(self) -> dict[str, Any]:
        """As it is kept."""
        match self.result:
            case Accepted(status):
                return self._told(status, None)
            case Gone():
                return self._told(_GONE, "it answered 410 Gone")
            case Failed(status, error):
                return self._told(status, error)

    def _told(self, status: int | None, error: str | None) -> dict[str, Any]:
        return {"at": self.at, "status": status, "durationMs": self.milliseconds, "error": error}


async def attempt(egress: Egress, job: Job, seconds: float = SECONDS) -> Ended:
    """Sends it, once, and says what came of it within so many seconds."""
    began, started = wall_clock(), time.monotonic()
    outcome = await egress.send(_signed(job, began), total=seconds, idle=seconds, limit=_LARGEST)
    return Ended(job, began, round((time.monotonic() - started) * 1000), _result(outcome, seconds))


def _signed(job: Job, now: Instant) -> Outbound:
    timestamp = now // 1_000_000
    headers = [
        ("content-type", "application/json"),
        ("webhook-id", job.delivery_id),
        ("webhook-timestamp", str(timestamp)),
        ("webhook-signature", signatures(job.secrets, job.delivery_id, timestamp, job.body)),
    ]
    return Outbound("POST", job.url, headers, job.body)


def _result(outcome: Outcome, seconds: float) -> Result:
    if isinstance(outcome, Unknown) and outcome.code is Code.UPSTREAM_TIMEOUT:
        return Failed(None, f"it did not answer within {seconds:g} seconds")
    if not isinstance(outcome, Answer | Rejected):
        return Failed(None, outcome.reason)
    status = outcome.status
    if 200 <= status <= 299:
        return Accepted(status)
    if status == _GONE:
        return Gone()
    redirect = ", and redirects are not followed" if 300 <= status <= 399 else ""
    return Failed(status, f"it answered with status {status}{redirect}")
