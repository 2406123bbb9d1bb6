"""Fixed calendar windows in UTC: the hours, days and months in which caps are counted."""

from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from app.rules.ids import DAY, HOUR, SECOND, Instant


class WindowKind(StrEnum):
    """What a cap is counted over: actions, but in COST_MONTH cost units."""

    HOUR = "HOUR"
    DAY = "DAY"
    MONTH = "MONTH"
    COST_MONTH = "COST_MONTH"


class Window(NamedTuple):
    """One calendar window: `start` <= t < `end`."""

    kind: WindowKind
    start: Instant
    end: Instant


Windows = tuple[Window, Window, Window, Window]


def windows_at(now: Instant) -> Windows:
    """The hour, day and month that `now` falls in, and the month once more for costs."""
    return _windows_of_hour(now // HOUR)


# A dispatch asks for its windows; they change once an hour.
@lru_cache(maxsize=64)
def _windows_of_hour(hour: int) -> Windows:
    start = hour * HOUR
    day = start // DAY * DAY
    first = datetime.fromtimestamp(start // SECOND, UTC).replace(day=1, hour=0)
    later = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return (
        Window(WindowKind.HOUR, Instant(start), Instant(start + HOUR)),
        Window(WindowKind.DAY, Instant(day), Instant(day + DAY)),
        Window(WindowKind.MONTH, _instant(first), _instant(later)),
        Window(WindowKind.COST_MONTH, _instant(first), _instant(later)),
    )


def counts(kind: WindowKind, cost_units: int) -> int:
    """What one action adds to a window of this kind."""
    return cost_units if kind is WindowKind.COST_MONTH else 1


def _instant(moment: datetime) -> Instant:
    return Instant(int(moment.timestamp()) * SECOND)
