"""Accepting and declining: once, by the right tenant, and failing in one way."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import pytest

from app.delegations.acceptance import NOT_ACCEPTABLE, Accepted, OfferRef, accept, decline, preview
from app.delegations.bindings import TOKEN_LIVES
from app.delegations.endings import revoke
from app.delegations.read import delegations
from app.rules.entries import Event
from app.rules.errors import Code, Forbidden, Refusal
from app.rules.ids import DAY, SECOND, AgentId, DelegationId
from app.rules.lifecycle import Party, Status
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from app.store.engine import Tx
from app.store.keys import new_id
from app.store.tables import Binding, Delegation, ScopedToken, TermsVersion
from tests.counting import counting
from tests.flows.conftest import POSTGRES
from tests.flows.traces import traced
from tests.world import Offered, World


async def test_accepting_makes_an_active_delegation_a_binding_and_a_token(world: World) -> None:
    lent = await world.delegation()
    delegation = await world.row(Delegation, lent.id)
    (binding,), (token,) = await world.rows(Binding), await world.rows(ScopedToken)
    assert (delegation.status, delegation.ended_at) == (Status.ACTIVE, None)
    assert (binding.delegation_id, binding.agent_id) == (lent.id, lent.actor.id)
    assert (token.binding_id, token.token_hash) == (binding.id, world.keys.hash(lent.bound.token.text))


async def test_both_ledgers_tell_of_it_and_only_the_delegates_of_its_token(world: World) -> None:
    lent = await world.delegation()
    theirs, mine = await world.ledger(lent.delegator), await world.ledger(lent.delegate)
    assert [each["event"] for each in mine if each["delegationId"]] == [
        *(Event.ACCEPTED, Event.BINDING_CREATED, Event.TOKEN_ISSUED)
    ]
    assert [each["event"] for each in theirs if each["delegationId"]] == [
        *(Event.OFFERED, Event.ACCEPTED, Event.BINDING_CREATED)
    ]


@pytest.mark.parametrize(
    ("lives", "most"), [(60, 60 * SECOND), (40 * DAY // SECOND, TOKEN_LIVES)], ids=["short", "long"]
)
async def test_a_token_lives_thirty_days_and_never_longer_than_its_delegation(
    world: World, lives: float, most: int
) -> None:
    lent = await world.delegation(lives=lives)
    assert lent.bound.issued.expires_at <= lent.delegation.expires_at
    assert 0 <= most - (lent.bound.issued.expires_at - lent.bound.issued.created_at) < 5 * SECOND


async def test_an_addressed_offer_is_accepted_by_its_id(world: World) -> None:
    lent = await world.accept(await world.offer(acceptance="ADDRESSED"))
    assert lent.delegation.status is Status.ACTIVE


# -- one way to fail (promise 5)

Kind = Callable[[World, Offered], Awaitable[OfferRef]]


async def _unknown_token(world: World, _offered: Offered) -> OfferRef:
    return OfferRef(world.keys.mint(TokenKind.OFFER).hash, None)


async def _malformed_token(world: World, _offered: Offered) -> OfferRef:
    return OfferRef(world.keys.hash("not even a token"), None)


async def _unknown_id(_world: World, _offered: Offered) -> OfferRef:
    return OfferRef(None, DelegationId(new_id("dlg")))


async def _token_offer_by_its_id(_world: World, offered: Offered) -> OfferRef:
    return OfferRef(None, offered.id)


async def _used(world: World, offered: Offered) -> OfferRef:
    await world.accept(offered)
    return offered.ref


async def _used_with_a_key(world: World, offered: Offered) -> OfferRef:
    await world.accept(offered, accept_key="another key")
    return offered.ref


async def _declined(world: World, offered: Offered) -> OfferRef:
    await world.made(decline, offered.delegate.owner, offered.ref, None)
    return offered.ref


async def _revoked(world: World, offered: Offered) -> OfferRef:
    await world.made(revoke, offered.delegator.owner, offered.id, "a mistake")
    return offered.ref


async def _lapsed(world: World, offered: Offered) -> OfferRef:
    await world.age(Delegation, offered.id, offer_expires_at=world.later(-1))
    return offered.ref


async def _expired(world: World, offered: Offered) -> OfferRef:
    await world.age(Delegation, offered.id, expires_at=world.later(-1))
    return offered.ref


async def _another_tenants(world: World, offered: Offered) -> OfferRef:
    return (await world.offer(offered.delegator, agent=offered.agent)).ref


async def _another_tenants_by_its_id(world: World, offered: Offered) -> OfferRef:
    return (await world.offer(offered.delegator, agent=offered.agent, acceptance="ADDRESSED")).ref


async def _its_own(world: World, offered: Offered) -> OfferRef:
    return (await world.offer(offered.delegate, offered.delegator)).ref


WRONG: list[Kind] = [
    *(_unknown_token, _malformed_token, _unknown_id, _token_offer_by_its_id, _used, _used_with_a_key),
    *(_declined, _revoked, _lapsed, _expired, _another_tenants, _another_tenants_by_its_id, _its_own),
]


@pytest.mark.parametrize("kind", WRONG)
async def test_a_wrong_offer_is_refused_in_the_same_words_and_changes_nothing(
    world: World, kind: Kind
) -> None:
    offered = await world.offer()
    actor = await world.agent(offered.delegate, [])
    ref = await kind(world, offered)
    before = await _everything(world)
    for accept_key in (None, "key"):
        answer = await world.try_accept(offered.delegate.owner, ref, actor.id, accept_key=accept_key)
        assert answer == NOT_ACCEPTABLE
    assert await world.write(decline, offered.delegate.owner, ref, None) == NOT_ACCEPTABLE
    assert await world.read(preview, offered.delegate.owner, ref.offer_hash or "") is None
    assert await _everything(world) == before


async def _everything(world: World) -> list[object]:
    kinds = (Delegation, Binding, ScopedToken)
    return [{**vars(row), "_sa_instance_state": None} for kind in kinds for row in await world.rows(kind)]


async def test_every_wrong_offer_costs_the_same_statements(world: World) -> None:
    costs: dict[str, list[str]] = {}
    for kind in WRONG:
        offered = await world.offer()
        actor = await world.agent(offered.delegate, [])
        ref = await kind(world, offered)
        with counting() as said:
            await world.try_accept(offered.delegate.owner, ref, actor.id, accept_key="key")
        costs[kind.__name__] = said
    by_id = {name: said for name, said in costs.items() if name.endswith("_id")}
    by_token = {name: said for name, said in costs.items() if name not in by_id}
    assert len({*map(tuple, by_token.values())}) == 1, costs
    assert len({*map(tuple, by_id.values())}) == 1, costs
    assert len({*map(len, costs.values())}) == 1, costs


@POSTGRES
@pytest.mark.parametrize("kind", WRONG)
async def test_a_wrong_offer_is_not_locked_for_a_lock_is_written_and_takes_longer_than_none(
    world: World, kind: Kind
) -> None:
    offered = await world.offer()
    actor = await world.agent(offered.delegate, [])
    ref, owner = await kind(world, offered), offered.delegate.owner
    given = (owner, ref, actor.id, world.keys)
    taken = await traced(world, accept, *given, acknowledged=True, expected_hash=None, accept_key="key")
    # Its own agent is locked whatever the offer is: whoever reports its trust waits until it is bound.
    assert taken == (NOT_ACCEPTABLE, [("agents", actor.id)])
    assert await traced(world, decline, owner, ref, None) == (NOT_ACCEPTABLE, [])


async def test_what_is_wrong_with_the_acceptance_itself_is_said_before_anybody_looks_for_the_offer(
    world: World,
) -> None:
    offered = await world.offer()
    mine, theirs = await world.agent(offered.delegate, []), await world.agent(offered.delegator, [])
    owner, wrong = offered.delegate.owner, OfferRef("no offer's", None)
    for ref in (offered.ref, wrong):
        answer = await world.try_accept(owner, ref, mine.id, acknowledged=False)
        assert isinstance(answer, Refusal)
        assert (answer.code, answer.path) == (Code.ACKNOWLEDGEMENT_REQUIRED, ("acknowledgeConstraints",))
        answers = [await world.try_accept(owner, ref, id) for id in (theirs.id, AgentId(new_id("agt")))]
        assert answers[0] == answers[1]
        assert isinstance(answers[0], Refusal)
        assert (answers[0].code, answers[0].path) == (Code.NOT_FOUND, ("acceptingAgentId",))
    assert (await world.row(Delegation, offered.id)).status is Status.PENDING


async def test_other_terms_than_were_read_are_not_accepted_and_the_offer_stays_open(world: World) -> None:
    offered = await world.offer()
    actor = await world.agent(offered.delegate, [])
    owner = offered.delegate.owner
    answer = await world.try_accept(owner, offered.ref, actor.id, expected_hash="another")
    assert isinstance(answer, Refusal)
    assert (answer.code, answer.path) == (Code.TERMS_CHANGED, ("termsHash",))
    (terms,) = await world.rows(TermsVersion)
    assert isinstance(
        await world.try_accept(owner, offered.ref, actor.id, expected_hash=terms.hash), Accepted
    )


async def test_a_terms_hash_tells_a_stranger_nothing(world: World) -> None:
    offered, stranger = await world.offer(), await world.tenant()
    actor = await world.agent(stranger, [])
    answer = await world.try_accept(stranger.owner, offered.ref, actor.id, expected_hash="another")
    assert answer == NOT_ACCEPTABLE


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OWNER])
async def test_only_an_owner_accepts_declines_or_reads_an_offer_by_its_token(
    world: World, role: Role
) -> None:
    offered = await world.offer()
    actor = await world.agent(offered.delegate, [])
    caller = await world.caller(offered.delegate, role)
    with pytest.raises(Forbidden):
        await world.try_accept(caller, offered.ref, actor.id)
    with pytest.raises(Forbidden):
        await world.write(decline, caller, offered.ref, None)
    with pytest.raises(Forbidden):
        await world.read(preview, caller, offered.ref.offer_hash or "")


async def test_a_preview_uses_nothing_up_and_is_for_the_addressed_tenant_alone(world: World) -> None:
    offered, stranger = await world.offer(), await world.tenant()
    hash = offered.ref.offer_hash or ""
    for _ in range(2):
        seen = await world.read(preview, offered.delegate.owner, hash)
        assert seen is not None
        assert seen.id == offered.id
    assert await world.read(preview, stranger.owner, hash) is None
    assert await world.read(preview, offered.delegator.owner, hash) is None
    assert (await world.accept(offered)).delegation.status is Status.ACTIVE


# -- repeats


async def test_a_repeat_with_the_same_key_gets_the_delegation_but_never_the_token_again(world: World) -> None:
    offered = await world.offer()
    lent = await world.accept(offered, accept_key="key")
    entries = len(await world.ledger(offered.delegate))
    again = await world.try_accept(offered.delegate.owner, offered.ref, lent.actor.id, accept_key="key")
    assert isinstance(again, Accepted)
    assert (again.delegation.id, again.issued) == (lent.id, None)
    assert len(await world.rows(ScopedToken)) == 1
    assert len(await world.ledger(offered.delegate)) == entries


async def test_a_repeat_gets_the_delegation_also_after_it_has_ended(world: World) -> None:
    offered = await world.offer()
    lent = await world.accept(offered, accept_key="key")
    await world.made(revoke, offered.delegator.owner, lent.id, "over")
    again = await world.try_accept(offered.delegate.owner, offered.ref, lent.actor.id, accept_key="key")
    assert isinstance(again, Accepted)
    assert (again.delegation.status, again.issued) == (Status.REVOKED, None)


async def test_another_tenant_with_the_same_key_gets_nothing(world: World) -> None:
    offered, stranger = await world.offer(), await world.tenant()
    await world.accept(offered, accept_key="key")
    actor = await world.agent(stranger, [])
    assert await world.try_accept(stranger.owner, offered.ref, actor.id, accept_key="key") == NOT_ACCEPTABLE


# -- once (promise 4)


async def accepts_at_once(world: World, offered: Offered, count: int) -> list[Accepted]:
    """Which of so many simultaneous acceptances of one offer succeed; the others fail in the one way."""
    actor = await world.agent(offered.delegate, [])
    room = asyncio.Semaphore(500)  # nobody waits for a connection for longer than its pool allows

    async def one() -> Accepted | Refusal:
        async with room:
            return await world.try_accept(offered.delegate.owner, offered.ref, actor.id)

    answers = await asyncio.gather(*(one() for _ in range(count)))
    accepted = [each for each in answers if isinstance(each, Accepted)]
    assert [each for each in answers if not isinstance(each, Accepted)] == [NOT_ACCEPTABLE] * (
        count - len(accepted)
    )
    return accepted


async def test_hundreds_of_acceptances_of_one_token_make_one_delegation(world: World, full: bool) -> None:
    offered = await world.offer()
    (accepted,) = await accepts_at_once(world, offered, 10_000 if full else 500)
    (delegation,), (binding,) = await world.rows(Delegation), await world.rows(Binding)
    (token,) = await world.rows(ScopedToken)
    assert accepted.issued is not None
    assert (accepted.issued.binding.id, accepted.issued.token.id) == (binding.id, token.id)
    assert (delegation.status, accepted.delegation.id) == (Status.ACTIVE, delegation.id)
    for member in (offered.delegator, offered.delegate):
        assert len(await world.ledger(member, Event.ACCEPTED, Event.BINDING_CREATED)) == 2
    assert len(await world.ledger(offered.delegate, Event.TOKEN_ISSUED)) == 1


@POSTGRES
async def test_the_harness_catches_an_acceptance_that_takes_no_lock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant: read the offer, and take it, without locking it in between."""

    def lock_nothing(tx: Tx, ids: Iterable[DelegationId]) -> None:
        pass

    monkeypatch.setattr(Tx, "lock", lock_nothing)
    offered = await world.offer()
    assert len(await accepts_at_once(world, offered, 20)) > 1
    assert len(await world.rows(Binding)) > 1


