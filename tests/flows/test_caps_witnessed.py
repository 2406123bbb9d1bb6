"""Caps that move while they are used, proven without believing that clocks tell the order of commits (promise 3).

Each amendment is a witness: while it holds the delegation's lock it writes down which admissions there are by then, and
which of them were given back. What one witness has not seen and the next one has was admitted between them.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select

from app.delegations.amending import Amendment, amend_delegation
from app.proxy.attempts import Go
from app.rules.amendments import Changes
from app.rules.entries import Event, Outcome
from app.rules.errors import Refusal
from app.rules.ids import DispatchId, Instant
from app.rules.terms import from_stored
from app.rules.windows import WindowKind, counts, windows_at
from app.store.engine import Tx
from app.store.hot import See, Step, Write
from app.store.tables import Delegation, Dispatch, TermsVersion, UsageWindow
from tests.flows.conftest import POSTGRES
from tests.flows.nodes import ANSWERED, NOT_SENT, Change, Node, Rewired, node
from tests.flows.pausing import gate, paused
from tests.flows.waiting import until
from tests.world import SCOPES, Lent, World, opened

LIMITS = {
    WindowKind.HOUR: "max_actions_per_hour",
    WindowKind.DAY: "max_actions_per_day",
    WindowKind.COST_MONTH: "max_cost_units_per_month",
}
COSTS = (1, 3, 5)  # of what GET, PUT and POST do
CAP = 10  # at first
ACTORS = 20


@dataclass(frozen=True)
class Witness:
    """What an amendment found before its version came into force: admissions, those given back, and the windows."""

    version: int
    admitted: frozenset[DispatchId]
    returned: frozenset[DispatchId]
    used: Counter[Instant]


def _amended(tx: Tx, lent: Lent, version: int, kind: WindowKind, cap: int) -> Witness:
    asked = Amendment(lent.id, version, Changes(limits={LIMITS[kind]: cap}))
    amended = amend_delegation(tx, lent.delegator.owner, asked)
    assert not isinstance(amended, Refusal), amended
    tx.flush()
    rows = list(tx.scalars(select(Dispatch).where(Dispatch.delegation_id == lent.id)))
    windows = select(UsageWindow).where(UsageWindow.delegation_id == lent.id, UsageWindow.kind == kind)
    return Witness(
        amended.terms_version,
        frozenset(row.id for row in rows if row.outcome is not Outcome.REFUSED),
        frozenset(row.id for row in rows if row.outcome is Outcome.FAILED),
        Counter({row.starts_at: row.used for row in tx.scalars(windows)}),
    )


async def witnessed(world: World, lent: Lent, kind: WindowKind, cap: int) -> Witness:
    """Moves one cap, to where it is not."""
    version = (await world.row(Delegation, lent.id)).terms_version
    return await world.write(_amended, lent, version, kind, cap)


class Crowd:
    """Twenty who act again and again, at various costs, until they are told to stop; of some of it nothing is sent."""

    def __init__(self, nodes: Sequence[Node], lent: Lent) -> None:
        self.attempts, self._done = 0, False
        places = [nodes[number % len(nodes)] for number in range(ACTORS)]
        self._acts = [asyncio.ensure_future(self._acting(at, lent)) for at in places]

    async def _acting(self, at: Node, lent: Lent) -> None:
        while not self._done:
            method = random.choice(("GET", "PUT", "POST"))
            admission = await at.admit(lent, method=method, path=f"/v1/{method.lower()}")
            if isinstance(admission, Go):
                await at.complete(admission, random.choice((ANSWERED, ANSWERED, NOT_SENT)))
            self.attempts += 1

    async def attempted(self, more: int) -> None:
        """Until so many more attempts were made."""
        wanted = self.attempts + more

        async def enough() -> bool:
            return self.attempts >= wanted

        await until(enough)

    async def stop(self) -> None:
        self._done = True
        await asyncio.gather(*self._acts)


async def lending(world: World, kind: WindowKind, cap: int) -> Lent:
    """A delegation of three actions that cost more and more."""
    delegator = await world.tenant()
    upstream = await world.upstream(delegator)
    for method, cost in zip(("GET", "PUT", "POST"), COSTS, strict=True):
        await world.action(delegator, upstream, SCOPES[0], method, f"/v1/{method.lower()}", cost_units=cost)
    return await world.delegation(delegator, scopes=SCOPES[:1], **{LIMITS[kind]: cap})


async def moving(
    world: World, nodes: Sequence[Node], lent: Lent, kind: WindowKind, total: int
) -> list[Witness]:
    """So many attempts from all nodes at once, while the cap moves up and down."""
    crowd, witnesses, cap = Crowd(nodes, lent), list[Witness](), CAP
    while crowd.attempts < total:
        # Around what is used by then: above it, at it, and below.
        used = max(witnesses[-1].used.values(), default=0) if witnesses else 0
        cap = random.choice([each for each in range(max(1, used - 5), used + 15) if each != cap])
        witnesses.append(await witnessed(world, lent, kind, cap))
        await crowd.attempted(random.randrange(2 * ACTORS))
    await crowd.stop()
    witnesses.append(await witnessed(world, lent, kind, 10_000))
    return witnesses


async def faults(world: World, lent: Lent, kind: WindowKind, witnesses: Sequence[Witness]) -> list[str]:
    """What broke a cap, or was judged by terms that were not in force when it was committed."""
    rows = {row.id: row for row in await world.rows(Dispatch, Dispatch.delegation_id == lent.id)}
    versions = await world.rows(TermsVersion, TermsVersion.delegation_id == lent.id)
    caps = {row.version: from_stored(row.constraints).cap(kind) for row in versions}
    first = Witness(1, frozenset(), frozenset(), Counter())
    found: list[str] = []
    for before, after in zip([first, *witnesses[:-1]], witnesses, strict=True):
        cap = caps[before.version]
        assert cap is not None
        admitted = [rows[id] for id in after.admitted - before.admitted]
        returned = [rows[id] for id in after.returned - before.returned]
        found += [
            f"judged by version {row.terms_version}, committed under {before.version}"
            for row in admitted
            if row.terms_version != before.version
        ]
        # Between two witnesses the order is that of the batches' clocks. What a batch gives back, the next one sees.
        moves = [(row.requested_at, 0, row) for row in admitted]
        moves += [(row.finished_at or Instant(0), 1, row) for row in returned]
        used = before.used.copy()
        for _, back, row in sorted(moves, key=lambda move: move[:2]):
            start = next(each.start for each in windows_at(row.requested_at) if each.kind is kind)
            used[start] += counts(kind, row.cost_units) * (-1 if back else 1)
            if not back and used[start] > cap:
                found.append(f"{used[start]} of {cap} in version {before.version}")
        if +used != +after.used:
            found.append(f"the windows have counted {+after.used}, and not {+used}")
    return found


@pytest.mark.parametrize("kind", LIMITS)
async def test_no_admission_exceeds_a_cap_that_moves(world: World, kind: WindowKind, full: bool) -> None:
    lent = await lending(world, kind, CAP)
    async with node(world) as at:
        witnesses = await moving(world, [at], lent, kind, 1_000 if full else 300)
    assert await faults(world, lent, kind, witnesses) == []
    await non_vacuous(world, lent, witnesses)


@POSTGRES
@pytest.mark.parametrize("kind", LIMITS)
async def test_no_admission_by_either_of_two_gateways_exceeds_a_cap_that_moves(
    world: World, kind: WindowKind, full: bool
) -> None:
    lent = await lending(world, kind, CAP)
    async with opened(world.settings) as other, node(world) as one, node(other) as two:
        witnesses = await moving(world, [one, two], lent, kind, 1_000 if full else 300)
    assert await faults(world, lent, kind, witnesses) == []
    await non_vacuous(world, lent, witnesses)


async def non_vacuous(world: World, lent: Lent, witnesses: Sequence[Witness]) -> None:
    """There were admissions under several versions, refusals, and reservations given back; and one telling of it."""
    rows = await world.rows(Dispatch, Dispatch.delegation_id == lent.id)
    assert len({row.terms_version for row in rows if row.outcome is Outcome.COMPLETED}) >= 2
    assert any(row.outcome is Outcome.REFUSED for row in rows)
    assert witnesses[-1].returned
    told = await world.ledger(lent.delegate, Event.QUOTA_EXHAUSTED)
    assert len({entry["details"]["resetsAt"] for entry in told}) == len(told) >= 1


# -- what the harness catches


def unlocked(statement: Step | See | Write) -> list[Step | See | Write]:
    """The broken variant: caps and terms are read before the lock, or without one."""
    return [See([], [], statement.payloads)] if isinstance(statement, See) else paused(statement)


async def amended_meanwhile(world: World, lent: Lent, change: Change, *, waits: bool) -> list[str]:
    """What is found when a cap is lowered between what a batch has seen and what it writes."""
    async with node(world) as at:
        await at.go(
            lent, path="/v1/get"
        )  # which also notes that the token is used: for a minute no batch does again
    async with gate(world) as closed, node(world, Rewired(world.store, change)) as at:
        admissions = [asyncio.ensure_future(at.admit(lent, path="/v1/get")) for _ in range(5)]
        await closed.waiting()
        lowered = asyncio.ensure_future(witnessed(world, lent, WindowKind.HOUR, 2))
        if waits:
            await closed.blocked()
        else:
            await asyncio.wait([lowered])
        await closed.open()
        witnesses: list[Any] = [await lowered]
        assert all(isinstance(each, Go) for each in await asyncio.gather(*admissions))
    witnesses.append(await witnessed(world, lent, WindowKind.HOUR, 10_000))
    return await faults(world, lent, WindowKind.HOUR, witnesses)


@POSTGRES
async def test_an_amendment_waits_for_the_batch_that_has_judged_already(world: World) -> None:
    lent = await lending(world, WindowKind.HOUR, CAP)
    assert await amended_meanwhile(world, lent, paused, waits=True) == []


@POSTGRES
async def test_the_harness_catches_caps_that_are_read_before_the_lock(world: World) -> None:
    lent = await lending(world, WindowKind.HOUR, CAP)
    assert await amended_meanwhile(world, lent, unlocked, waits=False)
