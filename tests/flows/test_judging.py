"""What a request contains is judged beside the batches: by whoever has a right, and at nobody else's expense."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.delegations.endings import revoke
from app.proxy import judging
from app.proxy.attempts import Admission, Content, Go, No
from app.proxy.judging import Judges
from app.rules.admission import Judged, Unjudged
from app.rules.errors import Code, Unavailable
from app.rules.guards import Seen
from app.rules.ids import TenantId
from tests.flows.nodes import Node, node
from tests.flows.waiting import until
from tests.world import Lent, World

#: Too many for one moment, and none of them a number.
HEAVY = b"[" + b"1," * 4_000 + b"1]"


@asynccontextmanager
async def judged(world: World) -> AsyncIterator[tuple[Node, Judges]]:
    """A node whose requests have contents."""
    async with node(world) as at:
        judges = Judges(at.committer)
        yield at, judges
        judges.close()


async def write(at: Node, judges: Judges, lent: Lent, body: bytes) -> Admission:
    """What is said to an action that carries a body."""
    attempt = at.attempt(lent, method="POST", path="/v1/receipts", size=len(body))
    return await judges.admit(attempt, Content("", [("content-type", "application/json")], body))


async def test_guards_that_change_are_met_at_the_next_request(world: World) -> None:
    lent = await world.delegation(condition="request.bytes < 9")
    async with judged(world) as (at, judges):
        assert isinstance(await write(at, judges, lent, b"1"), Go)
        await world.amend(lent, condition="request.bytes > 9")
        refused = await write(at, judges, lent, b"1")
        assert isinstance(refused, No)
        assert refused.code is Code.CONDITION_NOT_MET
        await world.amend(lent, clear=["condition"])
        assert isinstance(await write(at, judges, lent, b"1"), Go)


async def test_whoever_has_no_right_has_nothing_judged_that_takes_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = await world.delegation(deny_patterns=("[ab]{90}c",))
    seen: list[int] = []
    real = judging.judgement

    def counted(by: Unjudged, request: Seen) -> Judged:
        seen.append(len(request.body))
        return real(by, request)

    monkeypatch.setattr(judging, "judgement", counted)
    async with judged(world) as (at, judges):
        assert isinstance(await write(at, judges, lent, HEAVY), Go)
        assert seen == [len(HEAVY)]
        await world.made(revoke, lent.delegator.owner, lent.id, "over")
        refused = await write(at, judges, lent, HEAVY)
        assert isinstance(refused, No)
        assert refused.code is Code.DELEGATION_REVOKED
        assert seen == [len(HEAVY)], "the guards it had met are not asked for a dead right"


async def test_who_is_slow_waits_for_themselves_and_nobody_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_QUEUE", 3)
    slow, quick = TenantId("ten_slow"), TenantId("ten_quick")
    release, under_way = threading.Event(), []

    def hang() -> str:
        under_way.append(1)
        assert release.wait(30)
        return "slow"

    async with judged(world) as (_, judges):
        waiting = [asyncio.ensure_future(judges.aside((slow, "acts"), hang)) for _ in range(3)]
        await until(lambda: _is(len(under_way) == 1))
        with pytest.raises(Unavailable):
            await judges.aside((slow, "acts"), hang)
        assert await judges.aside((quick, "acts"), lambda: "quick") == "quick"
        waiting[1].cancel()
        assert len(under_way) == 1, "whoever leaves gives back no thread that still works"
        release.set()
        said = await asyncio.gather(*waiting, return_exceptions=True)
        assert [each for each in said if isinstance(each, str)] == ["slow", "slow"]
        assert await judges.aside((slow, "acts"), lambda: "again") == "again"


async def _is(true: bool) -> bool:
    return true
