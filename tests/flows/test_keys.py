"""API keys: never above one's own role, and never none for an owner."""

import asyncio

import pytest

from app.identity.api_keys import (
    COMMAND_LINE,
    create_key,
    grant_key,
    keys_of,
    list_keys,
    revoke_key,
    touch_keys,
)
from app.identity.callers import Caller, find_caller, recheck, recheck_at_end
from app.identity.tenants import create_tenant, lock_tenant
from app.rules.entries import Event
from app.rules.errors import Code, Forbidden, Refusal, Unauthenticated
from app.rules.ids import ApiKeyId, Instant
from app.rules.permissions import GIVEABLE, Role
from app.rules.tokens import TokenKind
from app.store.engine import Tx
from app.store.keys import new_id
from app.store.tables import ApiKey, Tenant
from tests.flows.conftest import POSTGRES
from tests.flows.pausing import gate, wait_at_gate
from tests.world import World


async def key_of(
    world: World,
    by: Caller,
    role: Role = Role.VIEWER,
    expires_at: Instant | None = None,
    subject: str | None = None,
) -> ApiKey | Refusal:
    """What becomes of a wish for a key."""
    minted = world.keys.mint(TokenKind.API_KEY)
    return await world.write(
        create_key, by, name="a key", subject=subject, role=role, expires_at=expires_at, minted=minted
    )


@pytest.mark.parametrize("role", GIVEABLE)
async def test_an_owner_makes_keys_of_every_role_of_a_tenant(world: World, role: Role) -> None:
    member = await world.tenant()
    key = await key_of(world, member.owner, role)
    assert isinstance(key, ApiKey)
    assert (key.role, key.tenant_id, key.subject) == (role, member.id, "owner")


@pytest.mark.parametrize("role", [Role.TRUST_AUTHORITY, Role.PLATFORM])
async def test_the_command_lines_roles_are_not_an_owners_to_give(world: World, role: Role) -> None:
    member = await world.tenant()
    refusal = await key_of(world, member.owner, role)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.path) == (Code.ROLE_TOO_HIGH, ("role",))
    assert refusal.message.endswith(": the gateway's operator does so with `crossgrant key create`")
    assert len(await world.rows(ApiKey)) == 1


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OWNER])
async def test_nobody_but_an_owner_makes_or_ends_keys(world: World, role: Role) -> None:
    member = await world.tenant()
    caller = await world.caller(member, role)
    with pytest.raises(Forbidden):
        await key_of(world, caller)
    with pytest.raises(Forbidden):
        await world.write(revoke_key, caller, member.owner.key_id)


async def test_a_key_that_has_expired_already_is_refused(world: World) -> None:
    member = await world.tenant()
    refusal = await key_of(world, member.owner, expires_at=world.later(-1))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.path) == (Code.EXPIRY_INVALID, ("expiresAt",))


@pytest.mark.parametrize("subject", ["", " ", "a\0b", "x" * 201])
async def test_a_subject_is_words(world: World, subject: str) -> None:
    member = await world.tenant()
    refusal = await key_of(world, member.owner, subject=subject)
    assert isinstance(refusal, Refusal)
    assert refusal.path == ("subject",)


async def test_a_key_speaks_for_its_subject_until_it_is_revoked_or_expires(world: World) -> None:
    member = await world.tenant()
    revoked, expired = await world.caller(member, subject="zoe"), await world.caller(member)
    assert await world.read(recheck, revoked) == revoked
    assert (revoked.subject, revoked.tenant_id) == ("zoe", member.id)
    await world.made(revoke_key, member.owner, revoked.key_id)
    await world.age(ApiKey, expired.key_id, expires_at=world.later(-1))
    for caller in (revoked, expired):
        with pytest.raises(Unauthenticated):
            await world.read(recheck, caller)
        row = await world.row(ApiKey, caller.key_id)
        assert await world.read(find_caller, row.key_hash) is None


async def test_an_unknown_key_is_nobodys(world: World) -> None:
    await world.tenant()
    assert await world.read(find_caller, world.keys.mint(TokenKind.API_KEY).hash) is None


