"""Trust binds at the commit of its report, in every delegation that its agent acts under (promises 1 and 2)."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from app.delegations import bindings
from app.delegations.bindings import create_binding
from app.delegations.endings import revoke
from app.delegations.trust import report_trust
from app.proxy import evidence
from app.proxy.attempts import Go, No, Released, Withheld
from app.rules.entries import Event, Outcome
from app.rules.errors import Code, Forbidden, Refusal
from app.rules.ids import AgentId
from app.rules.permissions import Role
from app.store.engine import Tx
from tests.flows.conftest import POSTGRES
from tests.flows.nodes import Rewired, node
from tests.flows.pausing import gate, paused, wait_at_gate
from tests.world import Lent, World

MOVED = (Event.TRUST_LOST, Event.TRUST_REGAINED)


async def events(world: World, lent: Lent) -> list[str]:
    """How the trust in a binding moved, as both ledgers tell alike."""
    told = [await world.ledger(member, *MOVED) for member in (lent.delegator, lent.delegate)]
    assert [each["pairId"] for each in told[0]] == [each["pairId"] for each in told[1]]
    return [each["event"] for each in told[0] if each["delegationId"] == lent.id]


@pytest.mark.parametrize(
    ("score", "code"),
    [(None, Code.TRUST_TOO_LOW), (0, Code.TRUST_TOO_LOW), (70, Code.TRUST_TOO_LOW), (71, None)],
)
async def test_a_score_must_be_known_and_above_the_floor(
    world: World, score: int | None, code: Code | None
) -> None:
    lent = await world.delegation(require_trust_score_above=70)
    if score is not None:
        await world.trust(lent.actor, score)
    async with node(world) as at:
        admission = await at.admit(lent)
    assert (admission.code if isinstance(admission, No) else None) is code


async def test_each_change_is_told_once_in_both_ledgers_and_no_change_is_not(world: World) -> None:
    lent = await world.delegation(require_trust_score_above=70)
    free = await world.accept(await world.offer(lent.delegator, lent.delegate, lent.agent), lent.actor)
    for score in (50, 60, 71, 99, 12, 0, 100):
        await world.trust(lent.actor, score)
    assert await events(world, lent) == [Event.TRUST_REGAINED, Event.TRUST_LOST, Event.TRUST_REGAINED]
    assert await events(world, free) == []
    reported = await world.ledger(lent.delegate, Event.TRUST_REPORTED)
    assert [entry["details"]["score"] for entry in reported] == [50, 60, 71, 99, 12, 0, 100]
    assert await world.ledger(lent.delegator, Event.TRUST_REPORTED) == []


async def test_what_has_ended_is_not_told_of(world: World) -> None:
    lent = await world.delegation(require_trust_score_above=70)
    await world.made(revoke, lent.delegator.owner, lent.id, "over")
    await world.trust(lent.actor, 99)
    assert await events(world, lent) == []


async def test_an_answer_under_way_is_withheld_when_trust_is_lost(world: World) -> None:
    lent = await world.delegation(require_trust_score_above=70)
    await world.trust(lent.actor, 80)
    async with node(world) as at:
        lost, regained = await at.go(lent), await at.go(lent)
        await world.trust(lent.actor, 70)
        assert await at.complete(lost) == Withheld(Outcome.WITHHELD, Code.TRUST_TOO_LOW)
        await world.trust(lent.actor, 71)
        assert isinstance(await at.complete(regained), Released)


async def test_an_authority_of_any_tenant_reports_and_is_named_to_its_own_alone(world: World) -> None:
    lent = await world.delegation(require_trust_score_above=70)
    house = await world.tenant()
    authority = await world.caller(house, Role.TRUST_AUTHORITY, "auditor")
    await world.made(report_trust, authority, lent.actor.id, 90, "an audit")
    (own,), (theirs,) = [
        await world.ledger(member, Event.TRUST_REPORTED) for member in (house, lent.delegate)
    ]
    assert (own["actor"], theirs["actor"]) == ("auditor", None)
    assert own["pairId"] == theirs["pairId"]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.TRUST_AUTHORITY])
async def test_nobody_else_reports(world: World, role: Role) -> None:
    lent = await world.delegation()
    with pytest.raises(Forbidden):
        await world.write(report_trust, await world.caller(lent.delegate, role), lent.actor.id, 90, "mine")


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"score": -1}, Code.INVALID, ("score",)),
        ({"score": 101}, Code.INVALID, ("score",)),
        ({"reason": " "}, Code.INVALID, ("reason",)),
        ({"agent_id": AgentId("agt_00000000-0000-0000-0000-000000000000")}, Code.NOT_FOUND, ("agentId",)),
    ],
)
async def test_a_wrong_report_names_its_field(
    world: World, given: dict[str, Any], code: Code, path: tuple[str, ...]
) -> None:
    lent = await world.delegation()
    asked = {"agent_id": lent.actor.id, "score": 90, "reason": "an audit", **given}
    refusal = await world.write(report_trust, None, **asked)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.path) == (code, path)


# -- races


@POSTGRES
async def test_a_report_waits_for_the_batch_that_has_judged_already(world: World) -> None:
    lent = await world.delegation(require_trust_score_above=70)
    await world.trust(lent.actor, 80)
    async with gate(world) as closed, node(world, Rewired(world.store, paused)) as at:
        admission = asyncio.ensure_future(at.admit(lent))
        await closed.waiting()
        report = asyncio.ensure_future(world.trust(lent.actor, 3))
        await closed.blocked()
        assert not report.done()
        await closed.open()
        go = await admission
        assert isinstance(go, Go)
        await report
        assert isinstance(await at.complete(go), Withheld)


def _report_late(tx: Tx, agent_id: AgentId) -> object:
    reported = report_trust(tx, None, agent_id, 3, "an audit")
    tx.flush()
    wait_at_gate(tx)
    return reported


def _bind_late(tx: Tx, world: World, lent: Lent) -> object:
    bound = create_binding(tx, lent.delegate.owner, lent.id, lent.actor.id, world.keys)
    tx.flush()
    wait_at_gate(tx)
    return bound


@POSTGRES
async def test_an_admission_waits_for_the_report_that_is_under_way(world: World) -> None:
    lent = await world.delegation(require_trust_score_above=70)
    await world.trust(lent.actor, 80)
    async with gate(world) as closed, node(world) as at:
        report = asyncio.ensure_future(world.write(_report_late, lent.actor.id))
        await closed.waiting()
        admission = asyncio.ensure_future(at.admit(lent))
        await closed.blocked()
        await closed.open()
        await report
        refused = await admission
        assert isinstance(refused, No)
        assert refused.code is Code.TRUST_TOO_LOW


@POSTGRES
@pytest.mark.parametrize("first", ["report", "binding"])
async def test_a_binding_that_is_made_meanwhile_is_not_missed(world: World, first: str) -> None:
    lent = await world.delegation(require_trust_score_above=70)
    await world.trust(lent.actor, 80)
    other = await world.accept(
        await world.offer(lent.delegator, lent.delegate, lent.agent, require_trust_score_above=70)
    )
    async with gate(world) as closed:
        flows = [
            partial(world.write, _report_late, lent.actor.id),
            partial(world.write, _bind_late, world, replace(other, actor=lent.actor)),
        ]
        if first == "binding":
            flows.reverse()
        one = asyncio.ensure_future(flows[0]())
        await closed.waiting()
        two = asyncio.ensure_future(flows[1]())
        await closed.blocked()
        await closed.open()
        await asyncio.gather(one, two)
    told = [entry["details"]["bindingId"] for entry in await world.ledger(lent.delegate, Event.TRUST_LOST)]
    assert len(told) == (1 if first == "report" else 2), "a binding made after the report was never trusted"


async def test_the_harness_catches_a_score_that_is_remembered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant: scores from a cache."""
    seen: dict[str, int | None] = {}
    real = evidence._standing

    def remembered(row: Any) -> evidence.Standing:
        standing = real(row)
        return standing._replace(trust_score=seen.setdefault(standing.agent_id, standing.trust_score))

    monkeypatch.setattr(evidence, "_standing", remembered)
    lent = await world.delegation(require_trust_score_above=70)
    await world.trust(lent.actor, 80)
    async with node(world) as at:
        await at.go(lent)
        await world.trust(lent.actor, 3)
        assert isinstance(await at.admit(lent), Go)


async def test_an_agent_has_no_more_bindings_than_one_report_can_reach(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bindings, "MOST_OF_AN_AGENT", 2)
    lent = await world.delegation()
    await world.bind(lent, lent.actor)
    refusal = await world.write(create_binding, lent.delegate.owner, lent.id, lent.actor.id, world.keys)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.LIMIT_REACHED
    offered = await world.offer(lent.delegator, lent.delegate, lent.agent)
    accepted = await world.try_accept(lent.delegate.owner, offered.ref, lent.actor.id)
    assert isinstance(accepted, Refusal)
    assert accepted.code is Code.LIMIT_REACHED
