"""Server-sent events, however the network has cut them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.listen.sse import LARGEST, Event, Events, TooLong

STREAM = (
    b": a comment\n\n"
    b"event: next\nid: 7\ndata: {\ndata:  1}\n\n"
    b"data:x\r\ndata:y\r\n\r\n"
    b"event: of nothing\r\r"
    b"id: 8\rdata: \xc3\xa9\r\r"
    b"unknown: field\ndata\n\n"
    b"data: never ended\n"
)
SAID = [
    Event("next", "{\n 1}", "7"),
    Event("message", "x\ny", None),
    Event("message", "é", "8"),
    Event("message", "", None),
]


def said(pieces: list[bytes]) -> list[Event]:
    parser = Events()
    return [event for piece in pieces for event in parser.feed(piece)]


@given(st.lists(st.integers(0, len(STREAM))))
def test_events_are_the_same_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    assert said([STREAM[a:b] for a, b in pairwise(places)]) == SAID


def test_byte_by_byte_too() -> None:
    assert said([bytes([byte]) for byte in STREAM]) == SAID


def test_a_comment_has_no_part_in_an_event() -> None:
    assert said([b"event: next\n:\n:\ndata: 1\n\n:\n\n"]) == [Event("next", "1", None)]


@pytest.mark.parametrize("endless", [b"x" * 1024, b"data: " + b"x" * 1024 + b"\n"], ids=["line", "event"])
def test_what_never_ends_is_given_up(endless: bytes) -> None:
    parser = Events()
    for _ in range(LARGEST // 1024):
        assert [*parser.feed(endless[:1024])] == []
    with pytest.raises(TooLong):
        [*parser.feed(endless)]
