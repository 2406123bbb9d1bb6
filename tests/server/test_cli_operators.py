"""What an operator sees and changes from the command line beside a gateway that serves: it counts at once."""

from contextlib import aclosing

import pytest

from app.api.pages import log_of
from app.identity.api_keys import COMMAND_LINE
from tests.server.client import graphql
from tests.server.conftest import House
from tests.server.streams import Ended, a_key, events
from tests.serving import Done, Installation

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
