"""Idempotency-Key: one request per key and binding, and the same outcome for whoever asks again (DESIGN section 5)."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import update

from app.delegations.endings import revoke
from app.egress.outcomes import Outcome as Sent
from app.proxy.attempts import Admission, Go, No, Replay
from app.proxy.evidence import KEY_LIVES
from app.proxy.settle import settle
from app.proxy.upkeep import purge_keys
from app.rules.entries import Outcome
from app.rules.errors import Code
from app.store.engine import Tx
from app.store.tables import IdempotencyKey
from tests.flows.nodes import ANSWERED, NOT_SENT, REJECTED, TIMED_OUT, Node, node
from tests.world import Lent, World

#: An action that is not idempotent, and one that is.
WRITE: dict[str, Any] = {"method": "POST", "path": "/v1/receipts", "key": "key"}
READ: dict[str, Any] = {"method": "GET", "path": "/v1/receipts/7", "key": "key"}


async def after(at: Node, lent: Lent, sent: Sent, asked: dict[str, Any], **again: Any) -> Admission:
    """What the same request is told after this came of it."""
    await at.complete(await at.go(lent, **asked), sent)
    return await at.admit(lent, **{**asked, **again})


async def test_a_completed_request_replays_its_answer(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        go = await at.go(lent, **WRITE)
        await at.complete(go, ANSWERED, kept="the sealed answer")
        again = await at.admit(lent, **WRITE)
    assert again == Replay(go.attempt.id, lent.delegator.id, Outcome.COMPLETED, None, "the sealed answer")


async def test_a_completed_request_whose_answer_was_too_large_is_not_performed_again(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        for asked in (WRITE, {**READ, "key": "another"}):
            again = await after(at, lent, ANSWERED, asked)
            assert isinstance(again, Replay)
            assert (again.outcome, again.answer) == (Outcome.COMPLETED, None)


@pytest.mark.parametrize(
    ("sent", "outcome", "code"),
    [
        (TIMED_OUT, Outcome.INDETERMINATE, Code.UPSTREAM_TIMEOUT),
        (REJECTED, Outcome.FAILED, Code.UPSTREAM_RESPONSE_TOO_LARGE),
    ],
)
async def test_what_may_have_had_its_effect_replays_its_outcome_unless_the_action_is_idempotent(
    world: World, sent: Sent, outcome: Outcome, code: Code
) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        again = await after(at, lent, sent, WRITE)
        assert isinstance(again, Replay)
        assert (again.outcome, again.code, again.answer) == (outcome, code, None)
        assert isinstance(await after(at, lent, sent, {**READ, "key": "another"}), Go)


async def test_a_withheld_answer_stays_withheld(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        go = await at.go(lent, **WRITE)
        token = (await world.rotate(lent)).token
        await at.complete(go, ANSWERED, kept="the sealed answer")
        again = await at.admit(lent, **WRITE, token=token.text)
    assert again == Replay(go.attempt.id, lent.delegator.id, Outcome.WITHHELD, Code.TOKEN_INVALID, None)


async def test_what_a_crash_left_open_replays_as_indeterminate(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        go = await at.go(lent, **WRITE)
        await world.write(settle, [go.attempt.id], Outcome.INDETERMINATE, Code.GATEWAY_CRASHED)
        again = await at.admit(lent, **WRITE)
    assert isinstance(again, Replay)
    assert (again.outcome, again.code) == (Outcome.INDETERMINATE, Code.GATEWAY_CRASHED)


async def test_what_was_not_sent_or_not_admitted_frees_its_key(world: World) -> None:
    lent = await world.delegation(max_request_bytes=10)
    async with node(world) as at:
        assert isinstance(await after(at, lent, NOT_SENT, WRITE), Go)
        await at.no(lent, **{**WRITE, "key": "another", "size": 11})
        assert isinstance(await at.admit(lent, **{**WRITE, "key": "another"}), Go)


async def test_a_request_that_is_still_running_is_not_performed_again(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        for asked in (WRITE, {**READ, "key": "another"}):
            await at.go(lent, **asked)
            assert (await at.no(lent, **asked)).code is Code.IDEMPOTENCY_IN_PROGRESS


async def test_of_fifty_at_once_one_is_performed(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        admissions = await asyncio.gather(*(at.admit(lent, **WRITE) for _ in range(50)))
    assert Counter(map(type, admissions)) == {Go: 1, No: 49}
    assert {each.code for each in admissions if isinstance(each, No)} == {Code.IDEMPOTENCY_IN_PROGRESS}
    assert len(await world.rows(IdempotencyKey)) == 1


async def test_of_fifty_that_try_an_idempotent_action_again_one_is_performed(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        await at.complete(await at.go(lent, **READ), TIMED_OUT)
        admissions = await asyncio.gather(*(at.admit(lent, **READ) for _ in range(50)))
        assert Counter(map(type, admissions)) == {Go: 1, No: 49}
        (go,) = (each for each in admissions if isinstance(each, Go))
        await at.complete(go, ANSWERED, kept="the second time")
        again = await at.admit(lent, **READ)
    assert isinstance(again, Replay)
    assert (again.dispatch_id, again.answer) == (go.attempt.id, "the second time")


async def test_another_request_under_the_key_is_refused(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        running = await at.go(lent, **WRITE)
        other = {**WRITE, "fingerprint": "another request"}
        assert (await at.no(lent, **other)).code is Code.IDEMPOTENCY_KEY_REUSED
        await at.complete(running)
        assert (await at.no(lent, **other)).code is Code.IDEMPOTENCY_KEY_REUSED


async def test_a_key_is_its_bindings_own(world: World) -> None:
    lent = await world.delegation()
    bound = await world.bind(lent)
    async with node(world) as at:
        assert isinstance(await at.admit(lent, **WRITE), Go)
        assert isinstance(await at.admit(bound, **WRITE), Go)


async def test_a_replay_is_not_counted(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=1)
    async with node(world) as at:
        assert isinstance(await after(at, lent, ANSWERED, WRITE), Replay)
        assert (await at.no(lent)).code is Code.CAP_HOUR


async def test_a_replay_needs_the_right_as_the_request_did(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        await at.complete(await at.go(lent, **WRITE), kept="the sealed answer")
        await world.made(revoke, lent.delegator.owner, lent.id, "over")
        assert (await at.no(lent, **WRITE)).code is Code.DELEGATION_REVOKED


async def test_after_a_day_a_key_is_free_also_before_it_is_purged(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        await at.complete(await at.go(lent, **WRITE), kept="the sealed answer")
        await world.write(_a_day_ago)
        go = await at.go(lent, **{**WRITE, "fingerprint": "another request"})
        (row,) = await world.rows(IdempotencyKey)
        assert (row.dispatch_id, row.fingerprint, row.answer) == (go.attempt.id, "another request", None)


async def test_only_keys_past_their_day_are_purged(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        await at.go(lent, **WRITE)
        await world.write(_a_day_ago)
        await at.go(lent, **{**WRITE, "key": "another"})
        purged = await asyncio.gather(world.write(purge_keys), world.write(purge_keys))
        assert sum(purged) == 1
        assert len(await world.rows(IdempotencyKey)) == 1


def _a_day_ago(tx: Tx) -> None:
    tx.execute(update(IdempotencyKey).values(created_at=IdempotencyKey.created_at - KEY_LIVES))
