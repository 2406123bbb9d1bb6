"""Bindings and their tokens: one agent, one delegation, for good; a token opens until it is replaced."""

import asyncio

import pytest
from sqlalchemy import event

from app.delegations import bindings
from app.delegations.bindings import LONGEST_OVERLAP, create_binding, revoke_binding, rotate_token
from app.delegations.endings import revoke
from app.identity.callers import Caller
from app.proxy.attempts import Released, Withheld
from app.rules.entries import Event, Outcome
from app.rules.errors import Code, Forbidden, Refusal
from app.rules.ids import SECOND, AgentId, BindingId, DelegationId
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from app.store.keys import Minted, new_id
from app.store.tables import Agent, Binding, Delegation, ScopedToken
from tests.flows.nodes import node
from tests.world import Lent, World


async def refused_binding(world: World, by: Caller, id: DelegationId, agent: Agent | AgentId) -> Refusal:
    """Why an agent is not bound."""
    agent_id = agent.id if isinstance(agent, Agent) else agent
    refusal = await world.write(create_binding, by, id, agent_id, world.keys)
    assert isinstance(refusal, Refusal)
    return refusal


async def rotated(world: World, lent: Lent, overlap: int = 0) -> Minted:
    """A new token for the delegation's first binding."""
    return (await world.rotate(lent, overlap)).token


# -- binding


async def test_a_binding_stands_in_both_ledgers_and_its_token_in_the_delegates(world: World) -> None:
    lent = await world.delegation()
    bound = await world.bind(lent)
    for member in (lent.delegator, lent.delegate):
        entry = (await world.ledger(member, Event.BINDING_CREATED))[-1]
        assert (entry["details"], entry["actingAgentId"]) == ({"bindingId": bound.id}, bound.binding.agent_id)
    issued = (await world.ledger(lent.delegate, Event.TOKEN_ISSUED))[-1]
    assert issued["details"]["tokenId"] == bound.issued.id
    assert not await world.ledger(lent.delegator, Event.TOKEN_ISSUED)


async def test_only_the_delegate_binds_and_only_its_own_agents(world: World) -> None:
    lent, stranger = await world.delegation(), await world.tenant()
    owner, theirs = lent.delegate.owner, await world.agent(lent.delegator)
    assert (await refused_binding(world, lent.delegator.owner, lent.id, theirs)).code is Code.WRONG_STATE
    answers = [await refused_binding(world, owner, lent.id, id) for id in (theirs, AgentId(new_id("agt")))]
    assert answers[0] == answers[1]
    assert answers[0].path == ("agentId",)
    agent, nobodys = await world.agent(stranger), DelegationId(new_id("dlg"))
    unseen = [await refused_binding(world, stranger.owner, id, agent) for id in (lent.id, nobodys)]
    assert unseen[0] == unseen[1]
    assert (unseen[0].code, unseen[0].path) == (Code.NOT_FOUND, ("delegationId",))


async def test_only_an_active_delegation_is_bound_to(world: World) -> None:
    offered, ended, expired = (
        await world.offer(acceptance="ADDRESSED"),
        await world.delegation(),
        await world.delegation(),
    )
    await world.made(revoke, ended.delegate.owner, ended.id, "over")
    await world.age(Delegation, expired.id, expires_at=world.later(-1))
    for inactive, status in ((offered, "PENDING"), (ended, "REVOKED"), (expired, "EXPIRED")):
        agent = await world.agent(inactive.delegate)
        refusal = await refused_binding(world, inactive.delegate.owner, inactive.id, agent)
        assert (refusal.code, status in refusal.message) == (Code.WRONG_STATE, True)


async def test_a_delegation_has_so_many_bindings_and_no_more_however_many_bind_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bindings, "MOST_BINDINGS", 4)
    lent = await world.delegation()
    owner, actor = lent.delegate.owner, lent.actor.id
    answers = await asyncio.gather(
        *(world.write(create_binding, owner, lent.id, actor, world.keys) for _ in range(20))
    )
    assert sum(isinstance(each, Refusal) for each in answers) == 17
    assert len(await world.rows(Binding)) == 4
    await world.made(revoke_binding, lent.delegate.owner, lent.binding.id, None)
    await world.bind(lent)


