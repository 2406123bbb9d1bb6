"""`crossgrant listen`: a developer's own machine gets what an endpoint gets, over cuts, until it is over."""

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.egress.client import Egress
from app.listen import following
from app.listen.asking import ANYWHERE, Gateway, Stopped
from app.listen.command import listen_command
from app.listen.forwarding import secret_of
from app.listen.trigger import trigger_command
from app.rules.ids import TenantId
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from app.rules.webhooks import render_secret
from app.settings import SettingsError
from tests.conftest import FULL
from tests.flows.couriers import endpoint, verified
from tests.server.client import PATIENCE, ask, data
from tests.server.conftest import House, lending_in
from tests.server.lending import Loan
from tests.server.streams import REVOKE_KEY, a_key, logged
from tests.server.waiting import until
from tests.serving import CROSSGRANT, ROOT, Installation
from tests.upstreams import Answer, Drop, Upstream, redirect, upstream
from tests.world import Member

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # It has no store, and is the same whatever the gateway's is.
    pytest.mark.parametrize("house", ["sqlite"], indirect=True),
]

CUTS = 50 if FULL else 5


@dataclass
class Listening:
    """The command at work. `lines` is what it has printed, `says` what it told its user beside that."""

    process: Process
    lines: list[str] = field(default_factory=list)
    says: list[str] = field(default_factory=list)

    @property
    def told(self) -> list[Any]:
        """Its lines with --json."""
        return [orjson.loads(line) for line in self.lines]

    async def printed(self, count: int) -> None:
        """Waits until it has printed so many lines."""

        async def enough() -> bool:
            return len(self.lines) >= count

        await until(enough)

    async def ended(self) -> int:
        """Its exit code, once it has one."""
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def interrupted(self) -> int:
        """Ctrl-C; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return await self.ended()


@asynccontextmanager
async def listening(url: str, key: str, *options: str) -> AsyncIterator[Listening]:
    """`crossgrant listen`, which has begun."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CROSSGRANT_")}
    environment = {**inherited, "PYTHONPATH": str(ROOT), "CROSSGRANT_API_KEY": key}
    process = await asyncio.create_subprocess_exec(
        *CROSSGRANT, "listen", "--url", url, *options, env=environment, stdout=PIPE, stderr=PIPE
    )
    listening = Listening(process)
    reading = [
        asyncio.ensure_future(_read(process.stdout, listening.lines)),
        asyncio.ensure_future(_read(process.stderr, listening.says)),
    ]
    try:
        await listening.printed(1)
        yield listening
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.gather(*reading)
        await process.wait()


