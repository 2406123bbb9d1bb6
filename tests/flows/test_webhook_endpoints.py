"""Endpoints: what is refused, and what is sent because somebody asks."""

import asyncio
from ipaddress import ip_network

import pytest

from app.delivery.webhooks import again, endpoints
from app.delivery.webhooks.again import missed, recover, redeliver, send_test
from app.delivery.webhooks.endpoints import (
    EndpointChanges,
    Secret,
    create_endpoint,
    delete_endpoint,
    update_endpoint,
)
from app.egress.origins import Reach
from app.rules.entries import Event
from app.rules.errors import Code, Forbidden, Refusal
from app.rules.ids import DeliveryId, EndpointId, Instant
from app.rules.permissions import Role
from app.rules.webhooks import DeliveryStatus, EndpointStatus
from app.store.keys import new_id
from app.store.tables import LedgerEntry, WebhookEndpoint
from tests.flows.couriers import (
    REACH,
    agents,
    arrived,
    change,
    courier,
    deliveries,
    disabled,
    enable,
    endpoint,
    sender,
    settled,
)
from tests.upstreams import Answer, upstream
from tests.world import LOOPBACK, Member, World

AGENT = Event.AGENT_REGISTERED
GIVES_UP = (0.0, 0.01)


async def attempted(world: World, by: Member, reach: Reach = REACH, **asked: object) -> Secret | Refusal:
    given = {"url": "http://127.0.0.1:9/hook", "events": ["*"], **asked}
    return await world.write(create_endpoint, by.owner, world.keys, reach, EndpointChanges(**given))  # type: ignore[arg-type]  # as a test gives them


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"events": []}, "events"),
        ({"events": ["nothing.*"]}, "events"),
        ({"events": ["*", "delegation.offred"]}, "events"),
        ({"events": ["*"] * 51}, "events"),
        ({"events": ["*" * 101]}, "events"),
        ({"url": "http://10.0.0.1/hook"}, "url"),
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"url": "http://[::1]/"}, "url"),
        ({"url": "http://localhost/"}, "url"),
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": "/hook"}, "url"),
        ({"url": "https://u:p@example.com/"}, "url"),
        ({"description": "x" * 2001}, "description"),
        ({"description": "\x00"}, "description"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_made_or_changed(
    world: World, asked: dict[str, object], field: str
) -> None:
    acme = await world.tenant()
    outside = Reach((ip_network("127.0.0.9/32"),), require_https=False)
    given = {"url": "https://example.com/hook", **asked}
    refused = await attempted(world, acme, outside, **given)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.path) == (Code.INVALID, (field,))
    assert refused.message.startswith(field)
    assert "credential" not in refused.message, "an endpoint has none"
    assert await world.rows(WebhookEndpoint) == []
    made = await endpoint(world, acme, "http://127.0.0.1:9/")
    before = await world.ledger(acme)
    changes = EndpointChanges(**asked)  # type: ignore[arg-type]  # as a test gives them
    again_refused = await world.write(update_endpoint, acme.owner, outside, made.endpoint.id, changes)
    assert again_refused == refused
    assert (await world.row(WebhookEndpoint, made.endpoint.id)).events == ["*"]
    assert await world.ledger(acme) == before


async def test_where_https_is_required_http_is_refused(world: World) -> None:
    acme = await world.tenant()
    strict = Reach(LOOPBACK, require_https=True)
    refused = await attempted(world, acme, strict)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.path) == (Code.INVALID, ("url",))
    assert "https://" in refused.message
    assert isinstance(await attempted(world, acme, strict, url="https://127.0.0.1:9/"), Secret)


