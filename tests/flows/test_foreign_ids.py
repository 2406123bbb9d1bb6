"""What is another tenant's costs what does not exist costs: it is not even locked (promise 7)."""

from collections.abc import Callable
from typing import Any

import pytest

from app.delegations.bindings import create_binding, revoke_binding, rotate_token
from app.delegations.endings import Revoked, revoke
from app.inventory.agents import AgentChanges, update_agent
from app.rules.errors import Code, Refusal
from app.rules.ids import AgentId, BindingId, DelegationId
from app.store.keys import new_id
from tests.flows.conftest import POSTGRES
from tests.flows.traces import traced
from tests.world import Lent, Member, World

Flow = Callable[[World, Member, Lent | None], tuple[Any, ...]]


def _revoke(_world: World, by: Member, lent: Lent | None) -> tuple[Any, ...]:
    return revoke, by.owner, lent.id if lent else DelegationId(new_id("dlg")), "over"


def _bind(world: World, by: Member, lent: Lent | None) -> tuple[Any, ...]:
    agent_id = AgentId(new_id("agt"))
    id = lent.id if lent else DelegationId(new_id("dlg"))
    return create_binding, by.owner, id, agent_id, world.keys


def _rotate(world: World, by: Member, lent: Lent | None) -> tuple[Any, ...]:
    id = lent.binding.id if lent else BindingId(new_id("bnd"))
    return rotate_token, by.owner, id, 0, world.keys


def _unbind(_world: World, by: Member, lent: Lent | None) -> tuple[Any, ...]:
    return revoke_binding, by.owner, lent.binding.id if lent else BindingId(new_id("bnd")), None


def _change_agent(_world: World, by: Member, lent: Lent | None) -> tuple[Any, ...]:
    return update_agent, by.owner, lent.agent.id if lent else AgentId(new_id("agt")), AgentChanges(name="x")


@POSTGRES
@pytest.mark.parametrize("flow", [_revoke, _bind, _rotate, _unbind, _change_agent])
async def test_a_foreign_row_is_not_locked_and_answers_like_none(world: World, flow: Flow) -> None:
    lent, stranger = await world.delegation(), await world.tenant()
    foreign = await traced(world, *flow(world, stranger, lent))
    assert foreign == await traced(world, *flow(world, stranger, None))
    refusal, traces = foreign
    assert isinstance(refusal, Refusal)
    assert (refusal.code, traces) == (Code.NOT_FOUND, [])


@POSTGRES
async def test_a_delegator_who_rotates_its_delegates_token_locks_nothing(world: World) -> None:
    lent = await world.delegation()
    foreign = await traced(world, *_rotate(world, lent.delegator, lent))
    assert foreign == await traced(world, *_rotate(world, lent.delegator, None))
    assert not foreign[1]


@POSTGRES
async def test_an_offer_by_token_that_its_delegate_revokes_unseen_is_not_locked(world: World) -> None:
    offered = await world.offer()
    refusal, traces = await traced(world, revoke, offered.delegate.owner, offered.id, "over")
    assert isinstance(refusal, Refusal)
    assert (refusal.code, traces) == (Code.NOT_FOUND, [])


@POSTGRES
async def test_a_party_who_revokes_leaves_a_trace(world: World) -> None:
    """What the tests above look for is there to be seen."""
    lent = await world.delegation()
    revoked, traces = await traced(world, revoke, lent.delegator.owner, lent.id, "over")
    assert isinstance(revoked, Revoked)
    assert ("delegations", lent.id) in traces
    _, again = await traced(world, revoke, lent.delegator.owner, lent.id, "over")
    assert again == [("delegations", lent.id)], "a repeat only locks, and that is seen as well"
