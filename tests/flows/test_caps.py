"""Caps are exact: in every window, under any concurrency, on any number of gateways (promise 3)."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from app.delegations.endings import revoke
from app.proxy.attempts import Admission, CapHit, Go, No
from app.rules.entries import Event
from app.rules.errors import Code
from app.rules.ids import HOUR
from app.rules.instants import rfc3339
from app.rules.windows import WindowKind, windows_at
from app.store.engine import Tx, wall_clock
from app.store.hot import See, Step, Write
from app.store.tables import Dispatch, UsageWindow
from tests.flows.conftest import POSTGRES
from tests.flows.nodes import NOT_SENT, REJECTED, TIMED_OUT, Change, Node, Rewired, node
from tests.flows.pausing import gate, paused
from tests.world import Lent, World, opened

CAPS = [
    ("max_actions_per_hour", WindowKind.HOUR, Code.CAP_HOUR),
    ("max_actions_per_day", WindowKind.DAY, Code.CAP_DAY),
    ("max_actions_per_month", WindowKind.MONTH, Code.CAP_MONTH),
    ("max_cost_units_per_month", WindowKind.COST_MONTH, Code.CAP_COST),
]


def answers(admissions: list[Admission]) -> Counter[str]:
    """How many were admitted, and refused with which code."""
    return Counter(each.code if isinstance(each, No) else type(each).__name__ for each in admissions)


async def used(world: World, lent: Lent) -> dict[WindowKind, int]:
    """What the delegation's windows have counted."""
    rows = await world.rows(UsageWindow, UsageWindow.delegation_id == lent.id)
    return {row.kind: row.used for row in rows}


async def at_once(at: Node, lent: Lent, count: int, **given: Any) -> list[Admission]:
    """So many simultaneous attempts."""
    return await asyncio.gather(*(at.admit(lent, **given) for _ in range(count)))


@pytest.mark.parametrize(("limit", "kind", "code"), CAPS)
async def test_a_window_admits_exactly_its_cap_of_attempts_made_at_once(
    world: World, limit: str, kind: WindowKind, code: Code
) -> None:
    lent = await world.delegation(None, **{limit: 10})
    async with node(world) as at:
        assert answers(await at_once(at, lent, 50)) == {"Go": 10, code: 40}
    assert set((await used(world, lent)).values()) == {10}


async def test_the_narrowest_window_decides_and_none_counts_what_another_refuses(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=9, max_actions_per_day=4, max_actions_per_month=7)
    async with node(world) as at:
        assert answers(await at_once(at, lent, 20)) == {"Go": 4, Code.CAP_DAY: 16}
        assert answers(await at_once(at, lent, 20)) == {Code.CAP_DAY: 20}
    assert await used(world, lent) == dict.fromkeys(WindowKind, 4)


async def test_several_batches_share_a_window(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=5)
    async with node(world) as at:
        one_by_one = [await at.admit(lent) for _ in range(8)]
    assert [isinstance(each, Go) for each in one_by_one] == [True] * 5 + [False] * 3


async def test_bindings_of_one_delegation_share_its_windows_and_delegations_do_not(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=3)
    bound = await world.bind(lent)
    other = await world.delegation(lent.delegator, max_actions_per_hour=3)
    async with node(world) as at:
        attempts = [at.admit(each) for each in (lent, bound, other) for _ in range(5)]
        admissions = await asyncio.gather(*attempts)
    assert answers(admissions[:10]) == {"Go": 3, Code.CAP_HOUR: 7}
    assert answers(admissions[10:]) == {"Go": 3, Code.CAP_HOUR: 2}


async def test_a_refusal_of_another_kind_consumes_nothing(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=1, max_request_bytes=10)
    async with node(world) as at:
        await at.no(lent, path="/elsewhere")
        await at.no(lent, method="POST", path="/v1/receipts", size=11)
        assert await used(world, lent) == {}
        await at.go(lent)


