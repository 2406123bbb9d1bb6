"""The ledger: gap-free, in commit order, read in pages and followed live without missing anything."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from sqlalchemy import select

from app.delivery.feed import News
from app.identity.api_keys import revoke_key
from app.identity.callers import standing
from app.inventory.agents import AgentDraft, register_agent
from app.ledger.append import append, own
from app.ledger.read import LOOKS_AT, Found, Wanted, entries, head, page
from app.ledger.wake import Wake
from app.rules.entries import Event, Outcome
from app.rules.errors import Forbidden, Unauthenticated
from app.rules.ids import ApiKeyId, EntryId, Instant, PairId, TenantId
from app.rules.permissions import Role
from app.store.engine import Tx
from app.store.tables import LedgerEntry
from tests.flows.conftest import POSTGRES
from tests.flows.nodes import node
from tests.flows.pausing import gate, wait_at_gate
from tests.following import followed
from tests.world import Member, World

READ = {"limit": 100, "after": None, "before": None, "backward": False}


def happen(tx: Tx, member: Member, count: int = 1, event: Event = Event.AGENT_UPDATED) -> None:
    """Appends facts that concern one tenant alone."""
    append(tx, [own(event, member.id, "somebody", tx.now(), number=number) for number in range(count)])


async def read(world: World, member: Member, wanted: Wanted | None = None, **given: Any) -> Found:
    """A page, the first hundred entries unless told."""
    return await world.read(page, member.id, wanted or Wanted(), **{**READ, **given})


def seqs(found: Found) -> list[int]:
    return [row.seq for row in found.entries]


# -- writing


async def test_thirty_writers_at_once_leave_no_gap(world: World) -> None:
    members = [await world.tenant() for _ in range(3)]
    agents = {member.id: await world.agent(member) for member in members}
    pairs = [(one, other) for one in members for other in members if one is not other]
    draft = AgentDraft("another", "", [], None, [])
    await asyncio.gather(
        *(world.offer(one, other, agents[one.id], acceptance="ADDRESSED") for one, other in pairs * 5),
        *(world.made(register_agent, member.owner, draft) for member in members * 5),
    )
    for member in members:
        offered = await world.ledger(member, Event.OFFERED)
        assert len(offered) == 20, "ten of its own and ten to it"
        assert len(await world.ledger(member, Event.AGENT_REGISTERED)) == 6
    # that there is no gap, and two sides to each fact, is asserted after every test


@POSTGRES
async def test_an_entry_is_numbered_only_once_the_one_before_it_has_committed(world: World) -> None:
    member = await world.tenant()

    def slowly(tx: Tx) -> None:
        happen(tx, member)
        wait_at_gate(tx)

    async with gate(world) as closed:
        first = asyncio.ensure_future(world.write(slowly))
        await closed.waiting()
        second = asyncio.ensure_future(world.write(happen, member, 1, Event.AGENT_REGISTERED))
        await closed.blocked()
        assert await world.read(head, member.id) == 0
        await closed.open()
        await asyncio.gather(first, second)
    assert [each["event"] for each in await world.ledger(member)] == [
        *(Event.AGENT_UPDATED, Event.AGENT_REGISTERED)
    ]


async def test_a_fact_that_is_rolled_back_takes_its_number_with_it(world: World) -> None:
    member = await world.tenant()

    with pytest.raises(ZeroDivisionError):
        await world.write(_happen_and_fail, member)
    await world.write(happen, member)
    assert [each["seq"] for each in await world.ledger(member)] == [1]


async def test_what_a_transaction_told_is_told_on_only_once_it_has_committed(world: World) -> None:
    member = await world.tenant()
    heard: list[set[str]] = []
    world.store.on_commit = lambda facts: heard.append({*facts.appended})
    await world.write(happen, member)
    with pytest.raises(ZeroDivisionError):
        await world.write(_happen_and_fail, member)
    assert heard == [{member.id}]


def _happen_and_fail(tx: Tx, member: Member) -> None:
    happen(tx, member)
    raise ZeroDivisionError


# -- pages


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=some.integers(0, 14),
    after=some.none() | some.integers(0, 14),
    before=some.none() | some.integers(0, 14),
    backward=some.booleans(),
    events=some.sampled_from([None, ["agent.*"], ["agent.updated"], ["token.*"], ["*"]]),
)
async def test_a_page_is_the_slice_that_a_list_would_give(
    twelve: tuple[World, Member],
    limit: int,
    after: int | None,
    before: int | None,
    backward: bool,
    events: list[str] | None,
) -> None:
    world, member = twelve
    found = await read(
        world, member, Wanted(events=events), limit=limit, after=after, before=before, backward=backward
    )
    whole = {seq: "agent.updated" if seq % 3 else "agent.registered" for seq in range(1, 13)}
    named = {"agent.*": "agent.", "agent.updated": "agent.updated", "token.*": "token.", "*": ""}
    fits = [
        seq
        for seq, event in whole.items()
        if (after is None or seq > after)
        and (before is None or seq < before)
        and (events is None or event.startswith(named[events[0]]))
    ]
    ordered = fits[::-1] if backward else fits
    assert seqs(found) == ordered[:limit]
    assert found.more == (len(ordered) > limit)


@pytest.fixture
async def twelve(world: World) -> tuple[World, Member]:
    """A ledger of twelve entries, each third of them another event."""
    member = await world.tenant()
    for seq in range(1, 13):
        await world.write(happen, member, 1, Event.AGENT_UPDATED if seq % 3 else Event.AGENT_REGISTERED)
    return world, member


async def test_entries_are_found_by_delegation_dispatch_and_pair(world: World) -> None:
    lent = await world.delegation()
    await world.delegation()
    async with node(world) as at:
        go = await at.go(lent)
        await at.complete(go)
    (action,) = await world.ledger(lent.delegate, Event.ACTION)
    for wanted, events in (
        (
            Wanted(delegation_id=lent.id),
            {Event.ACCEPTED, Event.BINDING_CREATED, Event.TOKEN_ISSUED, Event.ACTION},
        ),
        (Wanted(dispatch_id=go.attempt.id), {Event.ACTION}),
        (Wanted(pair_id=PairId(action["pairId"])), {Event.ACTION}),
        (Wanted(pair_id=PairId("par_none")), set()),
    ):
        found = await read(world, lent.delegate, wanted)
        assert {row.event for row in found.entries} == events
        assert all(row.tenant_id == lent.delegate.id for row in found.entries)


async def test_entries_are_filtered_by_outcome_and_time(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        await at.perform(lent)
        await at.no(lent, path="/elsewhere")
    whole = (await read(world, lent.delegate)).entries
    (completed,) = (await read(world, lent.delegate, Wanted(outcome=Outcome.COMPLETED))).entries
    assert completed.event == Event.ACTION
    since = await read(world, lent.delegate, Wanted(since=completed.occurred_at))
    until = await read(world, lent.delegate, Wanted(until=completed.occurred_at))
    assert seqs(since) == [row.seq for row in whole if row.occurred_at >= completed.occurred_at]
    assert sorted(seqs(since) + seqs(until)) == [row.seq for row in whole]


async def test_a_filter_looks_at_ten_thousand_entries_and_then_says_where_to_go_on(world: World) -> None:
    member = await world.tenant()
    await world.write(happen, member, LOOKS_AT + 50)
    await world.write(happen, member, 1, Event.AGENT_REGISTERED)
    rare = Wanted(events=[Event.AGENT_REGISTERED])
    short = await read(world, member, rare)
    assert (short.entries, short.more, short.reached) == ([], True, LOOKS_AT)
    rest = await read(world, member, rare, after=short.reached)
    assert (seqs(rest), rest.more) == ([LOOKS_AT + 51], False)


async def test_another_tenants_entries_are_found_by_no_id(world: World) -> None:
    lent, stranger = await world.delegation(), await world.tenant()
    theirs = await world.rows(LedgerEntry)
    assert await world.read(entries, stranger.id, [EntryId(row.id) for row in theirs]) == {}
    for wanted in (Wanted(delegation_id=lent.id), Wanted(pair_id=PairId(theirs[-1].pair_id))):
        assert not (await read(world, stranger, wanted)).entries


# -- following


async def test_a_tail_from_a_cursor_misses_nothing_while_writers_run(world: World) -> None:
    member = await world.tenant()
    writers = asyncio.gather(*(world.write(happen, member, 1 + number % 3) for number in range(60)))
    seen: list[int] = []
    while not writers.done() or len(seen) < await world.read(head, member.id):
        found = await read(world, member, limit=7, after=seen[-1] if seen else 0)
        seen += seqs(found)
    await writers
    assert seen == list(range(1, 121))


async def test_followers_on_two_gateways_hear_everything_once_and_in_order(world: World) -> None:
    member = await world.tenant()
    near, far = Wake(world.store), Wake(world.store)  # the far one is told nothing and has to ask
    world.store.on_commit = near.committed
    polling = [asyncio.ensure_future(wake.poll()) for wake in (near, far)]

    async def hear(wake: Wake, count: int) -> list[int]:
        seen: list[int] = []
        async for row in followed(world.store, wake, member.owner, 0, Wanted()):
            seen.append(row.seq)
            if len(seen) == count:
                break
        return seen

    followers = [asyncio.ensure_future(hear(wake, 60)) for wake in (near, far)]
    await asyncio.gather(*(world.write(happen, member, 2) for _ in range(30)))
    assert await asyncio.gather(*followers) == [list(range(1, 61))] * 2
    for task in polling:
        task.cancel()
    await asyncio.gather(*polling, return_exceptions=True)


async def test_a_feed_ends_when_its_key_does_and_delivers_nothing_committed_after(world: World) -> None:
    member = await world.tenant()
    wake = Wake(world.store)
    world.store.on_commit = wake.committed
    caller = await world.caller(member, Role.AUDITOR)
    after = await world.read(head, member.id)
    feed = followed(world.store, wake, caller, after, Wanted(events=["agent.*"]))
    await world.write(happen, member)
    assert (await anext(feed)).event == Event.AGENT_UPDATED
    await world.made(revoke_key, member.owner, caller.key_id)
    await world.write(happen, member)
    with pytest.raises(Unauthenticated):
        await anext(feed)


async def test_a_feed_without_a_cursor_begins_now_and_ends_with_the_process(world: World) -> None:
    member = await world.tenant()
    wake = Wake(world.store)
    world.store.on_commit = wake.committed
    await world.write(happen, member)
    feed = followed(world.store, wake, member.owner, None, Wanted())
    first = asyncio.ensure_future(anext(feed))
    while not first.done():  # when now is, is the feed's to say
        await world.write(happen, member)
    began = (await first).seq
    assert began > 1
    wake.close()
    rest = [row.seq async for row in feed]
    assert rest == list(range(began + 1, began + 1 + len(rest)))


async def test_who_may_not_read_the_audit_log_may_not_follow_it(world: World) -> None:
    member = await world.tenant()
    viewer = await world.caller(member, Role.VIEWER)
    with pytest.raises(Forbidden):
        await anext(followed(world.store, Wake(world.store), viewer, 0, Wanted()))


@POSTGRES
async def test_a_feed_by_seq_misses_nothing_where_one_by_time_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as variant:
        variant.setattr("app.delivery.feed._news", by_time())
        for _ in range(20):
            if await missed(world):
                break
        else:
            pytest.fail("the variant bears all of it: this test proves nothing")
    for _ in range(5):
        assert await missed(world) == set()


def by_time() -> Callable[[Tx, TenantId, int, frozenset[ApiKeyId]], News]:
    """The variant: its place is the instant of what it read last, which is older than its commit."""
    reached: dict[TenantId, Instant] = {}

    def news(tx: Tx, tenant_id: TenantId, after: int, keys: frozenset[ApiKeyId]) -> News:
        mine = select(LedgerEntry).where(LedgerEntry.tenant_id == tenant_id)
        if tenant_id in reached:
            mine = mine.where(LedgerEntry.occurred_at > reached[tenant_id])
        rows = tx.scalars(mine.order_by(LedgerEntry.occurred_at, LedgerEntry.seq)).all()
        if rows:
            reached[tenant_id] = rows[-1].occurred_at
        return News(rows, rows[-1].seq if rows else after, keys, standing(tx, keys), tx.now())

    return news


async def missed(world: World) -> set[int]:
    """What a follower of a new ledger was not shown of what many wrote at once."""
    member = await world.tenant()
    wake = Wake(world.store)
    world.store.on_commit = wake.committed
    seen: set[int] = set()

    async def follow() -> None:
        async with aclosing(followed(world.store, wake, member.owner, 0, Wanted())) as rows:
            async for row in rows:
                seen.add(row.seq)
                if row.event == Event.API_KEY_REVOKED:  # the last
                    return

    following = asyncio.ensure_future(follow())
    await asyncio.gather(*(world.write(happen, member) for _ in range(60)))
    await world.write(happen, member, 1, Event.API_KEY_REVOKED)
    await following
    return set(range(1, await world.read(head, member.id) + 1)) - seen
