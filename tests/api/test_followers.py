"""One subscriber's queue: bounded, in order, and ended where it can go on."""

import asyncio
from contextlib import aclosing

import pytest

from app.api.batches import Batch, Event
from app.api.followers import Follower
from app.api.pages import log_of
from app.identity.callers import Caller
from app.rules.ids import ApiKeyId, TenantId
from app.rules.permissions import Role

TENANT = TenantId("ten_00000000-0000-7000-8000-000000000001")
LOG = log_of(TENANT)


def caller(role: Role = Role.ADMIN) -> Caller:
    return Caller(ApiKeyId("key_1"), TENANT, "somebody", role, None)


def follower(after: int = 0) -> Follower:
    return Follower(caller(), after, after, lambda _: None)


def batch(*seqs: int, size: int = 2) -> Batch:
    return Batch([Event(b"x" * size, seq, LOG.cursor(seq)) for seq in seqs])


async def taken(each: Follower) -> list[int]:
    """What waits for it, and its end as -1."""
    each.end()
    async with aclosing(each.batches()) as batches:
        return [event.seq if not got.errors else -1 async for got in batches for event in got.events]


async def test_it_is_given_what_it_has_not_read_itself() -> None:
    each = follower(after=3)
    for given in (batch(1, 2), batch(3, 4), batch(5), batch()):
        each.give(given)
    assert await taken(each) == [4, 5]


async def test_what_is_held_comes_first_once_its_key_was_asked_for() -> None:
    each = follower()
    each.hold(batch(1))
    each.hold(batch(2))
    each.give(batch(3))
    assert await taken(each) == [1, 2, 3]


async def test_what_is_held_is_never_given_to_a_key_that_has_ended() -> None:
    each = follower()
    each.hold(batch(1))
    assert not each.judge(None)
    each.give(batch(2))
    assert await taken(each) == [-1]


@pytest.mark.parametrize(
    ("role", "stays"),
    [(Role.OWNER, True), (Role.ADMIN, True), (Role.AUDITOR, False), (Role.VIEWER, False)],
)
def test_a_key_stays_whose_role_may_as_much_as_it_did(role: Role, stays: bool) -> None:
    assert follower().judge(caller(role)) is stays


@pytest.mark.parametrize(("size", "most"), [(100, 10), (1, Follower.most_batches)])
async def test_who_takes_nothing_is_cut_at_what_it_was_sent_last(
    monkeypatch: pytest.MonkeyPatch, size: int, most: int
) -> None:
    monkeypatch.setattr(Follower, "most_waiting", 1000)
    each = follower()
    taking = asyncio.ensure_future(anext(batches := each.batches()))
    await asyncio.sleep(0)
    each.give(batch(1, size=size))
    assert (await taking).events[0].seq == 1
    for seq in range(2, most + 3):
        each.give(batch(seq, size=size))
    last = await anext(batches)
    [error] = last.errors
    assert isinstance(error, dict)
    assert error["extensions"] == {"code": "SLOW_READER", "cursor": LOG.cursor(1)}
    assert [got async for got in batches] == []