async def test_the_last_owners_key_stays(world: World) -> None:
    member = await world.tenant()
    await world.caller(member, Role.ADMIN)
    refusal = await world.write(revoke_key, member.owner, member.owner.key_id)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.path) == (Code.WRONG_STATE, ("apiKeyId",))
    second = await world.caller(member, Role.OWNER)
    await world.made(revoke_key, member.owner, member.owner.key_id)
    refusal = await world.write(revoke_key, second, second.key_id)
    assert isinstance(refusal, Refusal), "a revoked one does not count"


async def test_an_expired_owners_key_does_not_count_as_one(world: World) -> None:
    member = await world.tenant()
    other = await world.caller(member, Role.OWNER)
    await world.age(ApiKey, other.key_id, expires_at=world.later(-1))
    assert isinstance(await world.write(revoke_key, member.owner, member.owner.key_id), Refusal)


async def test_two_owners_who_revoke_each_other_at_once_do_not_lock_their_tenant_out(world: World) -> None:
    for _ in range(5):
        member = await world.tenant()
        other = await world.caller(member, Role.OWNER)
        answers = await asyncio.gather(
            world.write(revoke_key, member.owner, other.key_id),
            world.write(revoke_key, other, member.owner.key_id),
        )
        assert sum(isinstance(each, Refusal) for each in answers) == 1


async def test_a_repeated_revocation_answers_like_the_first(world: World) -> None:
    member = await world.tenant()
    caller = await world.caller(member)
    first = await world.made(revoke_key, member.owner, caller.key_id)
    again = await world.made(revoke_key, member.owner, caller.key_id)
    assert first.revoked_at == again.revoked_at
    assert len(await world.ledger(member, Event.API_KEY_REVOKED)) == 1


async def test_another_tenants_key_is_as_one_that_does_not_exist(world: World) -> None:
    member, stranger = await world.tenant(), await world.tenant()
    ids = (stranger.owner.key_id, ApiKeyId(new_id("key")))
    answers = [await world.write(revoke_key, member.owner, id) for id in ids]
    assert answers[0] == answers[1]
    assert isinstance(answers[0], Refusal)
    assert answers[0].code is Code.NOT_FOUND
    assert [key.id for key in await world.read(list_keys, member.owner)] == [member.owner.key_id]


@pytest.mark.parametrize("by", ["slug", "id"])
async def test_the_command_line_grants_every_role_by_a_tenants_slug_or_id(world: World, by: str) -> None:
    member = await world.tenant("acme")
    named = member.id if by == "id" else "acme"
    for role in Role:
        await world.made(grant_key, named, "ops", "ops", role, world.keys.mint(TokenKind.API_KEY))
    entries = await world.ledger(member, Event.API_KEY_CREATED)
    assert [each["details"]["role"] for each in entries] == list(Role)
    assert {each["actor"] for each in entries} == {COMMAND_LINE}


async def test_a_key_for_no_tenant_is_refused(world: World) -> None:
    minted = world.keys.mint(TokenKind.API_KEY)
    refusal = await world.write(grant_key, "nobody", "ops", "ops", Role.OWNER, minted)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.path) == (Code.NOT_FOUND, ("tenant",))


@pytest.mark.parametrize("role", [Role.ADMIN, Role.TRUST_AUTHORITY, Role.PLATFORM])
async def test_the_command_line_ends_a_key_of_every_role(world: World, role: Role) -> None:
    member = await world.tenant()
    caller = await world.caller(member, role)
    first = await world.made(revoke_key, None, caller.key_id)
    again = await world.made(revoke_key, None, caller.key_id)
    assert first.revoked_at == again.revoked_at is not None
    with pytest.raises(Unauthenticated):
        await world.read(recheck, caller)
    (entry,) = await world.ledger(member, Event.API_KEY_REVOKED)
    assert (entry["actor"], entry["details"]["apiKeyId"]) == (COMMAND_LINE, caller.key_id)


async def test_the_command_line_too_leaves_a_tenant_its_last_owners_key(world: World) -> None:
    member = await world.tenant()
    refusal = await world.write(revoke_key, None, member.owner.key_id)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.WRONG_STATE


