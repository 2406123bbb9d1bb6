"""The form of our secrets: a typing error is told from a token before anybody asks the database."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.tokens import TokenKind, render, shown, well_formed

LENGTH = {TokenKind.API_KEY: 53, TokenKind.OFFER: 53, TokenKind.LIVE: 58, TokenKind.TEST: 58}

kinds = some.sampled_from(TokenKind)
randoms = some.binary(min_size=32, max_size=32)
EXTREMES = [bytes(32), b"\xff" * 32, bytes(31) + b"\x01", b"\x01" + bytes(31)]


@given(kinds, randoms)
def test_a_token_has_its_prefix_a_fixed_length_and_is_well_formed(kind: TokenKind, random: bytes) -> None:
    text = render(kind, random)
    assert text.startswith(kind.value)
    assert len(text) == LENGTH[kind]
    assert text.removeprefix(kind.value).isalnum()
    assert well_formed(kind, text)


@pytest.mark.parametrize("random", EXTREMES)
@pytest.mark.parametrize("kind", TokenKind)
def test_the_smallest_and_the_largest_numbers_fit(kind: TokenKind, random: bytes) -> None:
    assert well_formed(kind, render(kind, random))


@given(kinds, randoms, randoms)
def test_two_numbers_are_two_tokens(kind: TokenKind, one: bytes, other: bytes) -> None:
    assert (render(kind, one) == render(kind, other)) == (one == other)


@given(kinds, randoms, some.data())
def test_no_single_changed_character_passes(kind: TokenKind, random: bytes, data: some.DataObject) -> None:
    text = render(kind, random)
    at = data.draw(some.integers(0, len(text) - 1))
    other = data.draw(some.characters(codec="utf-8").filter(lambda each: each != text[at]))
    assert not well_formed(kind, text[:at] + other + text[at + 1 :])


@pytest.mark.parametrize("kind", TokenKind)
def test_no_single_changed_character_passes_anywhere_in_one_token(kind: TokenKind) -> None:
    text = render(kind, bytes(range(32)))
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-"
    changed = (
        text[:at] + other + text[at + 1 :]
        for at in range(len(text))
        for other in alphabet
        if other != text[at]
    )
    assert not [each for each in changed if well_formed(kind, each)]


@given(kinds, randoms, some.data())
def test_no_missing_added_or_swapped_character_passes(
    kind: TokenKind, random: bytes, data: some.DataObject
) -> None:
    text = render(kind, random)
    at = data.draw(some.integers(0, len(text) - 2))
    swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    assert not well_formed(kind, text[:at] + text[at + 1 :])
    assert not well_formed(kind, text[:at] + "0" + text[at:])
    assert swapped == text or not well_formed(kind, swapped)


@given(randoms, kinds, kinds)
def test_a_token_of_one_kind_is_none_of_another(random: bytes, kind: TokenKind, other: TokenKind) -> None:
    assert well_formed(other, render(kind, random)) == (kind is other)


@pytest.mark.parametrize("kind", TokenKind)
@pytest.mark.parametrize("wrong", ["", "cgk_", "cgo_", "cgt_live_", "cgt_test_", "x" * 53, "cgo_" + "0" * 49])
def test_what_only_looks_like_a_token_is_none(kind: TokenKind, wrong: str) -> None:
    assert not well_formed(kind, wrong)


@pytest.mark.parametrize("around", [" {}", "{} ", "{}\n", "\n{}", "{}\0"])
def test_nothing_may_stand_around_a_token(around: str) -> None:
    text = render(TokenKind.LIVE, bytes(32))
    assert not well_formed(TokenKind.LIVE, around.format(text))


@given(kinds, randoms)
def test_lists_show_too_little_of_a_token_to_use_it(kind: TokenKind, random: bytes) -> None:
    text = render(kind, random)
    assert text.startswith(shown(kind, text))
    assert len(shown(kind, text)) == len(kind.value) + 6
