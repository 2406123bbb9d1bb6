"""An entry has one byte form: RFC 8785's, over which its leaf hash stands."""

from hashlib import sha256
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as some

from app.rules.entries import Event, canonical, event_filter, leaf_hash

keys = some.text(some.characters(codec="ascii"), max_size=8)
#: What an entry may hold; see the head of app/rules/entries.py.
values: some.SearchStrategy[Any] = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**53) + 1, 2**53 - 1) | some.text(max_size=12),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
CONTROLS = {"all": "".join(map(chr, range(0x20))) + '"\\/\x7f\u2028\u2029'}


@given(some.dictionaries(keys, values, max_size=6))
@example(CONTROLS)
@example({"z": 1, "a": 2, "A": 3, "_": 4, "aa": 5, "a\0": 6})
@example({"text": "é€\U0001f600", "most": 2**53 - 1, "least": -(2**53) + 1, "nothing": None})
def test_the_canonical_form_is_that_of_rfc_8785(entry: dict[str, Any]) -> None:
    assert canonical(entry) == rfc8785.dumps(entry)


@given(some.dictionaries(keys, values, max_size=6))
def test_the_order_in_which_an_entry_was_put_together_does_not_show(entry: dict[str, Any]) -> None:
    assert canonical(dict(reversed(entry.items()))) == canonical(entry)


def test_the_leaf_hash_is_that_of_rfc_6962() -> None:
    # The hash of the leaf 0x00 in the reference test vectors of Certificate Transparency.
    assert leaf_hash(b"\0") == "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
    # And of the empty leaf.
    assert leaf_hash(b"") == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


def test_the_leaf_hash_of_an_entry_does_not_change_from_release_to_release() -> None:
    form = canonical({"seq": 1, "event": Event.OFFERED, "actor": None, "details": {"reason": "Zoë\n"}})
    assert (
        form == '{"actor":null,"details":{"reason":"Zoë\\n"},"event":"delegation.offered","seq":1}'.encode()
    )
    assert leaf_hash(form) == sha256(b"\0" + form).hexdigest()


@pytest.mark.parametrize(
    ("globs", "matching"),
    [
        (["delegation.offered"], {"delegation.offered"}),
        (["delegation.off*"], {"delegation.offered"}),
        (["token.*", "binding.created"], {"token.issued", "token.rotated", "binding.created"}),
        (
            ["binding.*"],
            {"binding.created", "binding.revoked", "binding.trust_lost", "binding.trust_regained"},
        ),
        (["*.revoked"], {"delegation.revoked", "binding.revoked", "api_key.revoked"}),
        (["agent.*ed"], {"agent.registered", "agent.updated", "agent.trust_reported"}),
        (["token.issue?"], {"token.issued"}),
        (["*"], set(Event)),
        (["delegation"], set()),
        (["elegation.offered"], set()),
        (["delegation.offere"], set()),
        (["DELEGATION.*"], set()),
        (["delegationXoffered"], set()),
        (["nothing.*"], set()),
    ],
)
def test_a_filter_takes_names_and_globs_and_matches_whole_names(globs: list[str], matching: set[str]) -> None:
    matches = event_filter(globs)
    assert matches is not None
    assert {event.value for event in Event if matches(event.value)} == {str(event) for event in matching}


@pytest.mark.parametrize("globs", [None, [], ()])
def test_no_filter_lets_every_event_pass(globs: list[str] | None) -> None:
    assert event_filter(globs) is None


@pytest.mark.parametrize("glob", ["[", "]", "[!", "a[b", "(", "*" * 40 + "x", "?" * 50, "[z-a]", "|", "\\"])
def test_no_glob_is_too_odd_or_too_slow(glob: str) -> None:
    matches = event_filter([glob])
    assert matches is not None
    assert not matches("a" * 200)
