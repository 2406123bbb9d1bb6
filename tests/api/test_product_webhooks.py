"""Webhooks over GraphQL: made, shown, sent, recovered, rotated and deleted, as a tenant's admins do it."""

import asyncio
from typing import Any

import pytest
from standardwebhooks import Webhook

from app.api import context
from app.rules.ids import Instant
from app.rules.instants import rfc3339
from app.rules.permissions import Role
from tests.api.product import ERRORS, REGISTER, Json, Tenant, World
from tests.flows.waiting import until
from tests.upstreams import Answer, Seen, upstream

SHOWN = "endpoint { id url events description status disabledReason createdAt }"
CREATE = (
    "mutation ($input: CreateWebhookEndpointInput!) {"
    f" createWebhookEndpoint(input: $input) {{ {SHOWN} secret {ERRORS} }} }}"
)
UPDATE = (
    "mutation ($input: UpdateWebhookEndpointInput!) {"
    f" updateWebhookEndpoint(input: $input) {{ {SHOWN} secret {ERRORS} }} }}"
)
ROTATE = (
    "mutation ($input: RotateWebhookSecretInput!) {"
    f" rotateWebhookSecret(input: $input) {{ {SHOWN} secret {ERRORS} }} }}"
)
DELETE = f"mutation ($id: ID!) {{ deleteWebhookEndpoint(endpointId: $id) {{ deletedId {ERRORS} }} }}"
DELIVERY = (
    "id status nextAttemptAt endpoint { id } entry { event seq } attempts { at status durationMs error }"
)
TEST = f"mutation ($id: ID!) {{ testWebhook(endpointId: $id) {{ delivery {{ {DELIVERY} }} {ERRORS} }} }}"
REDELIVER = (
    f"mutation ($id: ID!) {{ redeliver(input: {{deliveryId: $id}}) {{ delivery {{ id status }} {ERRORS} }} }}"
)
RECOVER = (
    "mutation ($id: ID!, $since: DateTime!) {"
    f" recoverDeliveries(input: {{endpointId: $id, since: $since}}) {{ count {ERRORS} }} }}"
)
LIST = (
    "query ($first: Int, $after: String, $status: DeliveryStatus) { webhookEndpoints { id status disabledReason"
    " deliveries(first: $first, after: $after, status: $status) {"
    f" nodes {{ {DELIVERY} }} pageInfo {{ hasNextPage endCursor }} }} }} }}"
)


async def made(world: World, tenant: Tenant, url: str, *events: str, **more: object) -> Json:
    payload: Json = await world.ask(tenant.key, CREATE, input={"url": url, "events": list(events), **more})
    assert payload["userErrors"] == []
    return payload


async def delivered(world: World, tenant: Tenant, count: int, **given: object) -> list[Json]:
    """The deliveries of the only endpoint, newest first, once so many have settled."""

    async def settled() -> list[Json]:
        [endpoint] = await world.ask(tenant.key, LIST, **given)
        nodes: list[Json] = endpoint["deliveries"]["nodes"]
        done = len(nodes) >= count and all(node["status"] != "PENDING" for node in nodes)
        return nodes if done else []

    return await until(settled)


def verified(secret: str, seen: Seen) -> Json:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    body: Json = Webhook(secret).verify(seen.body, {name: seen.header(name) or "" for name in names})
    return body


async def registered(world: World, tenant: Tenant, count: int) -> None:
    for _ in range(count):
        await world.ask(tenant.key, REGISTER, input={"name": "x", "scopes": []})


async def test_an_endpoint_is_made_and_sent_to_and_shows_what_became_of_it(world: World) -> None:
    acme = await world.tenant("acme")
    admin = await world.key(acme, Role.ADMIN)
    async with upstream() as receiver:
        receiver.play = Answer(b"")
        payload = await made(world, acme, f"{receiver.url}/hook", "agent.*", description="ours")
        endpoint = payload["endpoint"]
        assert payload["secret"].startswith("whsec_")
        assert (endpoint["status"], endpoint["disabledReason"], endpoint["description"]) == (
            "ENABLED",
            None,
            "ours",
        )
        await registered(world, acme, 3)
        nodes = await delivered(world, acme, 3)
        logged = await world.ask(
            admin, '{ auditLog(filter: {events: ["agent.*"]}) { nodes { id event seq leafHash } } }'
        )
        entries = logged["nodes"][1:]  # the first agent was there before the endpoint
        assert [node["entry"]["seq"] for node in nodes] == [entry["seq"] for entry in reversed(entries)]
        for node in nodes:
            assert (node["status"], node["nextAttemptAt"], node["endpoint"]["id"]) == (
                "DELIVERED",
                None,
                endpoint["id"],
            )
            [attempt] = node["attempts"]
            assert (attempt["status"], attempt["error"]) == (200, None)
            assert attempt["durationMs"] >= 0
        bodies = [verified(payload["secret"], seen) for seen in receiver.seen]
        assert {body["id"] for body in bodies} == {entry["id"] for entry in entries}
        assert {body["source"] for body in bodies} == {"http://gateway.test"}
        found = await world.ask(
            admin, "query ($id: ID!) { node(id: $id) { id __typename } }", id=nodes[0]["id"]
        )
        assert found == {"id": nodes[0]["id"], "__typename": "WebhookDelivery"}