async def _read(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
    assert stream is not None
    while line := await stream.readline():
        lines.append(line.decode().removesuffix("\n"))


async def act(house: House, loan: Loan, path: str = "/v1/receipts/1") -> None:
    await ask(house.port, "GET", loan.at(path), [loan.bearer])


def at(receiver: Upstream, path: str) -> dict[str, bytes]:
    """The bodies that came to a path, by their entry's id."""
    return {orjson.loads(seen.body)["id"]: seen.body for seen in receiver.seen if seen.path == path}


async def test_a_local_receiver_gets_what_an_endpoint_gets(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    key = loan.delegator.key
    async with upstream() as receiver:
        receiver.play = Answer(b"")
        made = await endpoint(house.lending, loan.delegator, f"{receiver.url}/endpoint")
        options = ("--json", "--forward-to", f"{receiver.url}/local")
        async with listening(house.served.url, key, *options) as listener:
            await act(house, loan)
            await act(house, loan, "/v1/elsewhere")
            await house.lending.suspend(loan.lent)
            await house.lending.agent(loan.delegator)
            await receiver.saw(2 * 4)
            await listener.printed(1 + 4)
            assert await listener.interrupted() == 0
    begun, *told = listener.told
    assert len(at(receiver, "/local")) == 4
    assert at(receiver, "/local") == at(receiver, "/endpoint"), "the same bodies, byte by byte"
    ledger = await house.lending.ledger(loan.delegator)
    assert [each["entry"] for each in told] == ledger[-4:]
    assert {each["status"] for each in told} == {200}
    for seen in receiver.seen:
        verified(begun["secret"] if seen.path == "/local" else made.text, seen)
    assert listener.says == []
    assert key not in "".join(listener.lines)


async def test_a_receiver_that_fails_is_shown_and_stops_nothing(house: House) -> None:
    acme = await house.lending.tenant()
    async with upstream() as receiver:
        receiver.play = Answer(b"", 500)
        options = ("--events", "agent.*, upstream.*", "--forward-to", f"127.0.0.1:{receiver.port}/hooks")
        async with listening(house.served.url, acme.key, *options) as listener:
            await house.lending.agent(acme)
            await listener.printed(4)
            receiver.play = redirect(f"{receiver.url}/elsewhere")
            await house.lending.agent(acme)
            await listener.printed(5)
            receiver.play = Drop()
            await house.lending.agent(acme)
            await listener.printed(6)
            await a_key(house.lending, acme)  # which is none of the events
            assert await listener.interrupted() == 0
    greeting, forwarding, secret, *shown = listener.lines
    assert greeting.endswith(f" at {house.served.url} with a key of the role OWNER. Ctrl-C ends it.")
    assert forwarding == f"Forwarding agent.*, upstream.* to http://127.0.0.1:{receiver.port}/hooks."
    ids = [entry["id"] for entry in await house.lending.ledger(acme, "agent.registered")]
    assert [
        re.sub(r"^\S+  agent.registered  (\S+)  → ", r"\1 ", re.sub(r"\d+ ms", "n ms", each))
        for each in shown
    ] == [
        f"{ids[0]} 500 in n ms",
        f"{ids[1]} 302 in n ms: redirects are not followed",
        f"{ids[2]} it closed the connection before it answered",
    ]
    assert [seen.path for seen in receiver.seen] == ["/hooks"] * 3, "each was sent once"
    assert render_secret(secret_of(acme.key)) in secret, "the same for the same key"
    assert secret_of(acme.key) != secret_of(house.lending.keys.mint(TokenKind.API_KEY).text)


async def _secret_of(house: House, key: str) -> str:
    async with listening(house.served.url, key, "--json") as listener:
        assert await listener.interrupted() == 0
    secret: str = listener.told[0]["secret"]
    return secret


class Wire:
    """What is between a listener and the gateway, and can be cut."""

    def __init__(self, port: int) -> None:
        self.is_down = False
        self.streaming = asyncio.Event()  # once the gateway has begun a stream
        self._to = port
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Ends every connection through it, in the middle of whatever it says."""
        for writer in self._open:
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One more connection through it."""
        if self.is_down:
            writer.close()
            return
        from_there, to_there = await asyncio.open_connection("127.0.0.1", self._to)
        ends = {writer, to_there}
        self._open |= ends
        await asyncio.gather(
            self._pipe(reader, to_there), self._pipe(from_there, writer), return_exceptions=True
        )
        self._open -= ends

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(2**16):
                if piece.startswith(b"HTTP/1.1 200") and b"text/event-stream" in piece:
                    self.streaming.set()
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()


async def test_what_arrives_over_cuts_is_the_ledger(house: House) -> None:
    acme = await house.lending.tenant()  # its log is empty: even the first cut has a place to go on from
    wire = Wire(house.port)
    async with await asyncio.start_server(wire.accept, "127.0.0.1", 0) as server, upstream() as receiver:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with listening(url, acme.key, "--forward-to", f"{receiver.url}/") as listener:
            await wire.streaming.wait()
            for cut in range(1, CUTS + 1):
                wire.cut()
                for _ in range(3):
                    await house.lending.agent(acme)
                await receiver.saw(3 * cut - 2)  # the next cut comes while it catches up
            ids = [entry["id"] for entry in await house.lending.ledger(acme)]
            await receiver.saw(len(ids))
            assert await listener.interrupted() == 0
    assert [orjson.loads(seen.body)["id"] for seen in receiver.seen] == ids
    cuts, connected = listener.says[::2], listener.says[1::2]
    assert len(cuts) == CUTS
    assert all(each.startswith("crossgrant: the stream was cut: ") for each in cuts)
    assert connected == ["crossgrant: Connected again."] * CUTS


def begins_now(
    gateway: Gateway,
    _after: str,
    events: Sequence[str],
    _last: str | None,
    opened: Callable[[], object],
    real: Any = following._stream,
) -> Any:
    """Broken: whatever has come before, it asks for what comes from now on."""
    return real(gateway, None, events, None, opened)


@pytest.mark.parametrize("stream", [following._stream, begins_now], ids=["real", "begins now"])
async def test_what_comes_while_a_listener_is_away_is_not_lost(
    house: House, monkeypatch: pytest.MonkeyPatch, stream: Any
) -> None:
    monkeypatch.setattr(following, "_stream", stream)
    acme, wire = await house.lending.tenant(), Wire(house.port)
    came: list[str] = []
    async with await asyncio.start_server(wire.accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        taking = asyncio.ensure_future(_take(Gateway(f"http://127.0.0.1:{port}", acme.key), came))
        await _registered_until(house, acme, lambda: bool(came))
        wire.is_down = True
        wire.cut()
        missed = await _registered(house, acme)
        heard, wire.is_down = len(came), False
        await _registered_until(house, acme, lambda: len(came) > heard)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
    ids = [entry["id"] for entry in await house.lending.ledger(acme)]
    begun = ids.index(came[0])
    if stream is begins_now:
        assert missed not in came
    else:
        assert came == ids[begun : begun + len(came)]
        assert missed in came


async def _take(gateway: Gateway, came: list[str]) -> None:
    egress = Egress(ANYWHERE)
    try:
        listener = await following.introduce(egress, gateway)
        async for entry in following.follow(gateway, listener, listener.end, (), lambda _: None):
            came.append(entry.id)  # noqa: PERF401  # whoever waits for it sees each at once
    finally:
        await egress.close()


async def _registered(house: House, member: Member) -> str:
    """One entry more; its id."""
    await house.lending.agent(member)
    id: str = (await house.lending.ledger(member))[-1]["id"]
    return id


async def _registered_until(house: House, member: Member, condition: Callable[[], bool]) -> None:
    async def once_more() -> bool:
        await _registered(house, member)
        return condition()

    await until(once_more)


@pytest.mark.full
async def test_what_arrives_over_a_killed_gateway_is_the_ledger(house: House, tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(upstream())
        served = await stack.enter_async_context(installation.serving())
        lending = await stack.enter_async_context(lending_in(installation))
        acme = await lending.tenant()
        options = ("--forward-to", f"{receiver.url}/")
        listener = await stack.enter_async_context(listening(served.url, acme.key, *options))
        for _ in range(3):
            await served.kill()
            await lending.agent(acme)
            served = await stack.enter_async_context(installation.serving("--port", str(served.port)))
            await lending.agent(acme)
        ids = [entry["id"] for entry in await lending.ledger(acme)]
        await receiver.saw(len(ids))
        assert await listener.interrupted() == 0
    assert [orjson.loads(seen.body)["id"] for seen in receiver.seen] == ids
    assert listener.says


async def test_it_goes_on_after_a_cursor(house: House) -> None:
    acme = await house.lending.tenant()
    for _ in range(3):
        await house.lending.agent(acme)
    ids = [entry["id"] for entry in await house.lending.ledger(acme)]
    first, *_ = await logged(house.port, acme)
    async with listening(house.served.url, acme.key, "--json", "--after", first["cursor"]) as listener:
        await listener.printed(3)
    begun, *told = listener.told
    assert begun["after"] == first["cursor"]
    assert [each["entry"]["id"] for each in told] == ids[1:]


RESTARTING = b'event: next\ndata: {"errors":[{"message":"x","extensions":{"code":"UNAVAILABLE"}}]}\n\n'


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the gateway ended the stream (it may be restarting)"),
        (RESTARTING, "the gateway says UNAVAILABLE: x"),
    ],
    ids=["without a word", "with a reason"],
)
async def test_a_gateway_that_ends_the_stream_is_not_said_to_have_been_cut(body: bytes, reason: str) -> None:
    says: list[str] = []
    listener = following.Listener(TenantId("ten_1"), "acme", "owner", "OWNER", "a cursor")
    async with upstream() as gateway:
        gateway.play = Answer(body, headers=(("Content-Type", "text/event-stream"),))
        entries = following.follow(Gateway(gateway.url, "a key"), listener, "a cursor", (), says.append)
        taking = asyncio.ensure_future(anext(entries))

        async def told() -> bool:
            return len(says) >= 2

        await until(told)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
    rest = r"\. Connecting again in 0\.\d s; nothing is lost"
    assert re.fullmatch(re.escape(reason) + rest, says[0])
    assert says[1] == "Connected again."


async def test_a_key_that_ends_ends_it(house: House) -> None:
    acme = await house.lending.tenant()
    key, key_id = await a_key(house.lending, acme)
    async with listening(house.served.url, key) as listener:
        assert await data(house.port, acme.key, REVOKE_KEY, id=key_id) == {"userErrors": []}
        assert await listener.ended() == 2
    (says,) = listener.says
    assert says.startswith("crossgrant: the gateway says UNAUTHENTICATED: ")
    assert "CROSSGRANT_API_KEY" in says


async def test_what_cannot_be_listened_to_is_told_in_a_line(house: House, service: Upstream) -> None:
    acme = await house.lending.tenant()
    viewer, _ = await a_key(house.lending, acme, role=Role.VIEWER)
    stranger = house.lending.keys.mint(TokenKind.API_KEY).text
    url = house.served.url
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("the gateway says UNAUTHENTICATED", {"url": url, "api_key": stranger}),
        (
            "lacks the permission audit:read: use a key of the role OWNER, ADMIN or AUDITOR",
            {"url": url, "api_key": viewer},
        ),
        (
            "--after: this is no cursor of your tenant's log: ",
            {"url": url, "api_key": acme.key, "after": "x"},
        ),
        ("is no Crossgrant gateway", {"url": service.url, "api_key": acme.key}),
        ("cannot reach a gateway at http://127.0.0.1:9", {"url": "http://127.0.0.1:9", "api_key": acme.key}),
        ("--api-key is not a whole API key: ", {"url": url, "api_key": "cgk_" + "x" * 49}),
        ("no API key: set CROSSGRANT_API_KEY or give --api-key", {"url": url}),
        ("--url must begin with http:// or https://", {"url": "gateway", "api_key": acme.key}),
        ("'' matches no event", {"url": url, "api_key": acme.key, "events": ["agent.*,"]}),
        ("--events: 'agnt.*' matches no event", {"url": url, "api_key": acme.key, "events": ["agnt.*"]}),
        (
            "--forward-to must not hold a user name or a password: leave them out, for a webhook is known by",
            {"url": url, "api_key": acme.key, "forward_to": "a:b@localhost"},
        ),
        ("--forward-to must ", {"url": url, "api_key": acme.key, "forward_to": "ftp://localhost"}),
    ]
    for says, given in wrong:
        with pytest.raises((Stopped, SettingsError)) as raised:
            await asyncio.to_thread(listen_command, **given)
        assert says in str(raised.value)
        assert "\n" not in str(raised.value)
        assert str(given.get("api_key", "cgk_x")) not in str(raised.value)


async def test_a_sample_of_an_event_reaches_this_machine_alone(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    acme = await house.lending.tenant()
    async with upstream() as receiver:
        triggered = partial(trigger_command, url=house.served.url, api_key=acme.key, forward_to=receiver.url)
        await asyncio.to_thread(triggered, "delegation.revoked")
        await asyncio.to_thread(triggered, "delegation.revoked")
        receiver.play = Answer(b"", 500)
        with pytest.raises(Stopped, match=r"has not taken the delegation.revoked: 500 in \d+ ms$"):
            await asyncio.to_thread(triggered, "delegation.revoked")
        receiver.play = Answer(b"", 401)
        with pytest.raises(
            Stopped, match=r"401 in \d+ ms; if it could not verify .*: .* is (whsec_\S+)$"
        ) as hint:
            await asyncio.to_thread(triggered, "delegation.revoked")
    with pytest.raises(Stopped, match=rf"; is your receiver running at {receiver.url}/?\?$"):
        await asyncio.to_thread(triggered, "delegation.revoked")
    secret = await _secret_of(house, acme.key)
    assert str(hint.value).endswith(f" {secret}")
    bodies = [verified(secret, seen) for seen in receiver.seen]
    assert {(body["type"], body["data"]["details"]["test"]) for body in bodies} == {
        ("delegation.revoked", True)
    }
    assert len({seen.header("webhook-id") for seen in receiver.seen}) == 4, (
        "no receiver takes it for a repeat"
    )
    assert await house.lending.ledger(acme) == []
    out = capsys.readouterr().out
    assert len(re.findall(r"^delegation.revoked  whd_\S+  → 200 in \d+ ms$", out, re.MULTILINE)) == 2
    assert out.startswith(f"The signing secret is {secret}, ")


async def test_a_test_reaches_an_endpoint_and_whoever_listens(house: House) -> None:
    acme = await house.lending.tenant()
    async with upstream() as receiver:
        made = await endpoint(house.lending, acme, f"{receiver.url}/endpoint", ["delegation.*"])
        options = ("--forward-to", f"{receiver.url}/local")
        async with listening(house.served.url, acme.key, *options):
            await asyncio.to_thread(
                trigger_command,
                "webhook.test",
                endpoint=made.endpoint.id,
                url=house.served.url,
                api_key=acme.key,
            )
            await receiver.saw(2)
    (body,) = {seen.body for seen in receiver.seen}
    assert orjson.loads(body)["data"] == (await house.lending.ledger(acme, "webhook.test"))[0]
    assert {seen.path for seen in receiver.seen} == {"/endpoint", "/local"}


async def test_what_cannot_be_triggered_is_told_in_a_line(house: House) -> None:
    acme = await house.lending.tenant()
    known = {"url": house.served.url, "api_key": acme.key}
    auditor, _ = await a_key(house.lending, acme)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("did you mean delegation.revoked,", {"event": "delegation.revokd"}),
        ("'zzz' is no event: give one that `crossgrant trigger --list` names", {"event": "zzz"}),
        (
            "'delegation.*' is a glob: give the name of one event, as in delegation.revoked;",
            {"event": "delegation.*"},
        ),
        ("EVENT is missing", {}),
        ("either --forward-to", {"event": "delegation.revoked", **known}),
        ("trigger webhook.test there", {"event": "delegation.revoked", "endpoint": "whk_1", **known}),
        (
            "your tenant has no endpoint whk_1: `{ webhookEndpoints { id url } }` lists them",
            {"event": "webhook.test", "endpoint": "whk_1", **known},
        ),
        (
            "use a key of the role OWNER or ADMIN",
            {**known, "event": "webhook.test", "endpoint": "whk_1", "api_key": auditor},
        ),
        ("CROSSGRANT_API_KEY", {"event": "webhook.test", "endpoint": "whk_1"}),
    ]
    for says, given in wrong:
        with pytest.raises((Stopped, SettingsError)) as raised:
            await asyncio.to_thread(trigger_command, **given)
        assert says in str(raised.value)
