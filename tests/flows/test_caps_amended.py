"""Caps that move while they are used: no admission exceeds the limit that is in force at its commit (promise 3)."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from app.proxy import evidence
from app.proxy.attempts import Admission, Go
from app.rules.entries import Event, Outcome
from app.rules.ids import DelegationId, Instant
from app.rules.terms import Terms, from_stored
from app.rules.windows import WindowKind, counts, windows_at
from app.store.tables import Dispatch, TermsVersion
from tests.flows.conftest import POSTGRES
from tests.flows.nodes import NOT_SENT, Node, node
from tests.world import SCOPES, Lent, World, opened

#: Up and down, and below what is used by then.
CAPS = (40, 10, 70, 30, 95, 60, 20, 120)


async def capped(world: World, lent: Lent, limit: str, cap: int) -> None:
    """Moves one cap."""
    limits: dict[str, Any] = {limit: cap}
    await world.amend(lent, **limits)


async def used_while_amended(world: World, lent: Lent, nodes: Sequence[Node], total: int, limit: str) -> None:
    """So many dispatches from all nodes at once, in waves, while the cap moves."""

    async def amending() -> None:
        for cap in CAPS:
            await capped(world, lent, limit, cap)
            await asyncio.sleep(0)

    async def acting(at: Node) -> list[Admission]:
        waves = range(0, total // len(nodes), 25)
        return [one for _ in waves for one in await asyncio.gather(*(at.admit(lent) for _ in range(25)))]

    await asyncio.gather(amending(), *(acting(each) for each in nodes))


async def exceeded(world: World, lent: Lent, kind: WindowKind) -> list[str]:
    """Admissions beyond the limit in force at their commit, and those that were judged by other terms.

    The clock of a batch and of an amendment is read under the delegation's lock, so their order is that of commits.
    """
    versions = await world.rows(TermsVersion, TermsVersion.delegation_id == lent.id)
    rows = await world.rows(Dispatch, Dispatch.delegation_id == lent.id, Dispatch.outcome != Outcome.REFUSED)
    faults = []
    used: Counter[Instant] = Counter()
    for row in sorted(rows, key=lambda row: row.requested_at):
        in_force = [each for each in versions if (each.in_force_at or 0) <= row.requested_at][-1]
        if row.terms_version != in_force.version:
            faults.append(f"judged by {row.terms_version} while {in_force.version} was in force")
        window = next(each for each in windows_at(row.requested_at) if each.kind is kind)
        used[window.start] += counts(kind, row.cost_units)
        cap = from_stored(in_force.constraints).cap(kind)
        if cap is not None and used[window.start] > cap:
            faults.append(f"{used[window.start]} of {cap}")
    return faults


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        ("max_actions_per_hour", WindowKind.HOUR),
        ("max_cost_units_per_month", WindowKind.COST_MONTH),
    ],
)
async def test_no_admission_exceeds_the_cap_in_force_at_its_commit(
    world: World, full: bool, limit: str, kind: WindowKind
) -> None:
    delegator = await world.tenant()
    upstream = await world.upstream(delegator)
    await world.action(delegator, upstream, SCOPES[0], cost_units=3)
    lent = await world.delegation(delegator, **{limit: 50})
    async with node(world) as at:
        await used_while_amended(world, lent, [at], 1_000 if full else 200, limit)
        await capped(world, lent, limit, 200)
        assert isinstance(await at.admit(lent), Go), "there is room again"
    assert await exceeded(world, lent, kind) == []


@POSTGRES
async def test_two_gateways_keep_to_a_cap_that_moves(world: World, full: bool) -> None:
    lent = await world.delegation(max_actions_per_hour=50)
    async with opened(world.settings) as other, node(world) as one, node(other) as two:
        await used_while_amended(world, lent, [one, two], 1_000 if full else 300, "max_actions_per_hour")
    assert await exceeded(world, lent, WindowKind.HOUR) == []


async def test_the_harness_catches_terms_that_are_remembered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant: a cache of terms by delegation, as if they never changed."""
    seen: dict[DelegationId, Terms] = {}
    real = evidence._standing

    def remembered(row: Sequence[Any]) -> evidence.Standing:
        standing = real(row)
        return standing._replace(terms=seen.setdefault(standing.delegation_id, standing.terms))

    monkeypatch.setattr(evidence, "_standing", remembered)
    lent = await world.delegation(max_actions_per_hour=50)
    async with node(world) as at:
        await used_while_amended(world, lent, [at], 100, "max_actions_per_hour")
    assert await exceeded(world, lent, WindowKind.HOUR)


async def test_a_cap_below_what_is_used_refuses_until_the_window_ends_or_it_is_raised(world: World) -> None:
    lent = await world.delegation(max_actions_per_day=5)
    async with node(world) as at:
        for _ in range(4):
            await at.go(lent)
        await world.amend(lent, max_actions_per_day=2)
        assert (await at.no(lent)).code == "CAP_DAY"
        await world.amend(lent, max_actions_per_day=5)
        await at.go(lent)
        assert (await at.no(lent)).code == "CAP_DAY"


async def test_an_exhausted_window_is_told_once_whatever_comes_back_and_however_the_cap_moves(
    world: World,
) -> None:
    lent = await world.delegation(max_actions_per_hour=2, max_actions_per_day=4)
    async with node(world) as at:
        await at.go(lent)
        await at.complete(await at.go(lent), NOT_SENT)  # the hour was full, and is not any more
        await at.go(lent)  # and is full again
        await at.no(lent)
        await world.amend(lent, max_actions_per_hour=3)
        await at.go(lent)
        await at.no(lent)
        await world.amend(lent, max_actions_per_hour=9)
        await at.go(lent)  # fills the day
        await at.no(lent)
    for member in (lent.delegator, lent.delegate):
        told = await world.ledger(member, Event.QUOTA_EXHAUSTED)
        assert [(entry["details"]["kind"], entry["details"]["used"]) for entry in told] == [
            ("HOUR", 2),
            ("DAY", 4),
        ]
