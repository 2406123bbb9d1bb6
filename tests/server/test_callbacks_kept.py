"""Subscriptions over callbacks are rows: whatever is killed, hangs or is deaf, each router gets what the ledger has."""

import asyncio
import random
from contextlib import AsyncExitStack
from functools import partial

import pytest
from sqlalchemy import func, select, text, update

from app.api.followers import Follower
from app.api.live import Live
from app.delivery.callbacks import rows
from app.delivery.callbacks.keeper import Held, Keeper
from app.delivery.callbacks.sending import Post
from app.identity.api_keys import revoke_key
from app.rules.entries import Event
from app.rules.ids import ApiKeyId, BootId
from app.store.engine import Tx
from app.store.keys import new_id
from app.store.tables import CallbackSubscription, LedgerHead
from tests.conftest import FULL, HEAVY_ON_POSTGRES
from tests.counting import counting, reads_of_a_ledger
from tests.postgres import Postgres
from tests.server.conftest import Here, Opening, Proving, lending_in
from tests.server.lending import Lending
from tests.server.routers import Router, Subscribed, none_left, router, subscribe, subscriptions
from tests.server.streams import a_key
from tests.serving import Installation
from tests.upstreams import Answer, Drop, Hang, Line, Play, Reset, Seen, head, redirect, sized
from tests.world import Member

pytestmark = pytest.mark.asyncio(loop_scope="session")

SQLITE = pytest.mark.parametrize("store_kind", ["sqlite"])
KILLS = 20 if FULL else 2
BETWEEN = 30  # entries from one kill to the next
AGENTS = {"events": [str(Event.AGENT_REGISTERED)]}


class Unsteady(Play):
    """Fails, resets or drops, each of which may be after it was taken."""

    async def __call__(self, line: Line, seen: Seen) -> None:
        plays: list[Play] = [Answer(status=500), Answer(status=429), Drop(), Reset(0)]
        await random.choice(plays)(line, seen)


async def registered(lending: Lending, acme: Member, count: int) -> None:
    for _ in range(count):
        await lending.agent(acme)


async def all_arrived(lending: Lending, acme: Member, it: Router, each: list[Subscribed]) -> None:
    """Every router has what the ledger has, in its order, where the first time counts that an entry comes."""
    entries = [entry["id"] for entry in await lending.ledger(acme, Event.AGENT_REGISTERED)]
    for wanted in each:
        await it.until(lambda wanted=wanted: it.ids(wanted) >= set(entries))  # type: ignore[misc]  # bound now
        arrived = list(dict.fromkeys(edge["node"]["id"] for edge in it.edges(wanted)))
        assert arrived == entries


