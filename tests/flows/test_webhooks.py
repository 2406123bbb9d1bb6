"""Webhooks: each event reaches each endpoint that wants it, in order, by the schedule, or its owner is told."""

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import select
from typing_extensions import override

from app.delivery.webhooks import taking
from app.delivery.webhooks.endpoints import delete_endpoint
from app.delivery.webhooks.unread import ENTRY, Unread
from app.delivery.webhooks.upkeep import purge_endpoints
from app.ledger.append import append, own
from app.rules.entries import Event, event_filter
from app.rules.webhooks import DeliveryStatus
from app.store.engine import Tx
from app.store.tables import LedgerEntry, WebhookDelivery, WebhookEndpoint
from tests.flows.conftest import POSTGRES
from tests.flows.couriers import (
    agents,
    arrived,
    change,
    courier,
    deliveries,
    disabled,
    enable,
    endpoint,
    settled,
)
from tests.flows.pausing import gate, wait_at_gate
from tests.flows.waiting import until
from tests.upstreams import Answer, Drop, Hang, Line, Play, Reset, Seen, redirect, upstream
from tests.world import Member, World

AGENT = Event.AGENT_REGISTERED


@dataclass
class Fails(Play):
    """Fails half of the time, in one way or another; what it answers with 200 it has accepted."""

    chance: random.Random = field(default_factory=lambda: random.Random(4))
    accepted: list[str] = field(default_factory=list)

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        if self.chance.random() < 0.5:
            play: Play = self.chance.choice([Answer(status=500), Drop(), Reset(0), redirect("/x")])
            await play(line, seen)
            return
        self.accepted.append(seen.header("webhook-id") or "")
        await line.answer(200, b"")


async def registered(world: World, member: Member) -> list[dict[str, Any]]:
    return await world.ledger(member, AGENT)


# ------------------------------------------------------------------ everything arrives


