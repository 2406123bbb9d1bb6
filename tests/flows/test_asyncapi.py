"""`asyncapi.yaml` tells receivers what is sent, and nothing else is."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
import yaml

from app.rules.entries import Event, Outcome, canonical
from app.rules.ids import EntryId, Instant
from app.rules.samples import sample
from app.rules.webhooks import body_of
from tests.flows.couriers import SOURCE, courier, endpoint, settled
from tests.flows.nodes import node
from tests.upstreams import Seen, upstream
from tests.world import World

TOLD: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "asyncapi.yaml").read_text())
MESSAGE = TOLD["components"]["messages"]["entry"]
SCHEMAS = TOLD["components"]["schemas"]


def whole(schema: Any) -> Any:
    """The same with every reference replaced by what it points to."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return whole(SCHEMAS[schema["$ref"].rpartition("/")[2]])
        return {name: whole(value) for name, value in schema.items()}
    return [whole(value) for value in schema] if isinstance(schema, list) else schema


BODY = jsonschema_rs.Draft202012Validator(whole(SCHEMAS["Body"]))


def faults(seen: Seen) -> Iterator[str]:
    """What is sent and not told, or told and not sent."""
    body = orjson.loads(seen.body)
    yield from (str(error) for error in BODY.iter_errors(body))
    if set(body) != set(SCHEMAS["Body"]["properties"]):
        yield f"it has {sorted(body)}"
    if set(body["data"]) != set(SCHEMAS["Entry"]["properties"]):
        yield f"its entry has {sorted(body['data'])}"
    for name, told in MESSAGE["headers"]["properties"].items():
        if not re.search(told["pattern"], seen.header(name) or ""):
            yield f"{name}: {seen.header(name)}"
    sent = {name for name, _ in seen.headers if name.startswith("webhook-")}
    if sent != set(MESSAGE["headers"]["required"]):
        yield f"it has the headers {sorted(sent)}"
    if (seen.method, seen.header("content-type")) != (
        TOLD["operations"]["deliver"]["bindings"]["http"]["method"],
        MESSAGE["contentType"],
    ):
        yield f"{seen.method} {seen.header('content-type')}"


def test_every_event_and_outcome_is_told() -> None:
    assert SCHEMAS["Event"]["enum"] == [event.value for event in Event]
    assert SCHEMAS["Entry"]["properties"]["outcome"]["enum"] == [*(each.value for each in Outcome), None]


def test_whatever_is_told_is_required() -> None:
    for name in ("Body", "Entry"):
        assert set(SCHEMAS[name]["required"]) == set(SCHEMAS[name]["properties"])


def test_a_sample_of_each_event_is_what_is_told() -> None:
    id = EntryId("aud_00000000-0000-7000-8000-000000000000")
    for event in Event:
        made = sample(event, id, Instant(0))
        body = body_of(SOURCE, id, event, made["occurredAt"], canonical(made).decode())
        assert [*BODY.iter_errors(orjson.loads(body))] == []
        assert made["details"]["test"] is True


async def test_what_is_sent_is_what_is_told(world: World) -> None:
    lent = await world.delegation()
    async with upstream() as receiver, courier(world), node(world) as at:
        made = [await endpoint(world, each, f"{receiver.url}/") for each in (lent.delegator, lent.delegate)]
        await at.perform(lent)
        await at.no(lent, path="/elsewhere")
        await world.suspend(lent)
        for each in made:
            await settled(world, each, 3)
    assert len(receiver.seen) >= 6
    assert [fault for seen in receiver.seen for fault in faults(seen)] == []
    assert {orjson.loads(seen.body)["source"] for seen in receiver.seen} == {SOURCE}


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.pop("time"),
        lambda body: body.update(more=1),
        lambda body: body.update(type="delegation.unheard_of"),
        lambda body: body["data"].pop("actor"),
        lambda body: body["data"].update(secret="x"),
    ],
    ids=["less", "more", "event", "entry less", "entry more"],
)
async def test_what_is_not_as_told_is_found(world: World, change: Any) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/")
        await world.agent(acme)
        await settled(world, made, 1)
    (seen,) = receiver.seen
    body = orjson.loads(seen.body)
    change(body)
    assert [*faults(seen)] == []
    assert [*faults(Seen(seen.method, seen.path, seen.headers, orjson.dumps(body)))]