async def test_a_full_window_says_when_it_ends(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=1)
    async with node(world) as at:
        await at.go(lent)
        before = windows_at(wall_clock())[0].end - wall_clock()
        cap = (await at.no(lent)).cap
    assert isinstance(cap, CapHit)
    assert (cap.name, cap.cap, cap.window_seconds) == ("hour", 1, 3600)
    assert abs(cap.resets_in - before / 1_000_000) <= 2


async def test_a_reservation_comes_back_only_if_no_byte_was_sent(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=4)
    async with node(world) as at:
        for sent in (REJECTED, TIMED_OUT):
            await at.perform(lent, sent)
        for _ in range(5):
            await at.perform(lent, NOT_SENT)
        assert await used(world, lent) == dict.fromkeys(WindowKind, 2)
        assert answers(await at_once(at, lent, 5)) == {"Go": 2, Code.CAP_HOUR: 3}


async def test_a_reservation_comes_back_also_when_its_right_has_ended_meanwhile(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        go = await at.go(lent)
        await world.made(revoke, lent.delegator.owner, lent.id, "over")
        await at.complete(go, NOT_SENT)
    assert await used(world, lent) == dict.fromkeys(WindowKind, 0)


async def test_what_earlier_windows_counted_is_past(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=2)
    async with node(world) as at:
        await at_once(at, lent, 2)
        await world.write(_an_hour_ago)
        assert answers(await at_once(at, lent, 5)) == {"Go": 2, Code.CAP_HOUR: 3}


async def dear(world: World, **limits: Any) -> Lent:
    """A delegation of which one action costs three units."""
    delegator = await world.tenant()
    await world.action(delegator, await world.upstream(delegator), cost_units=3)
    return await world.delegation(delegator, **limits)


async def test_costs_are_admitted_whole_up_to_their_cap_however_many_ask_at_once(world: World) -> None:
    lent = await dear(world, max_cost_units_per_month=10)
    async with node(world) as at:
        assert answers(await at_once(at, lent, 20)) == {"Go": 3, Code.CAP_COST: 17}
        assert answers(await at_once(at, lent, 5)) == {Code.CAP_COST: 5}
    actions = dict.fromkeys((WindowKind.HOUR, WindowKind.DAY, WindowKind.MONTH), 3)
    assert await used(world, lent) == {**actions, WindowKind.COST_MONTH: 9}


async def test_costs_come_back_only_if_no_byte_was_sent(world: World) -> None:
    lent = await dear(world, max_cost_units_per_month=6)
    async with node(world) as at:
        for _ in range(3):
            await at.perform(lent, NOT_SENT)
        await at.perform(lent, TIMED_OUT)
        assert (await used(world, lent))[WindowKind.COST_MONTH] == 3
        assert answers(await at_once(at, lent, 3)) == {"Go": 1, Code.CAP_COST: 2}


async def test_what_was_used_before_a_cap_counts_against_it(world: World) -> None:
    lent = await dear(world)
    async with node(world) as at:
        await at_once(at, lent, 3)
        await world.amend(lent, max_cost_units_per_month=12, max_actions_per_day=4)
        assert answers(await at_once(at, lent, 3)) == {"Go": 1, Code.CAP_DAY: 2}
        await world.amend(lent, clear=["maxActionsPerDay"])
        assert answers(await at_once(at, lent, 3)) == {Code.CAP_COST: 3}
        await world.amend(lent, max_cost_units_per_month=15)
        assert answers(await at_once(at, lent, 3)) == {"Go": 1, Code.CAP_COST: 2}


# -- what both sides are told


async def told(world: World, lent: Lent) -> list[dict[str, Any]]:
    """What the ledgers say of exhausted windows: both the same."""
    theirs, mine = [
        [entry["details"] for entry in await world.ledger(member, Event.QUOTA_EXHAUSTED)]
        for member in (lent.delegator, lent.delegate)
    ]
    assert theirs == mine
    return mine


async def test_both_sides_are_told_once_of_a_window_that_fills_up(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=3, max_actions_per_day=9)
    async with node(world) as at:
        gone = [await at.go(lent) for _ in range(2)]
        assert await told(world, lent) == []
        gone.append(await at.go(lent))
        (entry,) = await told(world, lent)
        resets_at = rfc3339(windows_at(gone[-1].row.requested_at)[0].end)
        assert entry == {"kind": "HOUR", "limit": 3, "used": 3, "resetsAt": resets_at, "termsVersion": 1}
        # neither refusals nor what is given back and used once more
        await at.no(lent)
        for go in gone:
            await at.complete(go, NOT_SENT)
        await at_once(at, lent, 6)
        assert await told(world, lent) == [entry]


async def test_of_several_windows_that_fill_up_at_once_each_is_told(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=2, max_actions_per_month=2, max_cost_units_per_month=2)
    async with node(world) as at:
        await at_once(at, lent, 5)
    assert [entry["kind"] for entry in await told(world, lent)] == ["HOUR", "MONTH", "COST_MONTH"]


async def test_a_cost_window_with_something_left_is_told_of_at_its_first_refusal(world: World) -> None:
    lent = await dear(world, max_cost_units_per_month=4)
    async with node(world) as at:
        await at.go(lent)
        assert await told(world, lent) == []
        for _ in range(2):
            assert (await at.no(lent)).code is Code.CAP_COST
    (entry,) = await told(world, lent)
    assert (entry["kind"], entry["limit"], entry["used"]) == ("COST_MONTH", 4, 3)


async def test_a_window_that_a_lower_cap_finds_full_is_told_of_at_its_first_refusal(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        await at_once(at, lent, 3)
        await world.amend(lent, max_actions_per_hour=2)
        assert await told(world, lent) == []
        await at.no(lent)
    (entry,) = await told(world, lent)
    assert (entry["limit"], entry["used"], entry["termsVersion"]) == (2, 3, 2)


async def test_the_next_window_is_told_of_again(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=1)
    async with node(world) as at:
        await at.go(lent)
        await world.write(_an_hour_ago)
        await at.go(lent)
    assert [entry["kind"] for entry in await told(world, lent)] == ["HOUR", "HOUR"]


def _an_hour_ago(tx: Tx) -> None:
    for row in tx.query(UsageWindow).where(UsageWindow.kind == WindowKind.HOUR):
        row.starts_at = row.starts_at - HOUR  # type: ignore[assignment]  # still an instant
    for dispatch in tx.query(Dispatch):
        dispatch.requested_at = dispatch.requested_at - HOUR  # type: ignore[assignment]


# -- more than one gateway


@POSTGRES
async def test_two_gateways_admit_one_cap_between_them(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=20)
    async with opened(world.settings) as other, node(world) as one, node(other) as two:
        attempts = [at.admit(lent) for _ in range(30) for at in (one, two)]
        assert answers(await asyncio.gather(*attempts)) == {"Go": 20, Code.CAP_HOUR: 40}


async def admitted_by_two(world: World, lent: Lent, change: Change) -> int:
    """How many two gateways admit of ten attempts each, when the second begins while the first has not written yet."""
    async with (
        opened(world.settings) as other,
        gate(world) as closed,
        node(world, Rewired(world.store, change)) as one,
        node(other, Rewired(other.store, change)) as two,
    ):
        first = asyncio.ensure_future(at_once(one, lent, 10))
        await closed.waiting()
        second = asyncio.ensure_future(at_once(two, lent, 10))
        await closed.blocked()
        await closed.open()
        return answers([*await first, *await second])["Go"]


def unlocked(statement: Step | See | Write) -> list[Step | See | Write]:
    """The broken variant: select, then update, with nothing locked in between."""
    return [See([], [], statement.payloads)] if isinstance(statement, See) else paused(statement)


@POSTGRES
async def test_a_gateway_waits_for_the_other_before_it_counts(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=15)
    assert await admitted_by_two(world, lent, paused) == 15


@POSTGRES
async def test_the_harness_catches_windows_that_are_read_without_a_lock(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=15)  # neither sees it fill up
    assert await admitted_by_two(world, lent, unlocked) == 20
    async with node(world) as at:
        assert (await at.no(lent)).code is Code.CAP_HOUR
