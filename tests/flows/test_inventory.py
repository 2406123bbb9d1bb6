"""What a tenant has: agents, upstreams whose credentials nobody reads back, and actions that never clash."""

import asyncio

import pytest
from cryptography.exceptions import InvalidTag

from app.inventory.actions import define_action, remove_action
from app.inventory.agents import AgentChanges, AgentDraft, register_agent, update_agent
from app.inventory.upstreams import Credential, UpstreamChanges, register_upstream, update_upstream
from app.proxy.attempts import Go, Released, Withheld
from app.rules.entries import Event, Outcome
from app.rules.errors import Code, Forbidden, Refusal
from app.rules.ids import ActionId, AgentId, UpstreamId
from app.rules.permissions import Role
from app.store.keys import new_id
from app.store.tables import Action, Agent, Upstream
from tests.flows.nodes import node
from tests.world import LOOPBACK, SCOPES, Member, World

SERVICE = "http://127.0.0.1:9"
CREDENTIAL = Credential("Authorization", "Bearer of good news")


async def refused_upstream(
    world: World, by: Member, name: str = "api", base_url: str = SERVICE, credential: Credential | None = None
) -> Refusal:
    """Why an upstream is not registered."""
    refusal = await world.write(
        register_upstream,
        by.owner,
        world.keys,
        LOOPBACK,
        name=name,
        kind="REST",
        base_url=base_url,
        credential=credential,
    )
    assert isinstance(refusal, Refusal)
    return refusal


async def moved(
    world: World, by: Member, upstream: Upstream, base_url: str | None, credential: Credential | None = None
) -> Upstream:
    """An upstream at another address, or with another credential."""
    return await world.made(
        update_upstream,
        by.owner,
        world.keys,
        LOOPBACK,
        upstream.id,
        UpstreamChanges(base_url, credential),
    )


def opened(world: World, upstream: Upstream) -> str:
    """The credential that would go out."""
    assert upstream.sealed_credential is not None
    return world.keys.open(upstream.sealed_credential, upstream.tenant_id, upstream.id).decode()


# -- upstreams


async def test_a_credential_is_sealed_for_its_row_and_opens_nowhere_else(world: World) -> None:
    member = await world.tenant()
    upstream = await world.upstream(member, credential=CREDENTIAL)
    other = await world.upstream(member, "other-api", credential=CREDENTIAL)
    assert opened(world, upstream) == CREDENTIAL.value
    assert CREDENTIAL.value not in (upstream.sealed_credential or "")
    assert upstream.sealed_credential != other.sealed_credential
    other.sealed_credential = upstream.sealed_credential
    with pytest.raises(InvalidTag):
        opened(world, other)


async def test_the_ledger_says_that_there_is_a_credential_and_nothing_of_it(world: World) -> None:
    member = await world.tenant()
    upstream = await world.upstream(member, credential=CREDENTIAL)
    await moved(world, member, upstream, None, Credential("X-Key", "another"))
    registered, updated = await world.ledger(member, Event.UPSTREAM_REGISTERED, Event.UPSTREAM_UPDATED)
    assert registered["details"]["hasCredential"]
    assert updated["details"]["credentialReplaced"]
    assert "Bearer of good news" not in str(registered)
    assert "another" not in str(updated)


@pytest.mark.parametrize(
    ("base_url", "keeps"),
    [
        (None, True),
        ("http://127.0.0.1:9/v2", True),
        ("HTTP://127.0.0.1:9/", True),
        ("http://127.0.0.1:10", False),
        ("https://127.0.0.1:9", False),
        ("http://127.0.0.2:9", False),
    ],
)
async def test_another_origin_drops_the_credential(world: World, base_url: str | None, keeps: bool) -> None:
    member = await world.tenant()
    upstream = await world.upstream(member, base_url=SERVICE, credential=CREDENTIAL)
    after = await moved(world, member, upstream, base_url)
    assert (after.sealed_credential is not None) == keeps
    assert (after.credential_header is not None) == keeps


async def test_a_credential_that_comes_with_another_origin_is_the_one_that_is_kept(world: World) -> None:
    member = await world.tenant()
    upstream = await world.upstream(member, credential=CREDENTIAL)
    after = await moved(world, member, upstream, "http://127.0.0.1:10", Credential("X-Key", "new"))
    assert (after.credential_header, opened(world, after)) == ("X-Key", "new")


@pytest.mark.parametrize(
    "header",
    [
        *("Host", "Connection", "Content-Length", "Transfer-Encoding"),
        *("host", "TRANSFER-ENCODING", "TE", "Trailer", "Upgrade", "Expect", "Keep-Alive"),
        *("Content-Type", "Accept-Encoding", "Proxy-Authorization"),
        *("Crossgrant-Dispatch-Id", "crossgrant-assertion"),
        *("", "X Key", "X-Key:", "X-Key\r\nHost", "X-Kéy", "X" * 101),
    ],
)
async def test_a_header_that_frames_or_routes_a_request_carries_no_credential(
    world: World, header: str
) -> None:
    member = await world.tenant()
    refusal = await refused_upstream(world, member, credential=Credential(header, "x"))
    assert (refusal.code, refusal.path) == (Code.INVALID, ("credential", "header"))
    upstream = await world.upstream(member)
    changes = UpstreamChanges(credential=Credential(header, "x"))
    answer = await world.write(update_upstream, member.owner, world.keys, LOOPBACK, upstream.id, changes)
    assert isinstance(answer, Refusal)
    assert (await world.row(Upstream, upstream.id)).credential_header is None


