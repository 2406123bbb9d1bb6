"""What was registered while http:// was taken is sent nothing over it once the gateway requires https://."""

import asyncio
from dataclasses import replace

import pytest

from app.rules.entries import Event
from tests.conftest import HEAVY_ON_POSTGRES
from tests.flows.couriers import arrived, courier, deliveries, endpoint, settled
from tests.server.conftest import lending_in
from tests.server.routers import none_left, router
from tests.serving import Installation
from tests.upstreams import Answer, upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

AGENTS = {"events": [str(Event.AGENT_REGISTERED)]}
REFUSED = (
    "its URL is not https://, which this gateway requires (CROSSGRANT_REQUIRE_HTTPS): change the URL, or have whoever "
    "runs the gateway take the setting back"
)


@HEAVY_ON_POSTGRES
async def test_an_endpoints_attempts_say_why_they_failed_and_a_callbacks_subscription_ends(
    installation: Installation,
) -> None:
    before = replace(installation, more={"webhook_schedule": "0" + ",0.1" * 90})
    strict = replace(before, more={**before.more, "require_https": "true"})
    async with upstream() as receiver, router() as it, before.serving() as served, lending_in(before) as at:
        receiver.play = Answer(b"")
        acme = await at.tenant()
        made = await endpoint(at, acme, f"{receiver.url}/", ["agent.*"])
        subscribed = await it.subscribed(served.port, acme.key, AGENTS)
        await at.agent(acme)
        await settled(at, made, 1)
        await it.until(lambda: len(it.edges(subscribed)) == 1)
        assert await served.stop() == 0

        connections = receiver.connections, it.at.connections
        async with strict.serving() as restarted:
            await at.agent(acme)
            await none_left(at, acme)
            while (row := (await deliveries(at, made))[-1]).failures < 2:  # noqa: ASYNC110  # announced by nobody
                await asyncio.sleep(0.02)
            assert await restarted.stop() == 0
        assert (receiver.connections, it.at.connections) == connections
        assert {(each["status"], each["error"]) for each in row.attempts} == {(None, REFUSED)}

        async with courier(at):  # as if the setting were taken back
            await settled(at, made, 2)
        assert [each["event"] for each in arrived(receiver, made)] == [Event.AGENT_REGISTERED] * 2
