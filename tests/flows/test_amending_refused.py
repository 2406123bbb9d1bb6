"""What no amendment does: bad input leaves the terms, the ledgers and all else as they are, and names its field."""

from dataclasses import replace
from typing import Any

import pytest

from app.delegations.amending import Amendment, acknowledge, amend_delegation
from app.delegations.endings import revoke
from app.rules.amendments import Changes
from app.rules.errors import Code, Refusal
from app.rules.ids import DAY, SECOND, Instant
from app.rules.limits import LARGEST_CAP, LARGEST_METADATA, MOST_NETWORKS
from app.rules.texts import LONGEST_TEXT
from app.store.engine import Tx, wall_clock
from app.store.tables import Binding, Delegation, Row, ScopedToken, TermsVersion
from tests.flows.nodes import node
from tests.world import SCOPES, Lent, World

READ, WRITE = SCOPES
PAST, FUTURE = -SECOND, 367 * DAY  # from now

LIMITS: list[tuple[dict[str, Any], Code, tuple[str, ...]]] = [
    ({"max_actions_per_hour": 0}, Code.CAP_INVALID, ("maxActionsPerHour",)),
    ({"max_actions_per_day": -1}, Code.CAP_INVALID, ("maxActionsPerDay",)),
    ({"max_actions_per_month": LARGEST_CAP + 1}, Code.CAP_INVALID, ("maxActionsPerMonth",)),
    ({"max_cost_units_per_month": 0}, Code.CAP_INVALID, ("maxCostUnitsPerMonth",)),
    ({"max_request_bytes": 0}, Code.CAP_INVALID, ("maxRequestBytes",)),
    ({"require_trust_score_above": 100}, Code.INVALID, ("requireTrustScoreAbove",)),
    ({"ip_allowlist": ("10.0.0.0/8", "nonsense")}, Code.CIDR_INVALID, ("ipAllowlist", "1")),
    ({"ip_allowlist": ("10.0.0.0/8",) * (MOST_NETWORKS + 1)}, Code.LIMIT_REACHED, ("ipAllowlist",)),
    ({"condition": "request.bytes <"}, Code.CONDITION_INVALID, ("condition",)),
    ({"condition": "nobody.knows == 1"}, Code.CONDITION_INVALID, ("condition",)),
    ({"deny_patterns": ("fine", "(")}, Code.PATTERN_INVALID, ("denyPatterns", "1")),
    ({"expires_at": PAST}, Code.EXPIRY_INVALID, ("expiresAt",)),
    ({"expires_at": FUTURE}, Code.EXPIRY_INVALID, ("expiresAt",)),
]
OTHERS: list[tuple[dict[str, Any], Code, tuple[str, ...]]] = [
    ({"scopes": []}, Code.INVALID, ("scopes",)),
    ({"scopes": [READ, "nobody:holds"]}, Code.SCOPE_NOT_HELD, ("scopes",)),
    ({"clear": ["maxActionsPerHour", "expiresAt"]}, Code.INVALID, ("clear", "1")),
    (
        {"clear": ["maxActionsPerHour"], "limits": {"max_actions_per_hour": 3}},
        Code.INVALID,
        ("clear", "0"),
    ),
    ({"metadata": "x" * LARGEST_METADATA}, Code.INVALID, ("metadata",)),
    ({}, Code.INVALID, ()),
    ({"limits": {"max_actions_per_hour": 9}, "scopes": [READ]}, Code.INVALID, ()),  # as it is already
]


def _everything(tx: Tx) -> list[tuple[Any, ...]]:
    return [tuple(row) for table in Row.metadata.sorted_tables for row in tx.execute(table.select())]


async def refused(world: World, lent: Lent, asked: Amendment) -> Refusal:
    """Why an amendment is refused, and that it changes no row."""
    before = await world.read(_everything)
    refusal = await world.write(amend_delegation, lent.delegator.owner, asked)
    assert await world.read(_everything) == before
    assert isinstance(refusal, Refusal)
    return refusal


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [*(({"limits": limits}, code, path) for limits, code, path in LIMITS), *OTHERS],
)
async def test_bad_input_names_its_field_and_changes_nothing(
    world: World, given: dict[str, Any], code: Code, path: tuple[str, ...]
) -> None:
    lent = await world.delegation(scopes=[READ], max_actions_per_hour=9)
    changes = Changes(**given)
    if until := changes.limits.get("expires_at"):
        changes = replace(changes, limits={"expires_at": Instant(wall_clock() + until)})
    refusal = await refused(world, lent, Amendment(lent.id, 1, changes))
    assert (refusal.code, refusal.path) == (code, path)


@pytest.mark.parametrize("reason", ["", " ", "a\0b", "x" * (LONGEST_TEXT + 1)])
async def test_a_reason_is_given_in_words_or_not_at_all(world: World, reason: str) -> None:
    lent = await world.delegation()
    refusal = await refused(
        world, lent, Amendment(lent.id, 1, Changes(limits={"max_actions_per_hour": 3}), reason)
    )
    assert (refusal.code, refusal.path) == (Code.INVALID, ("reason",))