async def test_whatever_fails_half_of_the_time_gets_everything(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        fails = receiver.play = Fails()
        made = await endpoint(world, acme, f"{receiver.url}/")
        await agents(world, acme, 60)
        rows = await settled(world, made, 60)
        entries = {entry["id"]: entry for entry in arrived(receiver, made)}
        assert entries == {entry["id"]: entry for entry in await registered(world, acme)}
        assert sorted(fails.accepted) == sorted(row.id for row in rows), "each was accepted once"
        assert {row.status for row in rows} == {DeliveryStatus.DELIVERED}
        assert [len(row.attempts) for row in rows] == [
            sum(seen.header("webhook-id") == row.id for seen in receiver.seen) for row in rows
        ]


async def test_an_endpoint_gets_what_it_wants_of_its_own_ledger_alone(world: World) -> None:
    lent = await world.delegation()
    async with upstream() as receiver, courier(world):
        ours = await endpoint(
            world, lent.delegator, f"{receiver.url}/ours", ["delegation.*", "agent.updated"]
        )
        theirs = await endpoint(world, lent.delegate, f"{receiver.url}/theirs", ["*"])
        await world.agent(lent.delegator)
        await world.suspend(lent)
        await world.resume(lent)
        await settled(world, ours, 2)
        await settled(world, theirs, 2)
        wanted = Event.SUSPENDED, Event.RESUMED
        for of, member, path in ((ours, lent.delegator, "/ours"), (theirs, lent.delegate, "/theirs")):
            sent = sorted(arrived(receiver, of, path), key=lambda entry: int(entry["seq"]))
            assert sent == await world.ledger(member, *wanted)


async def test_first_attempts_start_in_the_order_of_the_ledger_and_retries_hold_nothing_back(
    world: World,
) -> None:
    acme = await world.tenant()
    async with upstream() as receiver:
        receiver.play = Fails()
        made = await endpoint(world, acme, f"{receiver.url}/")
        await agents(world, acme, 40)
        async with courier(world):
            rows = await settled(world, made, 40)
    starts = [row.attempts[0]["at"] for row in rows]
    assert starts == sorted(starts)
    firsts = {seen.header("webhook-id") or "" for seen in receiver.seen}
    assert sorted(firsts) == sorted(row.id for row in rows)


async def test_a_slow_endpoint_does_not_delay_another(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        hang = receiver.on("/slow", Hang())
        slow = await endpoint(world, acme, f"{receiver.url}/slow")
        quick = await endpoint(world, acme, f"{receiver.url}/quick", [AGENT])
        await agents(world, acme, 30)
        rows = await settled(world, quick, 30)
        assert {row.status for row in rows} == {DeliveryStatus.DELIVERED}
        waiting = await deliveries(world, slow)
        assert all(row.status is DeliveryStatus.PENDING and row.attempts == [] for row in waiting)
        hang.release()
        rows = await settled(world, slow, 31)
        assert {row.status for row in rows} == {DeliveryStatus.DELIVERED}


async def test_a_tenant_whose_endpoints_all_hang_delays_no_other(world: World) -> None:
    acme, globex = await world.tenant(), await world.tenant()
    async with upstream() as receiver, courier(world, seconds=60, lease=120):
        hang = receiver.on("/slow", Hang())
        other = await endpoint(world, globex, f"{receiver.url}/quick", [AGENT])
        for _ in range(40):  # more than one turn serves
            await endpoint(world, acme, f"{receiver.url}/slow", [AGENT])
        await agents(world, acme, 7)  # more than each may have under way: there is always something for them
        await receiver.saw(100)
        for count in (1, 2):  # before the second one, the others were served longest ago
            await world.agent(globex)
            rows = await settled(world, other, count)
            assert {row.status for row in rows} == {DeliveryStatus.DELIVERED}
        hang.release()


async def test_what_happened_before_it_was_made_is_not_sent(world: World) -> None:
    acme = await world.tenant()
    await agents(world, acme, 3)
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/")
        await world.agent(acme, name="later")
        await settled(world, made, 1)
        assert [entry["details"]["name"] for entry in arrived(receiver, made)] == ["later"]


# ------------------------------------------------------------------ a cursor that skips nothing


def by_clock(tx: Tx, wanting: Iterable[tuple[WebhookEndpoint, int]]) -> list[list[Unread]]:
    """Broken: what happened later than what came last. Whoever read the clock first need not commit first."""
    return [[_by_clock(tx, of, most)] for of, most in wanting]


def _by_clock(tx: Tx, of: WebhookEndpoint, most: int) -> Unread:
    came = select(LedgerEntry.occurred_at).where(
        LedgerEntry.tenant_id == of.tenant_id, LedgerEntry.seq == of.cursor
    )
    rows = ENTRY.where(
        LedgerEntry.tenant_id == of.tenant_id,
        LedgerEntry.occurred_at > tx.scalars(came).one(),
        LedgerEntry.seq > of.cursor - 1000,
    )
    found = list(tx.execute(rows.order_by(LedgerEntry.occurred_at).limit(most)))
    return Unread(of, found, found[-1].seq if found else of.cursor)


def _overtaken(tx: Tx, member: Member) -> None:
    now = tx.now()
    wait_at_gate(tx)
    append(tx, [own(Event.AGENT_UPDATED, member.id, "somebody", now, number=1)])


@POSTGRES
@pytest.mark.parametrize("cursor", ["by_seq", "by_clock"])
async def test_a_transaction_that_commits_late_is_not_skipped(
    world: World, monkeypatch: pytest.MonkeyPatch, cursor: str
) -> None:
    if cursor == "by_clock":
        monkeypatch.setattr(taking, "unread", by_clock)
    acme = await world.tenant()
    async with upstream() as receiver, courier(world), gate(world) as closed:
        made = await endpoint(world, acme, f"{receiver.url}/", ["agent.*"])
        late = asyncio.ensure_future(world.write(_overtaken, acme))
        await closed.waiting()
        await world.agent(acme)
        await settled(world, made, 1)
        await closed.open()
        await late
        await world.agent(acme)
        await receiver.saw(2)
        await until(lambda: _caught_up(world, made.endpoint.id))
        sent = {entry["event"] for entry in arrived(receiver, made)}
    assert (Event.AGENT_UPDATED in sent) == (cursor == "by_seq")


async def _caught_up(world: World, id: str) -> bool:
    row = await world.row(WebhookEndpoint, id)
    unread = await world.rows(
        LedgerEntry, LedgerEntry.tenant_id == row.tenant_id, LedgerEntry.seq > row.cursor
    )
    matches = event_filter(row.events)
    assert matches is not None
    return not any(matches(entry.event) for entry in unread)


# ------------------------------------------------------------------ what is failure, and what follows


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500, 503])
async def test_what_is_not_2xx_is_a_failure_and_no_redirect_is_followed(world: World, status: int) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world, (0.0, 0.01)):
        receiver.on("/", Answer(status=status, headers=[("Location", f"{receiver.url}/elsewhere")]))
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        row = await disabled(world, made)
        (delivery,) = await settled(world, made, 1)
        assert delivery.status is DeliveryStatus.FAILED
        assert [attempt["status"] for attempt in delivery.attempts] == [status, status]
        assert {seen.path for seen in receiver.seen} == {"/"}
        assert row.disabled_reason is not None
        assert row.disabled_reason.startswith(
            f"2 attempts failed; the last: it answered with status {status}"
        )