@pytest.mark.parametrize("role", Role)
async def test_an_operator_binds_and_rotates_and_an_auditor_does_not(world: World, role: Role) -> None:
    lent = await world.delegation()
    caller = await world.caller(lent.delegate, role)
    if role in (Role.OWNER, Role.ADMIN, Role.OPERATOR):
        await world.made(create_binding, caller, lent.id, lent.actor.id, world.keys)
        await world.made(rotate_token, caller, lent.binding.id, 0, world.keys)
        return
    with pytest.raises(Forbidden):
        await world.write(create_binding, caller, lent.id, lent.actor.id, world.keys)
    with pytest.raises(Forbidden):
        await world.write(rotate_token, caller, lent.binding.id, 0, world.keys)


# -- rotating


async def test_a_rotated_token_opens_nothing_from_that_commit_on(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        assert isinstance(await at.perform(lent), Released)
        new = await rotated(world, lent)
        assert (await at.no(lent)).code is Code.TOKEN_INVALID
        assert isinstance(await at.perform(lent, token=new.text), Released)


async def test_in_an_overlap_both_tokens_open(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        new = await rotated(world, lent, overlap=60)
        assert isinstance(await at.perform(lent), Released)
        assert isinstance(await at.perform(lent, token=new.text), Released)
        await world.age(ScopedToken, lent.bound.issued.id, rotated_at=world.later(-1))
        assert (await at.no(lent)).code is Code.TOKEN_INVALID


async def test_an_overlap_is_shortened_by_a_later_rotation_and_never_lengthened(world: World) -> None:
    lent = await world.delegation()
    await rotated(world, lent, overlap=600)
    first = await world.row(ScopedToken, lent.bound.issued.id)
    await rotated(world, lent, overlap=6_000)
    assert (await world.row(ScopedToken, first.id)).rotated_at == first.rotated_at
    await rotated(world, lent, overlap=60)
    shortened = (await world.row(ScopedToken, first.id)).rotated_at
    assert shortened is not None
    assert first.rotated_at is not None
    assert shortened < first.rotated_at - 500 * SECOND


async def test_in_an_overlap_a_replaced_token_expires_with_it(world: World) -> None:
    lent = await world.delegation(lives=600)
    await rotated(world, lent, overlap=60)
    replaced, new = await world.rows(ScopedToken)
    assert replaced.expires_at == replaced.rotated_at == new.created_at + 60 * SECOND
    await rotated(world, lent, overlap=6_000)
    assert all(row.expires_at <= lent.delegation.expires_at for row in await world.rows(ScopedToken))


async def test_a_rotation_reads_the_tokens_that_still_open_and_none_of_the_old(world: World) -> None:
    lent = await world.delegation()
    for _ in range(5):
        await rotated(world, lent)
    loaded: list[object] = []

    def note(row: object, _context: object) -> None:
        loaded.append(row)

    event.listen(ScopedToken, "load", note)
    try:
        await rotated(world, lent)
    finally:
        event.remove(ScopedToken, "load", note)
    assert len(loaded) == 1


async def test_a_rotation_stands_in_the_delegates_ledger_alone(world: World) -> None:
    lent = await world.delegation()
    await rotated(world, lent, overlap=5)
    (entry,) = await world.ledger(lent.delegate, Event.TOKEN_ROTATED)
    assert (entry["actor"], entry["details"]["overlapSeconds"]) == ("owner", 5)
    assert not await world.ledger(lent.delegator, Event.TOKEN_ROTATED)


@pytest.mark.parametrize("overlap", [-1, LONGEST_OVERLAP + 1])
async def test_an_overlap_is_a_day_at_most(world: World, overlap: int) -> None:
    lent = await world.delegation()
    refusal = await world.write(rotate_token, lent.delegate.owner, lent.binding.id, overlap, world.keys)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.path) == (Code.INVALID, ("overlapSeconds",))


async def test_so_many_tokens_overlap_and_no_more_but_replacing_them_all_at_once_always_works(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bindings, "MOST_TOKENS", 3)
    lent = await world.delegation()
    for _ in range(2):
        await rotated(world, lent, overlap=60)
    refusal = await world.write(rotate_token, lent.delegate.owner, lent.binding.id, 60, world.keys)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.LIMIT_REACHED
    new = await rotated(world, lent)  # a leaked token must be replaceable now, whatever overlaps
    async with node(world) as at:
        assert (await at.no(lent)).code is Code.TOKEN_INVALID
        assert isinstance(await at.perform(lent, token=new.text), Released)


async def test_nobody_but_the_delegate_rotates_or_learns_that_there_is_a_binding(world: World) -> None:
    lent, stranger = await world.delegation(), await world.tenant()
    answers = [
        await world.write(rotate_token, by, id, 0, world.keys)
        for by, id in (
            (lent.delegator.owner, lent.binding.id),
            (stranger.owner, lent.binding.id),
            (stranger.owner, BindingId(new_id("bnd"))),
        )
    ]
    assert answers[0] == answers[1] == answers[2]
    assert isinstance(answers[0], Refusal)
    assert (answers[0].code, answers[0].path) == (Code.NOT_FOUND, ("bindingId",))


async def test_a_dead_binding_gets_no_new_token(world: World) -> None:
    revoked, ended = await world.delegation(), await world.delegation()
    await world.made(revoke_binding, revoked.delegate.owner, revoked.binding.id, None)
    await world.made(revoke, ended.delegate.owner, ended.id, "over")
    for lent in (revoked, ended):
        refusal = await world.write(rotate_token, lent.delegate.owner, lent.binding.id, 0, world.keys)
        assert isinstance(refusal, Refusal)
        assert refusal.code is Code.WRONG_STATE


async def test_an_expired_token_opens_nothing_and_is_refused_as_an_unknown_one_is(world: World) -> None:
    lent = await world.delegation()
    await world.age(ScopedToken, lent.bound.issued.id, expires_at=world.later(-1))
    async with node(world) as at:
        expired = await at.no(lent)
        unknown = await at.no(lent, token=world.keys.mint(TokenKind.LIVE).text)
        assert expired == unknown


# -- revoking a binding


@pytest.mark.parametrize("side", ["delegator", "delegate"])
async def test_either_party_ends_one_binding_and_leaves_the_others(world: World, side: str) -> None:
    lent = await world.delegation()
    other = await world.bind(lent)
    by = (lent.delegator if side == "delegator" else lent.delegate).owner
    async with node(world) as at:
        await world.made(revoke_binding, by, lent.binding.id, "lost laptop")
        assert (await at.no(lent)).code is Code.BINDING_REVOKED
        assert isinstance(await at.perform(other), Released)
    for member in (lent.delegator, lent.delegate):
        (entry,) = await world.ledger(member, Event.BINDING_REVOKED)
        assert entry["details"] == {
            "bindingId": lent.binding.id,
            "by": side.upper(),
            "reason": "lost laptop",
        }


async def test_a_repeated_binding_revocation_answers_like_the_first(world: World) -> None:
    lent = await world.delegation()
    answers = await asyncio.gather(
        *(world.made(revoke_binding, lent.delegate.owner, lent.binding.id, None) for _ in range(10))
    )
    assert len({each.revoked_at for each in answers}) == 1
    assert len(await world.ledger(lent.delegator, Event.BINDING_REVOKED)) == 1


async def test_a_third_tenant_cannot_tell_a_binding_from_none(world: World) -> None:
    lent, stranger = await world.delegation(), await world.tenant()
    answers = [
        await world.write(revoke_binding, stranger.owner, id, None)
        for id in (lent.binding.id, BindingId(new_id("bnd")))
    ]
    assert answers[0] == answers[1]
    assert isinstance(answers[0], Refusal)


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.VIEWER, Role.TRUST_AUTHORITY, Role.PLATFORM])
async def test_who_ends_no_bindings_is_told_so_whether_or_not_there_is_one(world: World, role: Role) -> None:
    lent = await world.delegation()
    caller = await world.caller(lent.delegate, role)
    for id in (lent.binding.id, BindingId(new_id("bnd"))):
        for reason in ("over", "a\0b"):
            with pytest.raises(Forbidden):
                await world.write(revoke_binding, caller, id, reason)


async def test_an_operator_ends_its_own_tenants_bindings_alone(world: World) -> None:
    lent = await world.delegation()
    theirs = await world.caller(lent.delegator, Role.OPERATOR)
    with pytest.raises(Forbidden):
        await world.write(revoke_binding, theirs, lent.binding.id, None)
    mine = await world.caller(lent.delegate, Role.OPERATOR)
    await world.made(revoke_binding, mine, lent.binding.id, None)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (
            lambda world, lent: world.made(revoke_binding, lent.delegator.owner, lent.binding.id, None),
            Code.BINDING_REVOKED,
        ),
        (rotated, Code.TOKEN_INVALID),
    ],
    ids=["binding", "token"],
)
async def test_an_answer_under_way_is_withheld_once_its_binding_or_token_has_ended(
    world: World, end: object, code: Code
) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        go = await at.go(lent)
        assert callable(end)
        await end(world, lent)
        assert await at.complete(go) == Withheld(Outcome.WITHHELD, code)