async def test_deliveries_come_in_pages_the_newest_first_and_by_status(world: World) -> None:
    acme = await world.tenant("acme")
    async with upstream() as receiver:
        receiver.play = Answer(b"")
        await made(world, acme, f"{receiver.url}/", "agent.registered")
        await registered(world, acme, 5)
        whole = [node["id"] for node in await delivered(world, acme, 5)]
        pages: list[str] = []
        after = None
        while True:
            [endpoint] = await world.ask(acme.key, LIST, first=2, after=after)
            page = endpoint["deliveries"]
            pages += [node["id"] for node in page["nodes"]]
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
        assert pages == whole
        [endpoint] = await world.ask(acme.key, LIST, status="FAILED")
        assert endpoint["deliveries"]["nodes"] == []
        [endpoint] = await world.ask(acme.key, LIST, status="DELIVERED")
        assert [node["id"] for node in endpoint["deliveries"]["nodes"]] == whole


async def test_one_that_gives_up_is_disabled_and_recovered(world: World) -> None:
    acme = await world.tenant("acme")
    since = rfc3339(Instant(0))
    async with upstream() as receiver:
        receiver.play = Answer(status=503)
        endpoint = (await made(world, acme, f"{receiver.url}/", "agent.registered"))["endpoint"]
        await registered(world, acme, 1)
        [failed] = await delivered(world, acme, 1)
        assert (failed["status"], failed["nextAttemptAt"]) == ("FAILED", None)
        assert [attempt["status"] for attempt in failed["attempts"]] == [503] * 4
        [shown] = await world.ask(acme.key, LIST)
        assert (shown["status"], shown["disabledReason"]) == (
            "DISABLED",
            "4 attempts failed; the last: it answered with status 503",
        )
        logged = await world.ask(
            acme.key, '{ auditLog(filter: {events: ["webhook.disabled"]}) { nodes { details } } }'
        )
        [told] = logged["nodes"]
        assert told["details"]["endpointId"] == endpoint["id"]
        for ask in (RECOVER, TEST):
            given: Any = {"since": since} if ask is RECOVER else {}
            refused = await world.ask(acme.key, ask, id=endpoint["id"], **given)
            assert [error["code"] for error in refused["userErrors"]] == ["WRONG_STATE"]
        receiver.play = Answer(b"")
        enabled = await world.ask(acme.key, UPDATE, input={"endpointId": endpoint["id"], "status": "ENABLED"})
        assert enabled["endpoint"]["status"] == "ENABLED"
        recovered = await world.ask(acme.key, RECOVER, id=endpoint["id"], since=since)
        assert recovered == {"count": 2, "userErrors": []}, "and the agent that was there before the endpoint"
        nodes = await delivered(world, acme, 2)
        assert {node["status"] for node in nodes} == {"DELIVERED"}


async def test_a_test_is_sent_and_sent_once_more(world: World) -> None:
    acme = await world.tenant("acme")
    async with upstream() as receiver:
        receiver.play = Answer(b"")
        endpoint = (await made(world, acme, f"{receiver.url}/", "delegation.revoked"))["endpoint"]
        tested = await world.ask(acme.key, TEST, id=endpoint["id"])
        assert tested["delivery"]["entry"]["event"] == "webhook.test"
        [node] = await delivered(world, acme, 1)
        assert node["id"] == tested["delivery"]["id"]
        again = await world.ask(acme.key, REDELIVER, id=node["id"])
        assert again["userErrors"] == []
        await receiver.saw(2)
        [node] = await delivered(world, acme, 1)
        assert [attempt["status"] for attempt in node["attempts"]] == [200, 200]
        assert {seen.header("webhook-id") for seen in receiver.seen} == {node["id"]}


async def test_a_secret_is_rotated_and_never_shown_again(world: World) -> None:
    acme = await world.tenant("acme")
    async with upstream() as receiver:
        receiver.play = Answer(b"")
        first = await made(world, acme, f"{receiver.url}/", "agent.*")
        id = first["endpoint"]["id"]
        rotated = await world.ask(acme.key, ROTATE, input={"endpointId": id})
        updated = await world.ask(acme.key, UPDATE, input={"endpointId": id, "events": ["agent.registered"]})
        assert updated["secret"] is None
        await registered(world, acme, 1)
        await delivered(world, acme, 1)
        [seen] = receiver.seen
        assert verified(first["secret"], seen) == verified(rotated["secret"], seen)
        refused = await world.ask(acme.key, ROTATE, input={"endpointId": id, "overlapSeconds": -1})
        assert [error["path"] for error in refused["userErrors"]] == [["overlapSeconds"]]