@HEAVY_ON_POSTGRES
async def test_a_process_that_is_killed_again_and_again_leaves_nothing_out(
    installation: Installation,
) -> None:
    async with AsyncExitStack() as stack:
        it = await stack.enter_async_context(router())
        served = await stack.enter_async_context(installation.serving())
        lending = await stack.enter_async_context(lending_in(installation))
        acme = await lending.tenant()
        each = [await it.subscribed(served.port, acme.key, AGENTS, heartbeat=1000) for _ in range(3)]
        it.play(Unsteady(), lambda _: random.random() < 0.1)
        for _ in range(KILLS):
            before = len(it.edges(each[0]))
            await registered(lending, acme, BETWEEN)
            some = random.randint(1, BETWEEN // 2)
            await it.until(lambda: len(it.edges(each[0])) >= before + some)  # noqa: B023  # of this round
            await served.kill()
            served = await stack.enter_async_context(installation.serving())
        await all_arrived(lending, acme, it, each)
        assert await served.stop() == 0
        assert {row.boot_id for row in await subscriptions(lending, acme)} == {None}, "for others to take"


#: A node that never hears of what others write.
DEAF = "from app.ledger.wake import Wake; Wake.heard = lambda self, what: None"


async def test_what_a_killed_node_left_another_takes_although_no_notification_arrives(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with postgres.database() as dsn:
        one, two = (Installation(tmp_path_factory.mktemp("node"), dsn, before=DEAF) for _ in range(2))
        async with (
            router() as it,
            one.serving() as first,
            two.serving() as second,
            lending_in(one) as lending,
        ):
            acme = await lending.tenant()
            each = [
                await it.subscribed(served.port, acme.key, AGENTS)
                for served in (first, second)
                for _ in range(3)
            ]
            await registered(lending, acme, BETWEEN)
            await it.until(lambda: len(it.edges(each[0])) > random.randint(1, BETWEEN - 5))
            await first.kill()
            await registered(lending, acme, BETWEEN)
            await all_arrived(lending, acme, it, each)
            for wanted in each:
                it.give_up(wanted)
            await registered(lending, acme, 1)
            await none_left(lending, acme)


_LOCKS = """SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_backend_pid()
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


def _locks(tx: Tx) -> set[int]:
    """By which connections the nodes say that they live."""
    return set(tx.scalars(text(_LOCKS)))


def _cut(tx: Tx, pids: set[int]) -> None:
    for pid in pids:
        tx.execute(select(func.pg_terminate_backend(pid)))


async def test_nodes_that_lost_their_connections_say_again_that_they_live(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with postgres.database() as dsn:
        one, two = (Installation(tmp_path_factory.mktemp("node"), dsn) for _ in range(2))
        async with one.serving(), two.serving(), lending_in(one) as lending:
            before = await lending.read(_locks)
            assert len(before) == 2
            await lending.write(_cut, before)
            while len(now := await lending.read(_locks) - before) < 2:  # noqa: ASYNC110  # announced by nobody
                await asyncio.sleep(0.05)
            assert len(now) == 2


# -- positions


def _saved_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken variant: a position counts before the router has answered."""
    tell = Keeper.tell

    async def before(self: Keeper, held: Held, document: bytes, seq: int) -> None:
        self._moved[held.id] = seq
        await tell(self, held, document, seq)

    monkeypatch.setattr(Keeper, "tell", before)


def _passed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken variant: what comes after an entry that a router has not taken moves the position over it."""
    monkeypatch.setattr(Follower, "passed", property(lambda self: self.reached))


async def _over_a_restart(here: Opening) -> tuple[set[str], set[str]]:
    """What the ledger has, and what arrived, where a process stops while a router has not answered."""
    async with router() as it:
        hang = Hang()
        async with here() as first:
            acme = await first.lending.tenant()
            wanted, other = [await it.subscribed(first.port, acme.key, AGENTS) for _ in range(2)]
            await registered(first.lending, acme, 3)
            await it.until(lambda: len(it.edges(wanted)) == len(it.edges(other)) == 3)
            it.play(hang, lambda message: message["id"] == wanted.id and not hang.abandoned.is_set())
            await registered(first.lending, acme, 1)
            await hang.reached.wait()
            await a_key(first.lending, acme)  # which is an entry that nobody wants
            await it.until(lambda: len(it.edges(other)) == 4)
            last = (await first.lending.row(LedgerHead, acme.id)).seq
            while await _position(first, other) < last:  # noqa: ASYNC110  # announced by nobody
                await asyncio.sleep(0.05)
        await hang.abandoned.wait()
        async with here() as second:
            await registered(second.lending, acme, 1)
            entries = await second.lending.ledger(acme, Event.AGENT_REGISTERED)
            await it.until(lambda: entries[-1]["id"] in it.ids(wanted))
            return {entry["id"] for entry in entries}, it.ids(wanted)


async def _position(gateway: Here, wanted: Subscribed) -> int:
    [row] = await gateway.lending.rows(
        CallbackSubscription, CallbackSubscription.subscription_id == wanted.id
    )
    return row.seq


@SQLITE
async def test_a_position_is_what_the_router_has_taken_and_what_it_never_wanted(
    here: Opening, monkeypatch: pytest.MonkeyPatch, proven: Proving
) -> None:
    monkeypatch.setattr("app.delivery.callbacks.keeper._FAR", 0)
    monkeypatch.setattr("app.delivery.callbacks.keeper._LOOKS", 1)
    for broken in (_saved_first, _passed_at_once):
        with monkeypatch.context() as changed:
            broken(changed)
            ledger, arrived = await _over_a_restart(here)
            assert arrived < ledger, f"{broken.__name__} was not caught"
            proven(broken.__name__, 1, 1)
    ledger, arrived = await _over_a_restart(here)
    assert arrived == ledger


@SQLITE
async def test_a_key_that_was_revoked_meanwhile_is_told_so_and_nothing_else(
    here: Opening, installation: Installation
) -> None:
    async with router() as it:
        async with here() as first:
            acme = await first.lending.tenant()
            key, key_id = await a_key(first.lending, acme)
            wanted = await it.subscribed(first.port, key)
        async with lending_in(installation) as lending:
            await lending.made(revoke_key, acme.owner, ApiKeyId(key_id))
            await registered(lending, acme, 3)
        async with here() as second:
            assert await it.ended(wanted) == "UNAUTHENTICATED"
            assert it.edges(wanted) == []
            await none_left(second.lending, acme)


@SQLITE
async def test_a_router_that_is_slow_gets_all_of_it(here: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Follower, "most_batches", 2)
    overflow, overflowed = Follower._overflow, asyncio.Event()

    def noted(self: Follower) -> None:
        overflowed.set()
        overflow(self)

    monkeypatch.setattr(Follower, "_overflow", noted)
    async with router() as it, here() as gateway:
        acme = await gateway.lending.tenant()
        each = [await it.subscribed(gateway.port, acme.key, AGENTS) for _ in range(2)]
        for count in range(1, 4):
            await registered(gateway.lending, acme, 1)
            await it.until(lambda: {len(it.edges(wanted)) for wanted in each} == {count})  # noqa: B023  # of this round
        hang = Hang(then=it.taking)
        it.play(hang, lambda message: message["id"] == each[0].id)
        while not overflowed.is_set():  # one batch each
            count += 1
            await registered(gateway.lending, acme, 1)
            await it.until(lambda: len(it.edges(each[1])) == count)  # noqa: B023  # of this round
        hang.release()
        await all_arrived(gateway.lending, acme, it, each)


@SQLITE
async def test_a_ledger_is_read_once_for_all_who_ask_for_the_same(here: Opening) -> None:
    rounds, subscribers = 10, 30
    async with router() as it, here() as gateway:
        acme = await gateway.lending.tenant()
        each = [await it.subscribed(gateway.port, acme.key, AGENTS) for _ in range(subscribers)]
        await registered(gateway.lending, acme, 1)
        await it.until(lambda: all(len(it.edges(wanted)) == 1 for wanted in each))
        with counting() as statements:
            for count in range(2, rounds + 2):
                await registered(gateway.lending, acme, 1)
                await it.until(lambda: all(len(it.edges(wanted)) == count for wanted in each))  # noqa: B023  # of this round
        assert rounds <= reads_of_a_ledger(statements) <= 3 * rounds


@SQLITE
async def test_a_tenant_has_so_many_and_no_more(here: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_SUBSCRIPTIONS", 2)
    async with router() as it, here() as gateway:
        acme, other = [await gateway.lending.tenant() for _ in range(2)]
        for _ in range(2):
            await it.subscribed(gateway.port, acme.key)
        answer = await subscribe(gateway.port, acme.key, it.wants().extension)
        assert answer.json["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
        mine = await it.subscribed(gateway.port, other.key)
        assert len(await subscriptions(gateway.lending, acme)) == 2
        monkeypatch.setattr(Live, "most_groups", 1)
        await registered(gateway.lending, other, 1)
        await it.until(lambda: bool(it.edges(mine)))
        wanted = it.wants()
        answer = await subscribe(gateway.port, other.key, wanted.extension, AGENTS)
        assert answer.json["errors"][0]["extensions"]["code"] == "RATE_LIMITED", "another operation"
        assert it.messages(wanted, "check") == []
        await it.subscribed(gateway.port, other.key)


@SQLITE
async def test_a_tenant_has_so_many_heartbeats_a_second_and_no_more(
    here: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST_HEARTBEATS", 0.5)
    async with router() as it, here() as gateway:
        acme, other = [await gateway.lending.tenant() for _ in range(2)]
        for heartbeat in (4_000, 4_000, 0):
            await it.subscribed(gateway.port, acme.key, heartbeat=heartbeat)
        answer = await subscribe(gateway.port, acme.key, it.wants(3_600_000).extension)
        (error,) = answer.json["errors"]
        assert error["extensions"]["code"] == "RATE_LIMITED"
        assert "give a longer heartbeatIntervalMs" in error["message"]
        assert len(await subscriptions(gateway.lending, acme)) == 3
        await it.subscribed(gateway.port, other.key, heartbeat=2_000)


@SQLITE
async def test_what_was_taken_away_is_dropped_and_what_was_never_begun_is_begun(
    here: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.delivery.callbacks.keeper._LOOKS", 1)
    async with router() as it, here() as gateway:
        acme = await gateway.lending.tenant()
        monkeypatch.setattr("app.delivery.callbacks.rows.is_gone", lambda *_: False)
        taken = await it.subscribed(gateway.port, acme.key, AGENTS)
        await gateway.lending.store.write(_given_to_another, taken.id)
        with monkeypatch.context() as lost:
            lost.setattr(Keeper, "hold", lambda *_, **__: None)  # whoever asked has left before it began
            begun = await it.subscribed(gateway.port, acme.key, AGENTS)
        await registered(gateway.lending, acme, 1)
        await it.until(lambda: bool(it.edges(begun)))
        before = len(it.edges(taken))  # as long as the gateway did not know
        await registered(gateway.lending, acme, 1)
        await it.until(lambda: len(it.edges(begun)) == 2)
        assert len(it.edges(taken)) == before


def _given_to_another(tx: Tx, subscription_id: str) -> None:
    named = CallbackSubscription.subscription_id == subscription_id
    tx.execute(update(CallbackSubscription).where(named).values(boot_id=BootId(new_id("bot"))))


# -- receivers


class Drip(Play):
    """Answers a byte at a time, for ever."""

    async def __call__(self, line: Line, seen: Seen) -> None:
        whole = head(204, 0)
        for at in range(len(whole) - 1):
            await line.say(whole[at : at + 1])
            try:
                async with asyncio.timeout(0.05):
                    await line.hung_up()
                return
            except TimeoutError:
                continue
        await line.hung_up()


@SQLITE
async def test_a_receiver_that_hangs_drips_resets_or_fails_is_given_up_and_holds_nobody_up(
    here: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.main.Post", partial(Post, seconds=0.3, patience=1.0))
    monkeypatch.setattr("app.delivery.callbacks.sending._AT_ONCE", 0.0)
    bad: list[Play] = [
        Hang(),
        Drip(),
        Reset(0),
        Reset(30),
        Drop(),
        Answer(status=500),
        redirect("/elsewhere"),
    ]
    async with router() as it, here() as gateway, AsyncExitStack() as stack:
        acme, others = [await gateway.lending.tenant() for _ in range(2)]
        good = await it.subscribed(gateway.port, others.key, AGENTS)
        routers = [await stack.enter_async_context(router()) for _ in bad]
        for each, play in zip(routers, bad, strict=True):
            each.play(play, lambda _: True)
            answer = await subscribe(gateway.port, acme.key, each.wants().extension)
            [error] = answer.json["errors"]
            assert error["extensions"]["code"] == "BAD_USER_INPUT"
            assert error["message"].startswith(
                "extensions.subscription.callbackUrl: the check that was POSTed"
            )
        assert await subscriptions(gateway.lending, acme) == []
        for each, play in zip(routers, bad, strict=True):
            each.play(play, lambda message: message["action"] == "next")
            await each.subscribed(gateway.port, acme.key, AGENTS)
        await registered(gateway.lending, acme, 3)
        for count in range(1, 4):
            await registered(gateway.lending, others, 1)
            await it.until(lambda: len(it.edges(good)) == count)  # noqa: B023  # of this round
        await none_left(gateway.lending, acme)
        assert len(await subscriptions(gateway.lending, others)) == 1
        for each in routers:
            assert len({seen.body for seen in each.at.seen if b'"next"' in seen.body}) == 1, "in order"


@SQLITE
async def test_an_answer_of_10_megabytes_is_its_status_alone(here: Opening) -> None:
    async with router() as it, here() as gateway:
        acme = await gateway.lending.tenant()
        it.play(sized(10_000_000), lambda message: message["action"] == "next")
        wanted = await it.subscribed(gateway.port, acme.key, AGENTS)
        await registered(gateway.lending, acme, 3)
        bodies: list[bytes] = []
        while len(bodies) < 4:  # each once: the check, and three entries
            await it.at.saw(len(bodies) + 1)
            bodies = [seen.body for seen in it.at.seen]
        assert len(set(bodies)) == 4
        assert wanted.verifier.encode() in bodies[-1]