async def test_where_no_owners_key_lives_any_more_the_others_can_be_ended_all_the_same(world: World) -> None:
    member = await world.tenant()
    caller = await world.caller(member)
    await world.age(ApiKey, member.owner.key_id, expires_at=world.later(-1))
    for id in (caller.key_id, member.owner.key_id):
        assert (await world.made(revoke_key, None, id)).revoked_at is not None


async def test_the_command_line_is_told_of_a_key_that_there_is_none_of(world: World) -> None:
    refusal = await world.write(revoke_key, None, ApiKeyId(new_id("key")))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.path) == (Code.NOT_FOUND, ("apiKeyId",))


async def test_the_command_line_sees_all_keys_of_a_tenant_and_no_others(world: World) -> None:
    member, _stranger = await world.tenant("acme"), await world.tenant()
    callers = [await world.caller(member, role) for role in Role]
    await world.made(revoke_key, None, callers[0].key_id)
    ids = [member.owner.key_id, *(each.key_id for each in callers)]
    for named in ("acme", member.id):
        found = await world.read(keys_of, named)
        assert not isinstance(found, Refusal)
        assert [key.id for key in found] == ids
    for unknown in ("nobody", "\udcff", ""):
        assert isinstance(await world.read(keys_of, unknown), Refusal)


async def test_when_a_key_was_last_used_never_goes_back(world: World) -> None:
    member = await world.tenant()
    late, early = world.later(0), world.later(-60)
    for at in (late, early):
        await world.write(touch_keys, {member.owner.key_id: at, ApiKeyId(new_id("key")): at})
    assert (await world.row(ApiKey, member.owner.key_id)).last_used_at == late


# -- tenants


@pytest.mark.parametrize("slug", ["", "A", "a b", "-a", "a-", "a_b", "é", "x" * 64, "a\n"])
async def test_a_slug_is_lower_case_letters_digits_and_inner_hyphens(world: World, slug: str) -> None:
    key = world.keys.mint(TokenKind.API_KEY)
    refusal = await world.write(create_tenant, slug, "Acme", "standard", key, world.plans)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.path) == (Code.INVALID, ("slug",))
    assert not await world.rows(Tenant)


async def test_a_slug_is_taken_once_and_a_plan_is_one_that_there_is(world: World) -> None:
    await world.tenant("acme")
    for slug, plan, code in (("acme", "standard", Code.TAKEN), ("other", "gold", Code.INVALID)):
        key = world.keys.mint(TokenKind.API_KEY)
        refusal = await world.write(create_tenant, slug, "Acme", plan, key, world.plans)
        assert isinstance(refusal, Refusal)
        assert refusal.code is code
    assert len(await world.rows(Tenant)) == 1


@POSTGRES
async def test_a_key_that_is_revoked_while_its_mutation_waits_for_a_lock_makes_nothing(world: World) -> None:
    member = await world.tenant()
    stolen = await world.caller(member, Role.OWNER)
    minted = world.keys.mint(TokenKind.API_KEY)

    def make(tx: Tx) -> object:
        recheck(tx, stolen)
        wish = {"name": "x", "subject": None, "role": Role.OWNER, "expires_at": None, "minted": minted}
        made = create_key(tx, stolen, **wish)  # type: ignore[arg-type]  # as the mutation calls it
        recheck_at_end(tx, stolen)
        return made

    def hold(tx: Tx) -> None:
        lock_tenant(tx, member.id)
        wait_at_gate(tx)

    async with gate(world) as closed:
        holding = asyncio.ensure_future(world.write(hold))
        await closed.waiting()
        making = asyncio.ensure_future(world.write(make))
        await closed.blocked()
        await world.made(revoke_key, member.owner, stolen.key_id)
        await closed.open()
        await holding
        with pytest.raises(Unauthenticated):
            await making
    assert await world.read(find_caller, minted.hash) is None


async def test_whoever_ends_their_own_key_is_told_that_it_is_done(world: World) -> None:
    member = await world.tenant()
    other = await world.caller(member, Role.OWNER)

    def revoke(tx: Tx) -> object:
        ended = revoke_key(tx, other, other.key_id)
        recheck_at_end(tx, other)
        return ended

    assert isinstance(await world.write(revoke), ApiKey)
