"""Keyset pages: every row once, in order, in either direction; cursors of this list and no other."""

from base64 import urlsafe_b64encode

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.api.pages import Keyset, Page, Slice, a_seq, an_id
from app.rules.errors import BadInput
from tests.api.test_http import post
from tests.api.toy import NUMBERS

AGENTS = Keyset("agent", an_id("agt"))
AGENT = "agt_01932b7a-0000-7000-8000-000000000001"


def rows(asked: Page[int], among: range) -> list[int]:
    """What a store answers: strictly between the keys, one more than the limit, in the direction of reading."""
    found = [n for n in among if asked.after is None or n > asked.after]
    found = [n for n in found if asked.before is None or n < asked.before]
    return (found[::-1] if asked.backward else found)[: asked.limit + 1]


def read(among: range, **arguments: int | str | None) -> Slice[int]:
    page = NUMBERS.page(**arguments)  # type: ignore[arg-type]  # each as the argument wants it
    return NUMBERS.slice(rows(page, among), page, lambda n: n)


@given(some.integers(0, 120), some.integers(1, 25))
def test_pages_in_either_direction_are_every_row_once(total: int, size: int) -> None:
    forward, cursor, more = [], None, True
    while more:
        page = read(range(total), first=size, after=cursor)
        forward += page.rows
        cursor, more = page.end, page.has_next
    backward: list[int] = []
    cursor, more = None, True
    while more:
        page = read(range(total), last=size, before=cursor)
        backward = page.rows + backward
        cursor, more = page.start, page.has_previous
    assert forward == backward == list(range(total))


def test_page_info_says_what_lies_on_either_side() -> None:
    middle = read(range(10), first=3, after=NUMBERS.cursor(3))
    assert (middle.rows, middle.has_next, middle.has_previous) == ([4, 5, 6], True, True)
    assert (middle.start, middle.end) == (NUMBERS.cursor(4), NUMBERS.cursor(6))
    back = read(range(10), last=3, before=NUMBERS.cursor(3))
    assert (back.rows, back.has_next, back.has_previous) == ([0, 1, 2], True, False)
    between = read(range(10), first=9, after=NUMBERS.cursor(2), before=NUMBERS.cursor(5))
    assert (between.rows, between.has_next) == ([3, 4], False)


def test_a_page_of_none_is_empty_but_says_that_there_are_more() -> None:
    assert read(range(10), first=0) == Slice([], True, False, None, None)
    assert read(range(0)) == Slice([], False, False, None, None)


def test_twenty_rows_where_nobody_says_how_many() -> None:
    assert len(read(range(200)).rows) == 20
    assert len(read(range(200), first=100).rows) == 100


@pytest.mark.parametrize("backward", [False, True])
def test_a_reader_that_looked_further_than_its_last_row_is_gone_on_from_there(backward: bool) -> None:
    page = Page(5, None, None, backward)
    found = NUMBERS.found([40], page, lambda n: n, more=True, reached=20 if backward else 60)
    assert found.rows == [40]
    far = found.start if backward else found.end
    assert far == NUMBERS.cursor(20 if backward else 60)
    nothing: Slice[int] = NUMBERS.found([], page, lambda n: n, more=True, reached=7)
    assert (nothing.start, nothing.end) == (NUMBERS.cursor(7), NUMBERS.cursor(7))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 101}, "first: 101 is not from 0 to 100"),
        ({"first": -1}, "first: -1 is not"),
        ({"last": 101}, "last: 101 is not"),
        ({"first": 1, "last": 1}, "last: give either first or last"),
    ],
)
def test_a_length_that_cannot_be_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(BadInput, match=f"^{message}"):
        NUMBERS.page(**arguments)  # type: ignore[arg-type]  # each as the argument wants it


def forged(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        *(
            "",
            "x",
            "=",
            "é",
            "!!!!",
            "a" * 301,
            AGENTS.cursor(AGENT),
            NUMBERS.cursor(5) + "=",
            NUMBERS.cursor(5) + "\n",
        ),
        *(
            forged(text)
            for text in ("number:", "number:-1", "number:05", "number:x", "number:\u0665", "number")
        ),
        *(forged(text) for text in (f"number:{2**63}", "number:1:2", "other:5", "number:\0")),
    ],
)
@pytest.mark.parametrize("argument", ["after", "before"])
def test_a_cursor_of_another_kind_is_refused(cursor: str, argument: str) -> None:
    with pytest.raises(BadInput, match=f"^{argument}: this is no cursor of this list"):
        NUMBERS.page(**{argument: cursor})  # type: ignore[arg-type]  # each as the argument wants it


@pytest.mark.parametrize("key", ["agt_x", "dlg_" + AGENT[4:], "\0", ""])
def test_a_cursor_by_id_holds_a_well_formed_id_of_its_kind(key: str) -> None:
    assert AGENTS.page(after=AGENTS.cursor(AGENT)).after == AGENT
    with pytest.raises(BadInput):
        AGENTS.page(after=AGENTS.cursor(key))


def test_cursors_are_opaque_and_short() -> None:
    assert NUMBERS.cursor(2**63 - 1).isascii()
    assert a_seq("9223372036854775807") == 2**63 - 1
    assert len(AGENTS.cursor(AGENT)) < 80


def test_a_connection_pages_over_the_wire(http: httpx2.Client) -> None:
    query = "query ($after: String) { things(first: 100, after: $after) { nodes { id } pageInfo { hasNextPage endCursor } } }"
    found: list[str] = []
    info = {"hasNextPage": True, "endCursor": None}
    while info["hasNextPage"]:
        things = post(http, query, variables={"after": info["endCursor"]}).json()["data"]["things"]
        found += [node["id"] for node in things["nodes"]]
        info = things["pageInfo"]
    assert found == [str(n) for n in range(1, 251)]
    [error] = post(http, query, variables={"after": "nonsense"}).json()["errors"]
    assert error["message"].startswith("after: ")
    assert error["extensions"] == {"code": "BAD_USER_INPUT"}