async def test_a_repeat_by_idempotency_key_makes_nothing_and_shows_no_secret(world: World) -> None:
    acme = await world.tenant("acme")
    given = {"url": "http://127.0.0.1:9/", "events": ["*"], "idempotencyKey": "once"}
    first = await made(world, acme, "http://127.0.0.1:9/", "*", idempotencyKey="once")
    again = await world.ask(acme.key, CREATE, input=given)
    assert (again["secret"], again["endpoint"]) == (None, first["endpoint"])
    assert [error["code"] for error in again["userErrors"]] == ["TOKEN_ALREADY_ISSUED"]
    other = await world.ask(acme.key, CREATE, input={**given, "events": ["agent.*"]})
    assert [error["code"] for error in other["userErrors"]] == ["IDEMPOTENCY_KEY_REUSED"]
    assert len(await world.ask(acme.key, "{ webhookEndpoints { id } }")) == 1


@pytest.mark.parametrize(
    ("url", "events", "path"),
    [
        ("http://10.1.2.3/", ["*"], ["url"]),
        ("ftp://example.com/", ["*"], ["url"]),
        ("http://127.0.0.1:9/", ["delegation.nothing"], ["events"]),
        ("http://127.0.0.1:9/", [], ["events"]),
    ],
)
async def test_what_is_wrong_is_a_user_error_that_names_the_field(
    world: World, url: str, events: list[str], path: list[str]
) -> None:
    acme = await world.tenant("acme")
    refused = await world.ask(acme.key, CREATE, input={"url": url, "events": events})
    assert (refused["endpoint"], refused["secret"]) == (None, None)
    assert [(error["code"], error["path"]) for error in refused["userErrors"]] == [("INVALID", path)]
    assert await world.ask(acme.key, "{ webhookEndpoints { id } }") == []


async def test_a_deleted_endpoint_is_gone_with_its_deliveries(world: World) -> None:
    acme = await world.tenant("acme")
    async with upstream() as receiver:
        receiver.play = Answer(b"")
        id = (await made(world, acme, f"{receiver.url}/", "agent.*"))["endpoint"]["id"]
        tested = await world.ask(acme.key, TEST, id=id)
        await delivered(world, acme, 1)
        assert await world.ask(acme.key, DELETE, id=id) == {"deletedId": id, "userErrors": []}
        again = await world.ask(acme.key, DELETE, id=id)
        assert [error["code"] for error in again["userErrors"]] == ["NOT_FOUND"]
        found = await world.ask(
            acme.key, "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=[id, tested["delivery"]["id"]]
        )
        assert found == [None, None]
        redelivered = await world.ask(acme.key, REDELIVER, id=tested["delivery"]["id"])
        assert [error["code"] for error in redelivered["userErrors"]] == ["NOT_FOUND"]


async def test_what_a_proxy_did_is_sent_to_both_sides_with_what_each_may_see(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    async with upstream() as receiver:
        receiver.play = Answer(b"")
        secrets = {
            f"/{name}": (await made(world, tenant, f"{receiver.url}/{name}", "delegation.*"))["secret"]
            for name, tenant in (("acme", acme), ("globex", globex))
        }
        accepted = await world.delegated(acme, globex)
        await asyncio.gather(delivered(world, acme, 2), delivered(world, globex, 1))
        sent = {
            (seen.path, body["type"]): body
            for seen in receiver.seen
            if (body := verified(secrets[seen.path], seen))
        }
        assert set(sent) == {
            ("/acme", "delegation.offered"),
            ("/acme", "delegation.accepted"),
            ("/globex", "delegation.accepted"),
        }
        ours, theirs = (sent[path, "delegation.accepted"]["data"] for path in ("/acme", "/globex"))
        assert ours["pairId"] == theirs["pairId"]
        assert ours["delegationId"] == theirs["delegationId"] == accepted["delegation"]["id"]
        assert (ours["actor"], theirs["actor"]) == (None, "owner")
        assert (ours["tenantId"], theirs["tenantId"]) == (acme.id, globex.id)


async def test_a_whole_page_of_deliveries_is_not_too_complex(world: World) -> None:
    acme = await world.tenant("acme")
    assert await world.ask(acme.key, LIST, first=100) == []


async def test_a_document_shows_a_bounded_number_of_attempts_however_it_asks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = await world.tenant("acme")
    async with upstream() as receiver:
        receiver.play = Answer(b"")
        await made(world, acme, f"{receiver.url}/", "agent.registered")
        await registered(world, acme, 3)
        await delivered(world, acme, 3)
        monkeypatch.setattr(context, "MOST_SHOWN", 7)  # an endpoint, three deliveries, three attempts
        [endpoint] = await world.ask(acme.key, LIST)
        assert len(endpoint["deliveries"]["nodes"]) == 3
        twice = LIST.replace("nextAttemptAt", "again: attempts { at }")
        assert await world.code(acme.key, twice) == "QUERY_TOO_COMPLEX"
