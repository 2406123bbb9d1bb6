"""Instants as people and programs read them: RFC 3339 in UTC, to the microsecond."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from app.rules.ids import Instant

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=64)  # the entries of a batch share one clock
def rfc3339(at: Instant) -> str:
    """`2026-11-20T10:22:00.000001Z`."""
    moment = _EPOCH + timedelta(microseconds=at)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_rfc3339(text: str) -> Instant:
    """The inverse. Raises ValueError for what is no instant, or says no offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or "T" not in text.upper():
        raise ValueError("an instant needs a date, a time and an offset, as in 2026-12-31T23:59:59Z")
    return Instant((moment - _EPOCH) // timedelta(microseconds=1))