async def test_a_tenant_has_fifty_endpoints_and_no_more_however_many_are_made_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert endpoints.MOST_ENDPOINTS == 50
    monkeypatch.setattr(endpoints, "MOST_ENDPOINTS", 3)
    acme = await world.tenant()
    tried = await asyncio.gather(*(attempted(world, acme) for _ in range(12)))
    refused = [each for each in tried if isinstance(each, Refusal)]
    assert {(each.code, each.path) for each in refused} == {(Code.LIMIT_REACHED, ("url",))}
    assert (len(await world.rows(WebhookEndpoint)), len(refused)) == (3, 9)
    (first, *_) = [each for each in tried if isinstance(each, Secret)]
    await world.made(delete_endpoint, acme.owner, first.endpoint.id)
    assert isinstance(await attempted(world, acme), Secret), "a deleted one does not count"


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AUDITOR, Role.VIEWER])
async def test_nobody_below_an_admin_may(world: World, role: Role) -> None:
    acme = await world.tenant()
    made = await endpoint(world, acme, "http://127.0.0.1:9/")
    caller = await world.caller(acme, role)
    with pytest.raises(Forbidden):
        await world.write(send_test, caller, sender(world), made.endpoint.id)


async def test_what_becomes_of_an_endpoint_stands_in_its_owners_ledger(world: World) -> None:
    acme = await world.tenant()
    made = await endpoint(world, acme, "http://127.0.0.1:9/", ["agent.*"])
    await change(world, acme, made, status=EndpointStatus.DISABLED)
    await world.made(delete_endpoint, acme.owner, made.endpoint.id)
    told = await world.ledger(acme)
    events = [Event.WEBHOOK_CREATED, Event.WEBHOOK_UPDATED, Event.WEBHOOK_DELETED]
    assert [entry["event"] for entry in told] == events
    assert {entry["details"]["endpointId"] for entry in told} == {made.endpoint.id}
    assert told[1]["details"] == {
        "endpointId": made.endpoint.id,
        "url": "http://127.0.0.1:9/",
        "events": ["agent.*"],
        "status": "DISABLED",
    }
    assert {entry["actor"] for entry in told} == {"owner"}


# ------------------------------------------------------------------ what is sent because somebody asks


async def recovered(world: World, by: Member, of: Secret, since: Instant) -> int:
    """How many are sent once more."""
    found = await world.read(missed, by.owner, of.endpoint.id, since)
    return await world.made(recover, by.owner, sender(world), of.endpoint.id, since, found)


