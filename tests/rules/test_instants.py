"""Instants as text: RFC 3339 in UTC, to the microsecond, and back."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.ids import Instant
from app.rules.instants import parse_rfc3339, rfc3339

FIRST, LAST = (
    Instant(
        int((datetime(year, month, day, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
        * 10**6
    )
    for year, month, day in ((1, 1, 1), (9999, 12, 31))
)


@given(some.integers(FIRST, LAST).map(Instant))
def test_text_and_back_is_the_same_instant(at: Instant) -> None:
    assert parse_rfc3339(rfc3339(at)) == at


@given(some.integers(FIRST, LAST).map(Instant), some.integers(FIRST, LAST).map(Instant))
def test_texts_sort_as_instants_do(one: Instant, other: Instant) -> None:
    assert (rfc3339(one) < rfc3339(other)) == (one < other)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T19:00:00-05:00", 0),
        ("2026-11-20T10:22:00.5Z", 1_795_170_120_500_000),
    ],
)
def test_an_instant_is_read_in_any_offset(text: str, at: int) -> None:
    assert parse_rfc3339(text) == at


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "0", "2026", "2026-11-20", "10:22:00Z", "T10:22:00Z"),
        *(
            "2026-11-20T10:22:00",
            "2026-11-20 10:22:00Z",
        ),
        *("2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-11-20T25:00:00Z", "2026-11-20T10:60:00Z"),
        *("2026-11-20T10:22:00+25:00", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z"),
        *(
            "2026-11-20T10:22:00ZZ",
            " 2026-11-20T10:22:00Z",
            "2026-11-20T10:22:00Z\n",
        ),
        "\uff12026-11-20T10:22:00Z",
    ],
)
def test_what_is_no_instant_or_says_no_offset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)
