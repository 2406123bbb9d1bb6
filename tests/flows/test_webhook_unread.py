"""A tenant's ledger is read once for its endpoints that stand at the same position, and each gets all that it wants."""

import random
from collections.abc import Sequence

import pytest

from app.delivery.webhooks import unread as unreads
from app.delivery.webhooks.endpoints import Secret
from app.delivery.webhooks.looking import Look, look
from app.delivery.webhooks.parts import Room
from app.delivery.webhooks.turn import take_turn
from app.delivery.webhooks.unread import unread
from app.ledger.append import append, own
from app.rules.entries import Event
from app.rules.ids import EndpointId
from app.rules.webhooks import matching
from app.store.engine import Tx
from app.store.tables import LedgerEntry, WebhookEndpoint
from tests.counting import counting
from tests.flows.couriers import deliveries, endpoint, sender
from tests.world import Member, World

EVENTS = (Event.AGENT_REGISTERED, Event.AGENT_UPDATED, Event.UPSTREAM_UPDATED, Event.API_KEY_REVOKED)
GLOBS = (["*"], ["agent.*"], [EVENTS[0]], [EVENTS[2], EVENTS[3]], ["webhook.test"])
#: Entries that a cursor passes at most.
PASSED = 25
NOWHERE = "http://127.0.0.1:9/"

#: What an endpoint gets: seqs, and where its cursor is then.
Got = tuple[list[int], int]


def _appended(tx: Tx, member: Member, events: Sequence[Event]) -> None:
    now = tx.now()
    append(tx, [own(event, member.id, "test", now, number=number) for number, event in enumerate(events)])


def _got(tx: Tx, rooms: dict[EndpointId, int]) -> dict[EndpointId, Got]:
    wanting = [(tx.get_one(WebhookEndpoint, id), most) for id, most in rooms.items()]
    groups = unread(tx, wanting)
    return {
        each.endpoint.id: ([entry.seq for entry in each.entries], each.cursor)
        for group in groups
        for each in group
    }


def _alone(rows: list[LedgerEntry], row: WebhookEndpoint, most: int) -> Got:
    """The same by its definition."""
    last = min(rows[-1].seq, row.cursor + PASSED)
    events = matching(row.events)
    seqs = [each.seq for each in rows if row.cursor < each.seq <= last and each.event in events][:most]
    return seqs, seqs[-1] if len(seqs) == most else last


async def test_each_gets_what_it_would_have_read_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unreads, "LOOKS_AT", PASSED)
    chance = random.Random(7)
    acme, globex = await world.tenant(), await world.tenant()
    members = [acme] * 10 + [globex] * 4
    made = [await endpoint(world, each, NOWHERE, chance.choice(GLOBS)) for each in members]
    for member in (acme, globex):
        await world.write(_appended, member, chance.choices(EVENTS, (9, 5, 2, 1), k=60))
    for _ in range(12):
        for each in made:
            await world.age(WebhookEndpoint, each.endpoint.id, cursor=chance.choice((14, 14, 20, 60)))
        rooms = {each.endpoint.id: chance.choice((1, 3, 8, 40)) for each in made}
        got = await world.read(_got, rooms)
        rows = await world.rows(LedgerEntry)
        for of in await world.rows(WebhookEndpoint):
            theirs = [row for row in rows if row.tenant_id == of.tenant_id]
            assert got[of.id] == _alone(theirs, of, rooms[of.id]), (of.events, of.cursor)


def _ledger_reads(statements: Sequence[str]) -> int:
    return sum("FROM ledger " in each.replace("\n", " ") for each in statements)


@pytest.mark.parametrize("globs", [[["agent.*"]], GLOBS], ids=["same events", "other events"])
async def test_many_endpoints_at_one_position_cost_the_statements_of_one(
    world: World, globs: Sequence[Sequence[str]]
) -> None:
    costs = []
    for many in (1, 20):
        acme = await world.tenant()
        made = [await endpoint(world, acme, NOWHERE, globs[number % len(globs)]) for number in range(many)]
        await _caught_up(world, made)
        await world.write(_appended, acme, [EVENTS[0]] * 5)
        with counting() as looks:
            found = await world.read(look, {})
        wanting = {each.endpoint.id for each in made if EVENTS[0] in matching(each.endpoint.events)}
        assert found.wanted.keys() == wanting
        with counting() as turns:
            turn = await world.write(take_turn, sender(world), [], dict.fromkeys(wanting, Room(9, 0)))
        assert len(turn.jobs) == 5 * len(wanting)
        assert [_ledger_reads(looks), _ledger_reads(turns)] == [1, 1]
        costs.append((len(looks), len(turns)))
        for each in made:
            rows = await deliveries(world, each)
            assert len(rows) == (5 if each.endpoint.id in wanting else 0)
            await world.age(WebhookEndpoint, each.endpoint.id, deleted_at=1)
    assert costs[0] == costs[1]


async def _caught_up(world: World, made: Sequence[Secret]) -> None:
    """As they are when each has had what it wanted of the others' making."""
    head = max(each.endpoint.cursor for each in made)
    for each in made:
        await world.age(WebhookEndpoint, each.endpoint.id, cursor=head)


async def test_a_look_finds_whoever_has_something_unread_and_looks_through_nothing_twice(
    world: World,
) -> None:
    chance = random.Random(3)
    acme = await world.tenant()
    made = [await endpoint(world, acme, NOWHERE, globs) for globs in GLOBS for _ in range(2)]
    await _caught_up(world, made)
    found = await _looked(world, Look(frozenset(), {}, {}))
    for _ in range(25):
        await world.write(_appended, acme, chance.choices(EVENTS, (1, 1, 9, 9), k=chance.randint(1, 3)))
        found = await _looked(world, found)
        with counting() as statements:
            again = await world.read(look, found.looked)
        assert again == found
        assert _ledger_reads(statements) == 0
        some = chance.sample(sorted(found.wanted), k=len(found.wanted) // 2)
        await world.write(take_turn, sender(world), [], dict.fromkeys(some, Room(1, 0)))


async def _looked(world: World, before: Look) -> Look:
    """One look more, which must have found exactly those for which there is something."""
    found = await world.read(look, before.looked)
    entries = await world.rows(LedgerEntry)
    wanted = {
        row.id
        for row in await world.rows(WebhookEndpoint)
        if any(entry.seq > row.cursor and entry.event in matching(row.events) for entry in entries)
    }
    assert found.wanted.keys() == wanted
    return found
