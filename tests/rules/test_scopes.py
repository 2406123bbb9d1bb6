"""Scopes: `resource:verb`, lower case."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.errors import Code
from app.rules.scopes import LONGEST, is_scope, lendable, normal

SCOPES = ["a:b", "receipts:write", "v2.receipts:read-all", "0:0", "a_b:c_d", "r" * (LONGEST - 2) + ":w"]
NOT_SCOPES = [
    *("", ":", "receipts", "receipts:", ":write", "a:b:c"),
    *("Receipts:write", "receipts:Write", "récépts:read", "receipts:write ", " receipts:write"),
    *("receipts:write\n", "receipts :write", "-a:b", "a:.b", "_a:b", "a:b/c", "a:*", "*:*"),
    "r" * (LONGEST - 1) + ":w",
]


@pytest.mark.parametrize("text", SCOPES)
def test_a_scope_is_one(text: str) -> None:
    assert is_scope(text)


@pytest.mark.parametrize("text", NOT_SCOPES)
def test_what_is_not_a_scope_is_none(text: str) -> None:
    assert not is_scope(text)


@given(some.text(max_size=20))
def test_a_scope_needs_no_escape_in_json_or_sql(text: str) -> None:
    if is_scope(text):
        assert text.isascii()
        assert not set(text) & set("\"'\\%{}[] \n")


@given(some.lists(some.sampled_from(SCOPES)))
def test_the_normal_form_is_the_set_whatever_the_order(scopes: list[str]) -> None:
    form = normal(scopes)
    assert form == normal(reversed(scopes)) == sorted(form)
    assert set(form) == set(scopes)
    assert len(form) == len(set(form))


def test_an_offer_lends_what_the_agent_holds_or_less() -> None:
    assert lendable(["a:b"], ["a:b", "c:d"]) is None
    assert lendable(["c:d", "a:b"], ["a:b", "c:d"]) is None


def test_an_offer_of_nothing_is_refused() -> None:
    refusal = lendable([], ["a:b"])
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.INVALID, ("scopes",))


def test_an_offer_of_more_than_the_agent_holds_names_what_is_missing() -> None:
    refusal = lendable(["a:b", "z:z", "y:y"], ["a:b"])
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.SCOPE_NOT_HELD, ("scopes",))
    assert "y:y, z:z" in refusal.message
    assert "a:b" not in refusal.message
