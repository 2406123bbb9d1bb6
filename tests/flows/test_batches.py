"""One batch: what waits is committed together, and what is wrong with one item is nobody else's matter."""

import asyncio
from collections import Counter

import pytest

from app.delegations.endings import revoke
from app.identity.api_keys import revoke_key
from app.proxy.attempts import Go, No, Released, Withheld
from app.proxy.committer import QUEUE
from app.proxy.destinations import Destinations
from app.rules.entries import Event, Outcome
from app.rules.errors import Code, Unavailable
from app.rules.ids import TenantId
from app.rules.paths import parse_path
from app.rules.permissions import Role
from app.rules.routes import ByPath
from app.rules.tokens import TokenKind
from app.store.hot import See, Step, Write
from app.store.tables import Dispatch, IdempotencyKey, RefusalCount, ScopedToken, UsageWindow
from tests.flows.nodes import NOT_SENT, REJECTED, TIMED_OUT, Node, Rewired, node
from tests.flows.pausing import stopping_node
from tests.flows.waiting import PATIENCE, until
from tests.world import World

POISON = "/v1/receipts/poison"

TENANT = TenantId("ten_acme")


async def test_a_batch_with_items_of_every_kind_answers_each(world: World) -> None:
    lent, ended = await world.delegation(), await world.delegation()
    await world.made(revoke, ended.delegate.owner, ended.id, "over")
    unknown = world.keys.mint(TokenKind.LIVE).text
    async with node(world) as at:
        before = await at.go(lent)
        answers = await asyncio.gather(
            at.admit(lent, token=unknown),
            at.admit(lent),
            at.admit(ended),
            at.admit(lent, path="/elsewhere"),
            at.complete(before),
            at.admit(lent, path="/v1/%2e%2e/receipts"),
            at.admit(lent, method="POST", path="/v1/receipts"),
        )
    codes = [getattr(each, "code", type(each)) for each in answers]
    assert codes == [
        *(Code.TOKEN_INVALID, Go, Code.DELEGATION_REVOKED, Code.ACTION_NOT_FOUND),
        *(Released, Code.ACTION_NOT_FOUND, Go),
    ]


async def test_a_hundred_items_cost_as_many_statements_as_one(world: World) -> None:
    lent = await world.delegation()
    said: list[str] = []

    def note(statement: Step | See | Write) -> list[Step | See | Write]:
        said.append(type(statement).__name__)
        return [statement]

    async with node(world, Rewired(world.store, note)) as at:
        await at.perform(lent)  # now everybody knows where the token leads
        said.clear()
        go = await at.go(lent)
        await at.complete(go)
        one = batches(said)
        said.clear()
        goes = await asyncio.gather(*(at.go(lent) for _ in range(100)))
        await asyncio.gather(*(at.complete(go) for go in goes))
        assert set(batches(said)) == set(one)
        assert len(batches(said)) < 20


def batches(said: list[str]) -> list[str]:
    """The statements of each batch; each begins with its locks."""
    return [each.strip() for each in " ".join(said).split("See")[1:]]


async def test_an_unknown_token_leaves_no_trace(world: World) -> None:
    lent = await world.delegation()
    entries = await world.ledger(lent.delegate)
    async with node(world) as at:
        for _ in range(100):
            assert await at.admit(lent, token=world.keys.mint(TokenKind.LIVE).text) == No(Code.TOKEN_INVALID)
    for kind in (Dispatch, RefusalCount, UsageWindow, IdempotencyKey):
        assert not await world.rows(kind)
    assert await world.ledger(lent.delegate) == entries