async def test_a_test_is_sent_to_one_endpoint_whatever_it_wants(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/", ["delegation.*"])
        everything = await endpoint(world, acme, f"{receiver.url}/all", ["*"])
        row = await world.made(send_test, acme.owner, sender(world), made.endpoint.id)
        (delivery,) = await settled(world, made, 1)
        await settled(world, everything, 1)
        assert delivery.id == row.id
        (sent,) = arrived(receiver, made)
    assert (sent["event"], sent["details"]) == (Event.WEBHOOK_TEST, {"endpointId": made.endpoint.id})


async def test_a_test_of_an_endpoint_that_wants_tests_is_one_delivery(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/", ["webhook.test", AGENT])
        await world.made(send_test, acme.owner, sender(world), made.endpoint.id)
        await world.agent(acme)
        await settled(world, made, 2)
        assert len(receiver.seen) == 2


async def test_a_redelivery_is_the_same_delivery_once_more(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        (first,) = await settled(world, made, 1)
        await world.made(redeliver, acme.owner, first.id)
        await receiver.saw(2)
        (delivery,) = await settled(world, made, 1)
    assert (delivery.status, len(delivery.attempts)) == (DeliveryStatus.DELIVERED, 2)
    assert {seen.header("webhook-id") for seen in receiver.seen} == {first.id}


async def test_what_failed_and_what_was_missed_since_then_is_recovered(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world, GIVES_UP):
        await agents(world, acme, 2)  # before there is an endpoint
        receiver.play = Answer(status=500)
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        await disabled(world, made)
        receiver.play = Answer(b"")
        await agents(world, acme, 2)
        await enable(world, acme, made)
        await settled(world, made, 3)
        entries = await world.ledger(acme, AGENT)
        before = {entry["id"] for entry in arrived(receiver, made)}
        assert before == {entry["id"] for entry in entries[2:]}, "one that failed, two that waited"
        late = world.later(60)
        assert await recovered(world, acme, made, late) == 0
        count = await recovered(world, acme, made, Instant(0))
        assert count == 3, "two that it never had, and one that failed"
        rows = await settled(world, made, 5)
        assert {row.status for row in rows} == {DeliveryStatus.DELIVERED}
        assert {entry["id"] for entry in arrived(receiver, made)} == {entry["id"] for entry in entries}
        again_ = await recovered(world, acme, made, Instant(0))
        assert again_ == 0


async def test_recovery_begins_at_the_instant(world: World) -> None:
    acme = await world.tenant()
    await agents(world, acme, 30)
    made = await endpoint(world, acme, "http://127.0.0.1:9/", [AGENT])
    rows = await world.rows(LedgerEntry)
    since = sorted(row.occurred_at for row in rows if row.event == AGENT)[12]
    wanted = {row.seq for row in rows if row.event == AGENT and row.occurred_at >= since}
    count = await recovered(world, acme, made, Instant(since))
    assert count == len(wanted)
    assert {row.seq for row in await deliveries(world, made)} == wanted


async def test_a_recovery_is_bounded_and_goes_on_when_it_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(again, "MOST_RECOVERED", 4)
    acme = await world.tenant()
    await agents(world, acme, 10)
    made = await endpoint(world, acme, "http://127.0.0.1:9/", [AGENT])
    counts = [await recovered(world, acme, made, Instant(0)) for _ in range(4)]
    assert counts == [4, 4, 2, 0]


async def test_a_disabled_endpoint_is_sent_nothing_and_says_so(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        (delivery,) = await settled(world, made, 1)
        await change(world, acme, made, status=EndpointStatus.DISABLED)
        owner, id = acme.owner, made.endpoint.id
        refused = [
            await world.write(send_test, owner, sender(world), id),
            await world.write(redeliver, owner, delivery.id),
            await world.write(recover, owner, sender(world), id, Instant(0), []),
        ]
        assert [each.code for each in refused if isinstance(each, Refusal)] == [Code.WRONG_STATE] * 3
        row = await world.row(WebhookEndpoint, id)
        assert row.disabled_reason == "disabled by owner"
        await world.agent(acme)
        await enable(world, acme, made)
        await settled(world, made, 2)
        assert len(receiver.seen) == 2
        assert (await world.row(WebhookEndpoint, id)).disabled_reason is None


async def test_new_events_are_those_from_now_on_but_what_it_lags_behind_with_it_still_gets(
    world: World,
) -> None:
    acme = await world.tenant()
    async with upstream() as receiver:
        quiet = await endpoint(world, acme, f"{receiver.url}/quiet", ["delegation.*"])
        behind = await endpoint(world, acme, f"{receiver.url}/behind", [AGENT])
        await agents(world, acme, 3)
        for each in (quiet, behind):
            await change(world, acme, each, events=[AGENT, Event.AGENT_UPDATED])
        await agents(world, acme, 2)
        async with courier(world):
            assert len(await settled(world, quiet, 2)) == 2
            assert len(await settled(world, behind, 5)) == 5


async def test_what_is_anothers_is_not_found(world: World) -> None:
    acme, globex = await world.tenant(), await world.tenant()
    made = await endpoint(world, acme, "http://127.0.0.1:9/")
    row = await world.made(send_test, acme.owner, sender(world), made.endpoint.id)
    nothing = EndpointId(new_id("whk")), DeliveryId(new_id("whd"))
    assert await world.read(missed, globex.owner, made.endpoint.id, Instant(0)) == []
    foreign, unknown = [
        [
            await world.write(send_test, globex.owner, sender(world), endpoint_id),
            await world.write(redeliver, globex.owner, delivery_id),
            await world.write(recover, globex.owner, sender(world), endpoint_id, Instant(0), []),
            await world.write(delete_endpoint, globex.owner, endpoint_id),
        ]
        for endpoint_id, delivery_id in ((made.endpoint.id, row.id), nothing)
    ]
    assert foreign == unknown
    assert [each.code for each in foreign if isinstance(each, Refusal)] == [Code.NOT_FOUND] * 4