async def test_after_the_last_attempt_the_endpoint_is_disabled_and_its_owners_ledger_says_so_once(
    world: World,
) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world, (0.0, 0.01, 0.01)):
        receiver.play = Answer(status=500)
        made = await endpoint(world, acme, f"{receiver.url}/", ["*"])
        await agents(world, acme, 4)
        row = await disabled(world, made)
        (told,) = await world.ledger(acme, Event.WEBHOOK_DISABLED)
        assert told["actor"] is None
        assert told["details"]["endpointId"] == row.id
        assert told["details"]["reason"] == row.disabled_reason
        seen = len(receiver.seen)
        await world.agent(acme)
        receiver.play = Answer(b"")
        await enable(world, acme, made)
        rows = await settled(world, made, 7)  # with webhook.disabled and webhook.updated
        assert len(receiver.seen) > seen
        assert {row.status for row in rows} == {DeliveryStatus.DELIVERED, DeliveryStatus.FAILED}
        assert len(await world.ledger(acme, Event.WEBHOOK_DISABLED)) == 1, "it goes on where it was"


async def test_410_disables_at_once(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        receiver.play = Answer(status=410)
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        row = await disabled(world, made)
        (delivery,) = await settled(world, made, 1)
        assert row.disabled_reason == "it answered 410 Gone"
        assert [attempt["status"] for attempt in delivery.attempts] == [410]
        (told,) = await world.ledger(acme, Event.WEBHOOK_DISABLED)
        assert told["details"]["deliveryId"] == delivery.id


async def test_each_delay_counts_from_the_attempt_before(world: World) -> None:
    acme = await world.tenant()
    schedule = (0.0, 0.1, 0.3)
    async with upstream() as receiver, courier(world, schedule):
        receiver.play = Answer(status=500)
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        (delivery,) = await settled(world, made, 1)
    at = [attempt["at"] / 1e6 for attempt in delivery.attempts]
    waited = [later - earlier for earlier, later in pairwise(at)]
    assert all(took >= delay for took, delay in zip(waited, schedule[1:], strict=True))


async def test_what_an_endpoint_is_told_of_itself_does_not_go_round_for_ever(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/", ["webhook.*"])
        await change(world, acme, made, description="x")
        await settled(world, made, 1)
        before = await world.ledger(acme)
        await until(lambda: _caught_up(world, made.endpoint.id))
        assert await world.ledger(acme) == before
        assert [entry["event"] for entry in arrived(receiver, made)] == [Event.WEBHOOK_UPDATED]


async def test_a_deleted_endpoint_is_sent_nothing_and_its_deliveries_are_dropped(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/")
        await world.agent(acme)
        await settled(world, made, 1)
        await world.made(delete_endpoint, acme.owner, made.endpoint.id)
        await world.agent(acme)
        while await world.write(purge_endpoints):
            pass
        assert await world.rows(WebhookDelivery) == []
        assert await world.rows(WebhookEndpoint) == []
        assert len(receiver.seen) == 1