async def test_a_refused_attempt_is_recorded_on_both_sides(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        refused = await at.no(lent, path="/elsewhere")
    (row,) = await world.rows(Dispatch)
    assert (refused.dispatch_id, row.outcome, row.code) == (row.id, Outcome.REFUSED, Code.ACTION_NOT_FOUND)
    (entry,) = await world.ledger(lent.delegator, Event.DENIED)
    assert entry["details"]["path"] == "/elsewhere"


@pytest.mark.parametrize(
    ("sent", "outcome", "code"),
    [
        (NOT_SENT, Outcome.FAILED, Code.UPSTREAM_UNREACHABLE),
        (REJECTED, Outcome.FAILED, Code.UPSTREAM_RESPONSE_TOO_LARGE),
        (TIMED_OUT, Outcome.INDETERMINATE, Code.UPSTREAM_TIMEOUT),
    ],
)
async def test_what_became_of_an_action_stands_in_both_ledgers(
    world: World, sent: object, outcome: Outcome, code: Code
) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        assert await at.perform(lent, sent) == Withheld(outcome, code)  # type: ignore[arg-type]
    for member in (lent.delegator, lent.delegate):
        (entry,) = await world.ledger(member, Event.ACTION)
        assert (entry["outcome"], entry["code"]) == (outcome, code)


async def test_an_action_by_an_api_key_names_its_user_to_the_delegate_alone(world: World) -> None:
    lent = await world.delegation()
    caller = await world.caller(lent.delegate, Role.OPERATOR, "zoe")
    async with node(world) as at:
        go = await at.committer.admit(at.attempt_by(caller, lent))
        assert isinstance(go, Go)
        await at.complete(go)
    (mine,) = await world.ledger(lent.delegate, Event.ACTION)
    (theirs,) = await world.ledger(lent.delegator, Event.ACTION)
    assert (mine["actor"], theirs["actor"]) == ("zoe", None)


async def test_a_callers_key_opens_no_binding_of_another_tenant(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        refused = await at.committer.admit(at.attempt_by(lent.delegator.owner, lent))
    assert refused == No(Code.TOKEN_INVALID)
    assert not await world.rows(Dispatch)


async def test_a_revoked_api_key_admits_nothing_more_and_releases_nothing_more(world: World) -> None:
    lent = await world.delegation()
    caller = await world.caller(lent.delegate, Role.OPERATOR)
    async with node(world) as at:
        go = await at.committer.admit(at.attempt_by(caller, lent))
        assert isinstance(go, Go)
        await world.made(revoke_key, lent.delegate.owner, caller.key_id)
        assert await at.committer.admit(at.attempt_by(caller, lent)) == No(Code.UNAUTHENTICATED)
        assert await at.complete(go) == Withheld(Outcome.WITHHELD, Code.UNAUTHENTICATED)
    for member in (lent.delegator, lent.delegate):
        (entry,) = await world.ledger(member, Event.ACTION)
        assert entry["outcome"] == Outcome.WITHHELD


async def test_an_item_that_cannot_be_written_fails_alone(world: World) -> None:
    lent = await world.delegation()

    def spoil(statement: Step | See | Write) -> list[Step | See | Write]:
        if isinstance(statement, Write) and any(POISON in row for row in statement.sections["dispatches"]):
            raise ValueError("no store can hold this")
        return [statement]

    async with node(world, Rewired(world.store, spoil)) as at:
        done = await at.go(lent)
        paths = [f"/v1/receipts/{number}" for number in range(40)]
        answers = await asyncio.gather(
            *(at.admit(lent, path=path) for path in [*paths, POISON]),
            at.complete(done),
            return_exceptions=True,
        )
        *admitted, poisoned, completed = answers
    assert all(isinstance(each, Go) for each in admitted)
    assert isinstance(poisoned, Unavailable)
    assert isinstance(completed, Released)
    assert len(await world.rows(Dispatch)) == 41
    (used,) = {row.used for row in await world.rows(UsageWindow)}
    assert used == 41


async def test_what_a_dead_token_asks_for_is_no_use_of_it(world: World) -> None:
    lent = await world.delegation()
    await world.made(revoke, lent.delegate.owner, lent.id, "over")
    async with node(world) as at:
        await at.no(lent)
    assert (await world.row(ScopedToken, lent.bound.issued.id)).last_used_at is None


async def test_when_a_token_was_last_used_is_known_to_the_minute(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        await at.go(lent)
        first = (await world.row(ScopedToken, lent.bound.issued.id)).last_used_at
        await at.go(lent)
        assert (await world.row(ScopedToken, lent.bound.issued.id)).last_used_at == first
        await world.age(ScopedToken, lent.bound.issued.id, last_used_at=world.later(-61))
        await at.go(lent)
    last = (await world.row(ScopedToken, lent.bound.issued.id)).last_used_at
    assert first is not None
    assert last is not None
    assert last >= first


async def test_one_more_than_may_wait_is_told_to_come_back_and_nobody_else_is(world: World) -> None:
    lent = await world.delegation()
    at = Node(world)  # nobody commits yet
    waiting = [asyncio.ensure_future(at.admit(lent)) for _ in range(QUEUE)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await at.admit(lent)
    running = asyncio.ensure_future(at.committer.run())
    async with asyncio.timeout(PATIENCE):
        assert {type(each) for each in await asyncio.gather(*waiting)} == {Go}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(await world.rows(Dispatch)) == QUEUE


async def test_more_than_two_batches_that_come_at_once_are_all_committed(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        goes: list[Go] = []
        for _ in range(3):
            goes += await asyncio.gather(*(at.go(lent) for _ in range(500)))
        async with asyncio.timeout(PATIENCE):
            completed = await asyncio.gather(*(at.complete(go) for go in goes))
    assert Counter(map(type, completed)) == {Released: 1500}


async def test_a_caller_who_left_before_the_batch_asked_for_nothing(world: World) -> None:
    lent = await world.delegation()
    at = Node(world)  # nobody commits yet
    left, stays = (asyncio.ensure_future(at.admit(lent)) for _ in range(2))
    await asyncio.sleep(0)
    left.cancel()
    running = asyncio.ensure_future(at.committer.run())
    assert isinstance(await stays, Go)
    running.cancel()
    await asyncio.gather(left, running, return_exceptions=True)
    assert len(await world.rows(Dispatch)) == 1


async def test_what_was_sent_for_a_caller_who_left_is_recorded_all_the_same(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        goes = [await at.go(lent) for _ in range(2)]
        left, stays = (asyncio.ensure_future(at.complete(go)) for go in goes)
        await asyncio.sleep(0)
        left.cancel()
        assert await stays == Released()
        await asyncio.gather(left, return_exceptions=True)
        await until(lambda: _none_pending(world))
    assert {row.outcome for row in await world.rows(Dispatch)} == {Outcome.COMPLETED}


async def _none_pending(world: World) -> bool:
    return not await world.rows(Dispatch, Dispatch.outcome == Outcome.PENDING)


async def test_a_caller_who_left_while_admitted_is_settled_as_not_sent(world: World) -> None:
    lent = await world.delegation()
    async with stopping_node(world) as (at, closed):
        admitting = asyncio.ensure_future(at.admit(lent, key="key"))
        await closed.waiting()
        admitting.cancel()
        await closed.open()
        (row,) = await until(lambda: world.rows(Dispatch, Dispatch.outcome != Outcome.PENDING))
    assert (row.outcome, row.code) == (Outcome.FAILED, Code.NOT_SENT)
    assert {each.used for each in await world.rows(UsageWindow)} == {0}
    assert not await world.rows(IdempotencyKey), "the key is free again"


async def test_an_upstream_that_went_between_two_reads_of_a_batch_leaves_no_action(world: World) -> None:
    def route(upstream: str) -> tuple[object, ...]:
        return (TENANT, f"act_{upstream}", upstream, "r:w", "GET", f"/{upstream}", 0, 1, None)

    learning = Destinations(world.keys).learn({TENANT: 1})
    next(learning)
    learning.send([route("gone"), route("without-a-sandbox")])
    with pytest.raises(StopIteration) as learned:
        learning.send(
            [(TENANT, "ups_1", "without-a-sandbox", "http://127.0.0.1", None, None, None, None, None, None)]
        )
    routes = learned.value.value[TENANT].routes
    assert routes.find(ByPath("gone", "GET", parse_path(b"/gone"))) == []
    (found,) = routes.find(ByPath("without-a-sandbox", "GET", parse_path(b"/without-a-sandbox")))
    assert not found.has_sandbox
