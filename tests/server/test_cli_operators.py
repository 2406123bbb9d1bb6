"""What an operator sees and changes from the command line beside a gateway that serves: it counts at once."""

from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from app.api.pages import log_of
from app.identity.api_keys import COMMAND_LINE
from app.rules.instants import rfc3339
from tests.server.client import data, graphql
from tests.server.conftest import House
from tests.server.streams import Ended, a_key, events
from tests.serving import Done, Installation
from tests.world import Member

OFFER = """
mutation ($from: ID!, $to: ID!, $until: DateTime!) {
  offerDelegation(input: {
    fromAgentId: $from, toTenantId: $to, scopes: ["receipts:read"], constraints: {expiresAt: $until}
  }) { delegation { id } userErrors { code } }
}
"""
PLAN = "{ viewer { plan { name activeOutgoing maxActiveOutgoing } } }"

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def crossgrant(house: House, *arguments: str) -> Done:
    """The command line on the gateway's own store."""
    settings = house.lending.settings
    return await Installation(settings.data_dir, settings.database_url).command(*arguments)


async def test_a_key_that_is_revoked_ends_with_the_streams_that_it_has_open(house: House) -> None:
    acme = await house.lending.tenant()
    key, key_id = await a_key(house.lending, acme)
    async with aclosing(events(house.port, key, "sse", after=log_of(acme.id).cursor(0))) as stream:
        assert (await anext(stream))["node"]["event"] == "api_key.created"
        revoked = (await crossgrant(house, "key", "revoke", key_id, "--json")).json
        with pytest.raises(Ended, match="UNAUTHENTICATED"):
            await anext(stream)
    assert (revoked["apiKeyId"], revoked["tenantId"]) == (key_id, acme.id)
    (entry,) = await house.lending.ledger(acme, "api_key.revoked")
    assert (entry["actor"], entry["details"]["apiKeyId"]) == (COMMAND_LINE, key_id)
    answer = await graphql(house.port, key, "{ viewer { subject } }")
    assert answer.json["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("house", ["sqlite"], indirect=True)
async def test_keys_are_listed_by_what_tells_them_apart_and_never_themselves(house: House) -> None:
    acme = await house.lending.tenant()
    key, key_id = await a_key(house.lending, acme)
    listed = await crossgrant(house, "key", "list", acme.tenant.slug, "--json")
    owners, readers = listed.json
    assert (owners["apiKeyId"], owners["role"]) == (acme.owner.key_id, "OWNER")
    assert readers.pop("createdAt").endswith("Z")
    assert readers == {
        "apiKeyId": key_id,
        "role": "AUDITOR",
        "prefix": key[:10],
        "name": "a reader",
        "subject": "a reader",
        "expiresAt": None,
        "revokedAt": None,
    }
    table = await crossgrant(house, "key", "list", acme.id)
    _names, *lines = table.out.splitlines()
    assert [line.split()[0] for line in lines] == [acme.owner.key_id, key_id]
    for secret in (key, acme.key):
        assert secret not in listed.out + table.out


@pytest.mark.parametrize("house", ["sqlite", pytest.param("postgres", marks=pytest.mark.full)], indirect=True)
async def test_another_plan_counts_at_the_next_offer_and_ends_nothing(house: House) -> None:
    acme, globex = await house.lending.tenant(), await house.lending.tenant()
    agent = await house.lending.agent(acme)
    offers = [await house.lending.offer(acme, globex, agent) for _ in range(10)]
    slug = acme.tenant.slug

    async def offered() -> Any:
        until = rfc3339(house.lending.later(60))
        answer = await data(
            house.port, acme.key, OFFER, **{"from": agent.id, "to": globex.id, "until": until}
        )
        return [error["code"] for error in answer["userErrors"]]

    lowered = await crossgrant(house, "tenant", "plan", slug, "trial", "--json")
    assert lowered.json == row_of(acme, "trial", 10, 10)
    assert f"{slug} has 10 delegations" in lowered.err
    assert "new offers are refused (PLAN_LIMIT)" in lowered.err
    assert await offered() == ["PLAN_LIMIT"]
    seen = (await data(house.port, acme.key, PLAN))["plan"]
    assert seen == {"name": "trial", "activeOutgoing": 10, "maxActiveOutgoing": 10}
    assert all([await house.lending.accept(each) for each in offers[:2]]), "what was offered stays"
    listed = (await crossgrant(house, "tenant", "list", "--json")).json
    assert row_of(acme, "trial", 10, 10) in listed
    assert row_of(globex, "standard", 0, 1_000) in listed

    raised = await crossgrant(house, "tenant", "plan", acme.id, "standard", "--json")
    assert raised.json == row_of(acme, "standard", 10, 1_000)
    assert "refused" not in raised.err
    assert await offered() == []


async def test_a_command_in_the_wrong_folder_says_so_and_makes_nothing(tmp_path: Path) -> None:
    nowhere = Installation(tmp_path, secret=None)
    for arguments in (["tenant", "list"], ["key", "create", "acme", "--role", "ADMIN"]):
        done = await nowhere.command(*arguments)
        assert (done.code, done.out) == (2, "")
        assert f"there is no SQLite {tmp_path}/crossgrant.db: run this in the server's folder" in done.err
    assert [*nowhere.data_dir.iterdir()] == []
    await nowhere.command("migrate")
    unknown = await nowhere.command("key", "list", "acme")
    assert (
        f"there is no tenant 'acme': give a slug or an id (in SQLite {tmp_path}/crossgrant.db)" in unknown.err
    )


def row_of(member: Member, plan: str, used: int, most: int) -> dict[str, object]:
    """What is shown of a tenant."""
    return {
        "tenantId": member.id,
        "slug": member.tenant.slug,
        "name": member.tenant.name,
        "plan": plan,
        "activeOutgoing": used,
        "maxActiveOutgoing": most,
    }