@pytest.mark.parametrize(
    "value", ["", " ", "s3cret\r\nHost: x", "s3cret\0", "s3crét", " s3cret", "s3cret ", "s3cret" * 2000]
)
async def test_a_credential_is_one_line_of_visible_ascii(world: World, value: str) -> None:
    refusal = await refused_upstream(world, await world.tenant(), credential=Credential("X-Key", value))
    assert (refusal.code, refusal.path) == (Code.INVALID, ("credential", "value"))
    assert "s3cr" not in refusal.message


@pytest.mark.parametrize(
    "base_url",
    ["", "127.0.0.1", "ftp://127.0.0.1", "http://10.0.0.1", "http://u:p@127.0.0.1", "http://127.0.0.1/?q"],
)
async def test_an_address_that_must_not_be_called_is_no_upstreams(world: World, base_url: str) -> None:
    refusal = await refused_upstream(world, await world.tenant(), base_url=base_url)
    assert (refusal.code, refusal.path) == (Code.INVALID, ("baseUrl",))


@pytest.mark.parametrize("name", ["", "Api", "a b", "-a", "a-", "a/b", "é", "x" * 64, "a\n"])
async def test_a_name_is_one_segment_of_a_path(world: World, name: str) -> None:
    refusal = await refused_upstream(world, await world.tenant(), name)
    assert (refusal.code, refusal.path) == (Code.INVALID, ("name",))


async def test_a_name_is_taken_within_a_tenant_alone(world: World) -> None:
    member, other = await world.tenant(), await world.tenant()
    await world.upstream(member, "api")
    await world.upstream(other, "api")
    assert (await refused_upstream(world, member, "api")).code is Code.TAKEN


# -- actions


async def refused_action(world: World, by: Member, upstream_id: UpstreamId, **given: object) -> Refusal:
    """Why an action is not defined."""
    right: dict[str, object] = {
        "scope": SCOPES[0],
        "method": "GET",
        "path": "/a",
        "cost_units": 1,
        "response_mode": "BUFFERED",
        "idempotent": False,
    }
    refusal = await world.write(define_action, by.owner, upstream_id, **{**right, **given})  # type: ignore[arg-type]
    assert isinstance(refusal, Refusal)
    return refusal


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"scope": "Receipts"}, "scope"),
        ({"method": "get"}, "method"),
        ({"method": None}, "method"),
        ({"method": "CONNECT"}, "method"),
        ({"path": None}, "path"),
        ({"path": "/a/../b"}, "path"),
        ({"path": "/{id"}, "path"),
        ({"cost_units": 0}, "costUnits"),
        ({"cost_units": 1_000_001}, "costUnits"),
        ({"response_mode": "STREAMED"}, "responseMode"),
    ],
)
async def test_a_wrong_action_is_named_by_its_field(
    world: World, given: dict[str, object], path: str
) -> None:
    member = await world.tenant()
    refusal = await refused_action(world, member, (await world.upstream(member)).id, **given)
    assert refusal.path == (path,)
    assert not await world.rows(Action)


async def test_two_actions_of_an_upstream_never_match_the_same_request(world: World) -> None:
    member = await world.tenant()
    upstream, other = await world.upstream(member), await world.upstream(member, "other-api")
    await world.action(member, upstream, path="/r/{id}")
    for path in ("/r/{id}", "/r/{other}"):
        refusal = await refused_action(world, member, upstream.id, path=path)
        assert (refusal.code, refusal.path) == (Code.TAKEN, ("path",))
    await world.action(member, upstream, path="/r/latest")  # a literal before a parameter is fine
    await world.action(member, upstream, method="POST", path="/r/{id}")
    await world.action(member, other, path="/r/{id}")


async def test_two_who_define_one_action_at_once_do_not_both_succeed(world: World) -> None:
    member = await world.tenant()
    upstream = await world.upstream(member)
    answers = await asyncio.gather(
        *(
            world.write(
                define_action,
                member.owner,
                upstream.id,
                scope=SCOPES[0],
                method="GET",
                path=f"/r/{{name{number}}}",
                cost_units=1,
                response_mode="BUFFERED",
                idempotent=False,
            )
            for number in range(10)
        )
    )
    assert sum(isinstance(each, Action) for each in answers) == 1
    assert len(await world.ledger(member, Event.ACTION_DEFINED)) == 1


async def test_a_removed_action_is_admitted_no_more(world: World) -> None:
    lent = await world.delegation()
    action = next(row for row in await world.rows(Action) if row.method == "GET")
    async with node(world) as at:
        assert isinstance(await at.perform(lent), Released)
        await world.made(remove_action, lent.delegator.owner, action.id)
        assert (await at.no(lent)).code is Code.ACTION_NOT_FOUND