async def test_bad_input_leaves_a_proposal_open(world: World) -> None:
    lent = await world.delegation(scopes=[READ])
    await world.amend(lent, scopes=[READ, WRITE])
    await refused(world, lent, Amendment(lent.id, 1, Changes(limits={"max_actions_per_hour": 0})))
    proposed = await world.row(TermsVersion, lent.id, 2)
    await world.made(acknowledge, lent.delegate.owner, lent.id, proposed.hash)


@pytest.mark.parametrize("off", [-1, 1])
async def test_another_version_than_that_in_force_changes_nothing(world: World, off: int) -> None:
    lent = await world.delegation(max_actions_per_hour=9)
    await world.amend(lent, max_actions_per_hour=8)
    refusal = await refused(world, lent, Amendment(lent.id, 2 + off, Changes(clear=["maxActionsPerHour"])))
    assert refusal.code is Code.VERSION_CONFLICT


async def test_the_version_of_a_proposal_is_not_that_in_force(world: World) -> None:
    lent = await world.delegation(scopes=[READ])
    await world.amend(lent, scopes=[READ, WRITE])
    asked = Amendment(lent.id, 2, Changes(limits={"max_actions_per_hour": 3}))
    assert (await refused(world, lent, asked)).code is Code.VERSION_CONFLICT


async def test_a_wrong_hash_acknowledges_nothing(world: World) -> None:
    lent = await world.delegation(scopes=[READ])
    await world.amend(lent, scopes=[READ, WRITE])
    before = await world.read(_everything)
    for wrong in ("", "made up", (await world.row(TermsVersion, lent.id, 2)).hash.upper()):
        refusal = await world.write(acknowledge, lent.delegate.owner, lent.id, wrong)
        assert isinstance(refusal, Refusal)
        assert refusal.code is Code.TERMS_CHANGED
    assert await world.read(_everything) == before


async def test_what_has_ended_is_neither_amended_nor_acknowledged(world: World) -> None:
    lent = await world.delegation(scopes=[READ])
    await world.amend(lent, scopes=[READ, WRITE])
    proposed = await world.row(TermsVersion, lent.id, 2)
    await world.made(revoke, lent.delegate.owner, lent.id, "over")
    asked = Amendment(lent.id, 1, Changes(limits={"max_actions_per_hour": 3}))
    assert (await refused(world, lent, asked)).code is Code.WRONG_STATE
    refusal = await world.write(acknowledge, lent.delegate.owner, lent.id, proposed.hash)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.WRONG_STATE


# -- what scopes that were taken away leave


async def test_terms_whose_every_scope_is_only_proposed_can_be_amended_otherwise(world: World) -> None:
    """All scopes were exchanged, so that none is in force until the delegate agrees."""
    lent = await world.delegation(scopes=[READ])
    await world.amend(lent, scopes=[WRITE])
    for changes in (
        Changes(limits={"max_actions_per_hour": 3}),
        Changes(limits={"expires_at": world.later(60)}),
        Changes(clear=["maxActionsPerHour"]),
    ):
        version = (await world.row(Delegation, lent.id)).terms_version
        amended = await world.write(
            amend_delegation, lent.delegator.owner, Amendment(lent.id, version, changes)
        )
        assert not isinstance(amended, Refusal), amended


async def test_a_proposal_is_taken_back_by_asking_for_the_scopes_that_there_are(world: World) -> None:
    lent = await world.delegation(scopes=[READ])
    await world.amend(lent, scopes=[READ, WRITE])
    await world.amend(lent, scopes=[READ])
    assert [row.version for row in await world.rows(TermsVersion)] == [1]


# -- tokens


async def test_no_token_outlives_its_delegation_also_one_that_is_being_replaced(world: World) -> None:
    """Of two that overlap the old one ends when its successor does, or sooner."""
    lent = await world.delegation(lives=5 * DAY / SECOND)
    await world.rotate(lent, overlap=86_400)
    until = world.later(600)
    await world.amend(lent, expires_at=until)
    tokens = await world.rows(ScopedToken)
    assert len(tokens) == 2
    assert max(token.expires_at for token in tokens) == until


async def test_a_token_that_is_being_replaced_is_not_kept_by_a_later_expiry(world: World) -> None:
    lent = await world.delegation(lives=3_600)
    await world.rotate(lent, overlap=60)
    (old, _) = await world.rows(ScopedToken)
    await world.amend(lent, expires_at=world.later(90 * DAY / SECOND))
    assert (await world.row(ScopedToken, old.id)).expires_at == old.expires_at == old.rotated_at


async def test_no_amendment_brings_back_what_has_expired(world: World) -> None:
    lent = await world.delegation(lives=60 * DAY / SECOND)
    token = lent.bound.issued
    await world.age(ScopedToken, token.id, expires_at=world.later(-1))
    await world.amend(lent, expires_at=world.later(90 * DAY / SECOND))
    assert (await world.row(ScopedToken, token.id)).expires_at < wall_clock()
    async with node(world) as at:
        assert (await at.no(lent)).code is Code.TOKEN_INVALID
    assert (await world.row(Binding, lent.binding.id)).revoked_at is None