async def test_an_offer_that_is_accepted_and_revoked_at_once_is_one_of_both(world: World) -> None:
    for _ in range(10):
        offered = await world.offer()
        actor = await world.agent(offered.delegate, [])
        accepted, _ = await asyncio.gather(
            world.try_accept(offered.delegate.owner, offered.ref, actor.id),
            world.made(revoke, offered.delegator.owner, offered.id, "a mistake"),
        )
        row = await world.row(Delegation, offered.id)
        assert row.status is Status.REVOKED, "a delegator may revoke before and after"
        assert isinstance(accepted, Accepted) == (row.accepted_at is not None)


# -- declining


@pytest.mark.parametrize("acceptance", ["TOKEN", "ADDRESSED"])
async def test_declining_ends_an_offer_in_both_ledgers(world: World, acceptance: str) -> None:
    offered = await world.offer(acceptance=acceptance)
    await world.made(decline, offered.delegate.owner, offered.ref, "not now")
    row = await world.row(Delegation, offered.id)
    assert (row.status, row.ended_by, row.end_reason) == (Status.DECLINED, Party.DELEGATE, "not now")
    (mine,) = await world.ledger(offered.delegate, Event.DECLINED)
    (theirs,) = await world.ledger(offered.delegator, Event.DECLINED)
    assert (mine["pairId"], mine["actor"]) == (theirs["pairId"], "owner")
    assert theirs["details"] == {"reason": "not now"}


async def test_a_delegate_sees_a_token_offer_only_once_it_has_used_the_token(world: World) -> None:
    unused, declined, accepted = [await world.offer() for _ in range(3)]
    await world.made(decline, declined.delegate.owner, declined.ref, None)
    await world.accept(accepted)
    for offered, seen in ((unused, False), (declined, True), (accepted, True)):
        found = await world.read(delegations, offered.delegate.id, [offered.id])
        assert (offered.id in found) == seen
        assert offered.id in await world.read(delegations, offered.delegator.id, [offered.id])


async def test_a_reason_that_is_no_text_is_refused_and_the_offer_stays_open(world: World) -> None:
    offered = await world.offer()
    answer = await world.write(decline, offered.delegate.owner, offered.ref, "a\0b")
    assert isinstance(answer, Refusal)
    assert answer.path == ("reason",)
    assert (await world.row(Delegation, offered.id)).status is Status.PENDING
