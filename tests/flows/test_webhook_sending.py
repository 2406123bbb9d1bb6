"""What a receiver gets and may do: signatures that verify, two secrets meanwhile, and answers of every bad kind."""

import asyncio
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass

import orjson
import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from typing_extensions import override

from app.delivery.webhooks.endpoints import rotate_secret
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.webhooks import DeliveryStatus
from app.store.tables import WebhookEndpoint
from tests.flows.couriers import SOURCE, agents, courier, deliveries, disabled, endpoint, settled, verified
from tests.flows.test_secrets import everything
from tests.upstreams import Answer, Hang, Line, Play, Reset, Seen, head, sized, upstream
from tests.world import World

AGENT = Event.AGENT_REGISTERED


# ------------------------------------------------------------------ what is sent


async def test_the_body_has_the_names_of_cloudevents_and_the_owners_entry(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        (delivery,) = await settled(world, made, 1)
        (seen,) = receiver.seen
    (entry,) = await world.ledger(acme, AGENT)
    assert verified(made.text, seen) == {
        "specversion": "1.0",
        "id": entry["id"],
        "source": SOURCE,
        "type": AGENT,
        "time": entry["occurredAt"],
        "data": entry,
    }
    assert seen.header("content-type") == "application/json"
    assert seen.header("webhook-id") == delivery.id
    assert abs(int(seen.header("webhook-timestamp") or 0) - time.time()) < 60


async def test_every_attempt_has_the_same_id_and_a_timestamp_of_its_own(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world, (0.0, 1.1, 1.1)):
        receiver.play = Answer(status=500)
        one = await endpoint(world, acme, f"{receiver.url}/one", [AGENT])
        other = await endpoint(world, acme, f"{receiver.url}/other", [AGENT])
        await world.agent(acme)
        await disabled(world, one)
        await disabled(world, other)
    ids = {(seen.path, seen.header("webhook-id")) for seen in receiver.seen}
    assert len(ids) == 2, "stable for an entry and an endpoint, and different for each endpoint"
    mine = [seen for seen in receiver.seen if seen.path == "/one"]
    assert len({seen.header("webhook-timestamp") for seen in mine}) == 3
    assert [verified(one.text, seen)["type"] for seen in mine] == [AGENT] * 3


async def test_what_is_changed_or_signed_for_another_does_not_verify(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/mine", [AGENT])
        other = await endpoint(world, acme, f"{receiver.url}/other", [AGENT])
        await world.agent(acme)
        await settled(world, made, 1)
        await settled(world, other, 1)
    (seen,) = [seen for seen in receiver.seen if seen.path == "/mine"]
    changed = Seen(seen.method, seen.path, seen.headers, seen.body.replace(b"agent", b"tnega"))
    for secret, wrong in ((made.text, changed), (other.text, seen)):
        with pytest.raises(WebhookVerificationError):
            verified(secret, wrong)


async def test_while_a_secret_is_rotated_either_verifies_and_afterwards_the_new_one_alone(
    world: World,
) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        new = await world.made(rotate_secret, acme.owner, world.keys, made.endpoint.id, 3600)
        await world.agent(acme)
        await settled(world, made, 1)
        await world.age(WebhookEndpoint, made.endpoint.id, old_secret_until=1)
        await world.agent(acme)
        await settled(world, made, 2)
    during, after = receiver.seen
    assert [len((seen.header("webhook-signature") or "").split(" ")) for seen in (during, after)] == [2, 1]
    for secret, seen in ((made.text, during), (new.text, during), (new.text, after)):
        assert verified(secret, seen)["type"] == AGENT
    with pytest.raises(WebhookVerificationError):
        verified(made.text, after)


async def test_a_second_rotation_within_the_overlap_ends_the_first_secret_at_once(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        second, third = [
            await world.made(rotate_secret, acme.owner, world.keys, made.endpoint.id, 3600) for _ in range(2)
        ]
        await world.agent(acme)
        await settled(world, made, 1)
    (seen,) = receiver.seen
    for secret in (second.text, third.text):
        assert verified(secret, seen)["type"] == AGENT
    with pytest.raises(WebhookVerificationError):
        verified(made.text, seen)


async def test_a_rotation_without_overlap_ends_the_old_secret_at_once(world: World) -> None:
    acme = await world.tenant()
    made = await endpoint(world, acme, "http://127.0.0.1:9/")
    new = await world.made(rotate_secret, acme.owner, world.keys, made.endpoint.id, 0)
    assert new.endpoint.sealed_old_secret is None
    assert new.text != made.text
    (told,) = await world.ledger(acme, Event.WEBHOOK_SECRET_ROTATED)
    assert told["details"] == {"endpointId": made.endpoint.id, "overlapSeconds": 0}


@pytest.mark.parametrize("overlap", [-1, 604_801])
async def test_an_overlap_is_bounded(world: World, overlap: int) -> None:
    acme = await world.tenant()
    made = await endpoint(world, acme, "http://127.0.0.1:9/")
    refused = await world.write(rotate_secret, acme.owner, world.keys, made.endpoint.id, overlap)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.path) == (Code.INVALID, ("overlapSeconds",))


async def test_a_secret_is_as_long_as_it_must_be_and_not_in_the_store(world: World) -> None:
    acme = await world.tenant()
    made = await endpoint(world, acme, "http://127.0.0.1:9/")
    new = await world.made(rotate_secret, acme.owner, world.keys, made.endpoint.id, 3600)
    stored = await everything(world)
    for text in (made.text, new.text):
        assert text.startswith("whsec_")
        raw = b64decode(text.removeprefix("whsec_"))
        assert 24 <= len(raw) <= 64
        Webhook(text)
        assert all(each not in stored for each in (text.encode(), text[6:].encode(), raw, raw.hex().encode()))


# ------------------------------------------------------------------ what a receiver may do


@dataclass
class Drip(Play):
    """Sends byte after byte, and never comes to an end."""

    first: bytes

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        await line.say(self.first)
        while True:
            await line.say(b"x")
            await asyncio.sleep(0.02)


BAD: dict[str, tuple[Callable[[], Play], int | None, str]] = {
    "hangs": (Hang, None, "it did not answer within 0.5 seconds"),
    "drips a head": (lambda: Drip(b"HTTP/1.1 200 OK\r\nX: "), None, ""),
    "resets": (lambda: Reset(0), None, ""),
    "resets in its body": (lambda: Reset(120), None, ""),
    "answers 10 MB of an error": (lambda: Answer(b"x" * 10_000_000, 500), 500, "status 500"),
    "speaks no HTTP": (lambda: Drip(b"SSH-2.0-OpenSSH\r\n\r\n"), None, ""),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_receiver_is_bounded_and_each_attempt_is_told(world: World, name: str) -> None:
    play, status, error = BAD[name]
    acme = await world.tenant()
    began = time.monotonic()
    async with upstream() as receiver, courier(world, (0.0, 0.01), seconds=0.5):
        receiver.play = play()
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        await disabled(world, made)
        (delivery,) = await deliveries(world, made)
    assert time.monotonic() - began < 15
    assert [attempt["status"] for attempt in delivery.attempts] == [status, status]
    assert all(attempt["error"] and error in attempt["error"] for attempt in delivery.attempts)
    assert all(attempt["durationMs"] < 5000 for attempt in delivery.attempts)


@pytest.mark.parametrize(
    "play", [lambda: sized(10_000_000), lambda: Drip(head(200, 10**9))], ids=["sent", "promised"]
)
async def test_a_long_answer_is_not_read_and_its_status_counts(
    world: World, play: Callable[[], Play]
) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world, seconds=5.0):
        receiver.play = play()
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        (delivery,) = await settled(world, made, 1)
    assert (delivery.status, [each["status"] for each in delivery.attempts]) == (
        DeliveryStatus.DELIVERED,
        [200],
    )


async def test_where_nobody_listens_the_attempt_says_so(world: World) -> None:
    acme = await world.tenant()
    async with courier(world, (0.0,)):
        made = await endpoint(world, acme, "http://127.0.0.1:9/", [AGENT])
        await world.agent(acme)
        row = await disabled(world, made)
    (delivery,) = await deliveries(world, made)
    assert [attempt["status"] for attempt in delivery.attempts] == [None]
    assert "the connection failed" in (row.disabled_reason or "")


async def test_an_entry_is_sent_as_it_stands_in_the_ledger(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme, name="Zoë, “quoted” \\ 😀")
        await agents(world, acme, 2)
        await settled(world, made, 3)
        bodies = sorted(orjson.loads(seen.body)["data"]["seq"] for seen in receiver.seen)
        sent = {entry["id"]: entry for seen in receiver.seen if (entry := verified(made.text, seen)["data"])}
    entries = await world.ledger(acme, AGENT)
    assert sent == {entry["id"]: entry for entry in entries}
    assert bodies == [entry["seq"] for entry in entries]
