"""Calendar windows in UTC: each instant falls in exactly one hour, day and month, and costs are counted by the month."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.ids import DAY, HOUR, Instant
from app.rules.instants import parse_rfc3339, rfc3339
from app.rules.windows import WindowKind, counts, windows_at

#: 1970 to 2200.
instants = some.integers(0, 7_258_118_400_000_000 - 1).map(Instant)


def window(kind: WindowKind, at: str) -> tuple[str, str]:
    """Start and end, without the zeros that they end in."""
    found = next(each for each in windows_at(parse_rfc3339(at)) if each.kind is kind)
    return rfc3339(found.start).removesuffix(":00.000000Z"), rfc3339(found.end).removesuffix(":00.000000Z")


@pytest.mark.parametrize(
    ("kind", "at", "start", "end"),
    [
        ("HOUR", "2026-11-20T10:59:59.999999Z", "2026-11-20T10:00", "2026-11-20T11:00"),
        ("HOUR", "2026-11-20T11:00:00Z", "2026-11-20T11:00", "2026-11-20T12:00"),
        ("HOUR", "2026-12-31T23:30:00Z", "2026-12-31T23:00", "2027-01-01T00:00"),
        ("DAY", "2026-11-20T00:00:00Z", "2026-11-20T00:00", "2026-11-21T00:00"),
        ("DAY", "2026-11-20T23:59:59.999999Z", "2026-11-20T00:00", "2026-11-21T00:00"),
        ("DAY", "2024-02-28T12:00:00Z", "2024-02-28T00:00", "2024-02-29T00:00"),
        ("DAY", "2026-12-31T12:00:00Z", "2026-12-31T00:00", "2027-01-01T00:00"),
        ("MONTH", "2026-01-31T12:00:00Z", "2026-01-01T00:00", "2026-02-01T00:00"),
        ("MONTH", "2026-02-28T23:59:59.999999Z", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("MONTH", "2024-02-29T00:00:00Z", "2024-02-01T00:00", "2024-03-01T00:00"),
        ("MONTH", "2100-02-28T23:59:59Z", "2100-02-01T00:00", "2100-03-01T00:00"),
        ("MONTH", "2026-04-30T12:00:00Z", "2026-04-01T00:00", "2026-05-01T00:00"),
        ("MONTH", "2026-12-01T00:00:00Z", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("MONTH", "2026-12-31T23:59:59.999999Z", "2026-12-01T00:00", "2027-01-01T00:00"),
    ],
)
def test_a_window_is_the_calendars(kind: str, at: str, start: str, end: str) -> None:
    assert window(WindowKind(kind), at) == (start, end)


@given(instants)
def test_every_instant_is_inside_its_windows(now: Instant) -> None:
    assert [each.kind for each in windows_at(now)] == list(WindowKind)
    assert all(each.start <= now < each.end for each in windows_at(now))


@given(instants)
def test_windows_tile_time(now: Instant) -> None:
    for at, each in enumerate(windows_at(now)):
        assert windows_at(each.start)[at] == windows_at(Instant(each.end - 1))[at] == each
        assert windows_at(each.end)[at].start == each.end
        assert windows_at(Instant(each.start - 1))[at].end == each.start


@given(instants)
def test_hours_lie_in_days_and_days_in_months(now: Instant) -> None:
    hour, day, month, _ = windows_at(now)
    assert month.start <= day.start <= hour.start < hour.end <= day.end <= month.end
    assert (hour.end - hour.start, day.end - day.start) == (HOUR, DAY)
    first, moment = (datetime.fromtimestamp(at / 1_000_000, UTC) for at in (month.start, now))
    assert (first.year, first.month, first.day) == (moment.year, moment.month, 1)


@given(instants)
def test_costs_are_counted_over_the_month_that_actions_are_counted_over(now: Instant) -> None:
    month, costs = windows_at(now)[2:]
    assert costs == month._replace(kind=WindowKind.COST_MONTH)


@pytest.mark.parametrize("cost_units", [0, 1, 7])
def test_an_action_counts_as_one_and_in_costs_as_what_it_costs(cost_units: int) -> None:
    counted = {kind: counts(kind, cost_units) for kind in WindowKind}
    assert counted == {**dict.fromkeys(WindowKind, 1), WindowKind.COST_MONTH: cost_units}