async def test_the_answer_of_an_action_that_is_removed_meanwhile_is_withheld(world: World) -> None:
    lent = await world.delegation()
    read, other, *_ = sorted(await world.rows(Action), key=lambda row: row.method != "GET")
    async with node(world) as at:
        kept, lost = await at.go(lent), await at.go(lent)
        await world.made(remove_action, lent.delegator.owner, other.id)
        assert isinstance(await at.complete(kept), Released)
        await world.made(remove_action, lent.delegator.owner, read.id)
        assert await at.complete(lost) == Withheld(Outcome.WITHHELD, Code.ACTION_NOT_FOUND)


async def test_a_moved_upstream_is_called_at_its_new_address_from_the_next_action_on(world: World) -> None:
    lent = await world.delegation()
    (upstream,) = await world.rows(Upstream)
    async with node(world) as at:
        assert (await at.go(lent)).destination.base_url == SERVICE
        await moved(world, lent.delegator, upstream, "http://127.0.0.1:10", CREDENTIAL)
        destination = (await at.go(lent)).destination
        assert destination.base_url == "http://127.0.0.1:10"
        assert destination.credential == (CREDENTIAL.header, CREDENTIAL.value)


# -- agents


@pytest.mark.parametrize(
    ("draft", "path"),
    [
        (AgentDraft("", "", [], None, []), "name"),
        (AgentDraft("a\0", "", [], None, []), "name"),
        (AgentDraft("a", "x" * 2001, [], None, []), "description"),
        (AgentDraft("a", "", ["Receipts:read"], None, []), "scopes"),
        (AgentDraft("a", "", [f"a:{number}" for number in range(101)], None, []), "scopes"),
        (AgentDraft("a", "", [], None, [""]), "tags"),
        (AgentDraft("a", "", [], None, ["t"] * 51), "tags"),
    ],
)
async def test_a_wrong_agent_is_named_by_its_field(world: World, draft: AgentDraft, path: str) -> None:
    refusal = await world.write(register_agent, (await world.tenant()).owner, draft)
    assert isinstance(refusal, Refusal)
    assert refusal.path == (path,)
    assert not await world.rows(Agent)


async def test_a_change_changes_what_it_names_and_says_so(world: World) -> None:
    member = await world.tenant()
    agent = await world.agent(member)
    await world.made(update_agent, member.owner, agent.id, AgentChanges(description="better"))
    row = await world.row(Agent, agent.id)
    assert (row.name, row.description, row.scopes) == (agent.name, "better", sorted(SCOPES))
    (entry,) = await world.ledger(member, Event.AGENT_UPDATED)
    assert entry["details"]["changed"] == ["description"]


async def test_a_scope_taken_from_an_agent_ends_at_once_under_every_delegation_that_lends_it(
    world: World,
) -> None:
    lent = await world.delegation()
    narrower, wider = AgentChanges(scopes=[SCOPES[1]]), AgentChanges(scopes=list(SCOPES))
    async with node(world) as at:
        go = await at.go(lent)
        await world.made(update_agent, lent.delegator.owner, lent.agent.id, narrower)
        assert (await at.no(lent)).code is Code.ACTION_NOT_FOUND
        assert await at.complete(go) == Withheld(Outcome.WITHHELD, Code.ACTION_NOT_FOUND)
        assert isinstance(await at.admit(lent, method="POST", path="/v1/receipts"), Go), (
            "the other scope stays"
        )
        await world.made(update_agent, lent.delegator.owner, lent.agent.id, wider)
        assert isinstance(await at.admit(lent), Go)


async def test_what_is_another_tenants_is_as_what_does_not_exist(world: World) -> None:
    mine, theirs = await world.tenant(), await world.tenant()
    agent, upstream = await world.agent(theirs), await world.upstream(theirs)
    action = await world.action(theirs, upstream)
    for agent_id in (agent.id, AgentId(new_id("agt"))):
        answer = await world.write(update_agent, mine.owner, agent_id, AgentChanges(name="x"))
        assert answer == Refusal(Code.NOT_FOUND, "agentId names no agent of your tenant", ("agentId",))
    for upstream_id in (upstream.id, UpstreamId(new_id("ups"))):
        refusal = await refused_action(world, mine, upstream_id)
        assert (refusal.code, refusal.path) == (Code.NOT_FOUND, ("upstreamId",))
    removed = [
        await world.write(remove_action, mine.owner, id) for id in (action.id, ActionId(new_id("act")))
    ]
    assert removed[0] == removed[1]
    assert len(await world.rows(Action)) == 1


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AUDITOR, Role.VIEWER, Role.PLATFORM])
async def test_only_administration_changes_what_a_tenant_has(world: World, role: Role) -> None:
    member = await world.tenant()
    caller = await world.caller(member, role)
    with pytest.raises(Forbidden):
        await world.write(register_agent, caller, AgentDraft("a", "", [], None, []))
    with pytest.raises(Forbidden):
        await world.write(remove_action, caller, ActionId(new_id("act")))
