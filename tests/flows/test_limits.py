"""What a tenant may have so many of, it never has more of, however many writers add at once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from app.identity import api_keys
from app.identity.api_keys import create_key
from app.inventory import actions, agents, upstreams
from app.inventory.actions import define_action
from app.inventory.agents import AgentDraft, register_agent
from app.inventory.upstreams import register_upstream
from app.rules.errors import Code, Refusal
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from app.store.tables import Action, Agent, ApiKey, Row, Tenant, Upstream
from tests.world import LOOPBACK, Member, World

MOST = 3
AT_ONCE = 20

Add = Callable[[World, Member, int], Coroutine[Any, Any, Row | Refusal]]


async def _agent(world: World, by: Member, number: int) -> Agent | Refusal:
    return await world.write(register_agent, by.owner, AgentDraft(f"agent {number}", "", [], None, []))


async def _upstream(world: World, by: Member, number: int) -> Upstream | Refusal:
    return await world.write(
        register_upstream,
        by.owner,
        world.keys,
        LOOPBACK,
        name=f"api-{number}",
        kind="REST",
        base_url="http://127.0.0.1:9",
        credential=None,
    )


async def _key(world: World, by: Member, number: int) -> ApiKey | Refusal:
    minted = world.keys.mint(TokenKind.API_KEY)
    return await world.write(
        create_key,
        by.owner,
        name=f"key {number}",
        subject=None,
        role=Role.VIEWER,
        expires_at=None,
        minted=minted,
    )


async def _action(world: World, by: Member, number: int) -> Action | Refusal:
    (upstream,) = await world.rows(Upstream)
    return await world.write(
        define_action,
        by.owner,
        upstream.id,
        scope="a:b",
        method="GET",
        path=f"/{number}",
        cost_units=1,
        response_mode="BUFFERED",
        idempotent=False,
    )


@pytest.mark.parametrize(
    ("limit", "add", "kind"),
    [
        ((agents, "MOST_AGENTS"), _agent, Agent),
        ((upstreams, "MOST_UPSTREAMS"), _upstream, Upstream),
        ((api_keys, "MOST_KEYS"), _key, ApiKey),
        ((actions, "MOST_ACTIONS"), _action, Action),
    ],
    ids=["agents", "upstreams", "keys", "actions"],
)
async def test_a_limit_holds_however_many_add_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: tuple[Any, str], add: Add, kind: type[Row]
) -> None:
    member = await world.tenant()
    if kind is Action:
        await world.upstream(member)
    has = len(await world.rows(kind))  # an owner's key, to begin with
    monkeypatch.setattr(*limit, MOST)
    answers = await asyncio.gather(*(add(world, member, number) for number in range(AT_ONCE)))
    refused = [each for each in answers if isinstance(each, Refusal)]
    assert {each.code for each in refused} == {Code.LIMIT_REACHED}
    assert len(refused) == AT_ONCE - (MOST - has)
    assert len(await world.rows(kind)) == MOST


async def test_two_who_register_one_name_at_once_do_not_both_succeed(world: World) -> None:
    member = await world.tenant()
    answers = await asyncio.gather(*(_upstream(world, member, 1) for _ in range(10)))
    assert [each.code for each in answers if isinstance(each, Refusal)] == [Code.TAKEN] * 9


async def test_a_refused_upstream_leaves_the_tenants_routes_as_they_are(world: World) -> None:
    member = await world.tenant()
    await world.upstream(member, "api-1")
    before = await world.row(Tenant, member.id)
    assert isinstance(await _upstream(world, member, 1), Refusal)
    assert (await world.row(Tenant, member.id)).routes_revision == before.routes_revision
