"""The figure of callbacks: a thousand subscriptions of one tenant at one router, that have nothing to say but that they live.

`callbacks()` makes the figures. The gateway has one core to itself, this process and its router another.
"""

import asyncio
import json
import re
import sys
import time
from uuid import uuid4

from tests.bench import load
from tests.bench.fanout import SETTLING, _apart, _cpu, _resident, _until
from tests.bench.figures import Figure, Server, dispatch, gateway, plain

SUBSCRIPTIONS = 1_000
HEARTBEAT = 5_000  # milliseconds, as Apollo's router wants unless told
SECONDS = 15.0
#: Those that are asked for at a time.
AT_ONCE = 50
EVENTS = 3

_EVENTS = "subscription { delegationEvents { cursor node { id seq event dispatchId occurredAt } } }"
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")
_DISPATCH = re.compile(rb'"id":"([0-9a-f-]{36})".*"dispatchId":"(dsp_[0-9a-f-]{36})')
_TAKEN = b"HTTP/1.1 204 No Content\r\nsubscription-protocol: callback/1.0\r\n\r\n"


class Router(asyncio.Protocol):
    """One connection to the router: answers 204, and notes what came. Costs little, since it shares a core."""

    def __init__(self, arrived: dict[tuple[bytes, bytes], float], checks: list[float]) -> None:
        self._arrived = arrived
        self._checks = checks
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        while True:
            head, end, rest = data.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if not end or length is None or len(rest) < int(length[1]):
                self._rest = data
                return
            self._took(rest[: int(length[1])])
            data = rest[int(length[1]) :]

    def _took(self, body: bytes) -> None:
        now = time.perf_counter()
        if b'"action":"check"' in body:
            self._checks.append(now)
        elif found := _DISPATCH.search(body):
            self._arrived.setdefault((found[1], found[2]), now)
        self._transport.write(_TAKEN)  # type: ignore[attr-defined]  # uvloop's is one by its methods alone


async def callbacks() -> list[Figure]:
    """What an idle subscription takes, of memory and of a core, and how long one event is on its way to all."""
    arrived: dict[tuple[bytes, bytes], float] = {}
    checks: list[float] = []
    loop = asyncio.get_running_loop()
    async with plain("upstream") as upstream, gateway(upstream) as server:
        router = await loop.create_server(lambda: Router(arrived, checks), "127.0.0.1", 0)
        port = router.sockets[0].getsockname()[1]
        with _apart(server.pid):
            before = _resident(server.pid)
            await _subscribed(server, port)
            await asyncio.sleep(SETTLING)
            idle = (_resident(server.pid) - before) / SUBSCRIPTIONS
            checks.clear()
            began, cpu = time.perf_counter(), _cpu(server.pid)
            await asyncio.sleep(SECONDS)
            share = (_cpu(server.pid) - cpu) / (time.perf_counter() - began)
            beats = len(checks)
            took = [await _all_told(server, arrived) for _ in range(EVENTS)]
        router.close()
    return _figures(idle, share, beats, took)


async def _subscribed(server: Server, port: int) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        id = str(uuid4())
        asked = {"callbackUrl": f"http://127.0.0.1:{port}/{id}", "subscriptionId": id, "verifier": id}
        extensions = {"subscription": {**asked, "heartbeatIntervalMs": HEARTBEAT}}
        body = json.dumps({"query": _EVENTS, "extensions": extensions}).encode()
        headers = {"Content_Type": "application/json", "X_API_Key": server.key}
        request = load.request(
            "POST", "/graphql", body, **headers, Accept="application/json;callbackSpec=1.0"
        )
        async with slots:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            assert length is not None
            assert await reader.readexactly(int(length[1])) == b'{"data":null}'
            writer.close()

    await asyncio.gather(*(one() for _ in range(SUBSCRIPTIONS)))


async def _all_told(server: Server, arrived: dict[tuple[bytes, bytes], float]) -> float:
    """Seconds from an action's answer until all have been told of it."""
    arrived.clear()
    await load.run(server.port, dispatch(server.token), connections=1, seconds=10.0, most=1)
    done = time.perf_counter()
    await _until(lambda: len(arrived) >= SUBSCRIPTIONS, 30.0)
    return max(arrived.values()) - done if len(arrived) == SUBSCRIPTIONS else float("inf")


def _figures(idle: float, share: float, checks: int, took: list[float]) -> list[Figure]:
    what = f"{SUBSCRIPTIONS:,} subscriptions over callbacks"
    beats = f"{checks} heartbeats in {SECONDS:g} s"
    slowest = max(took) * 1000
    told = f"the slowest of {EVENTS} events; the quickest {min(took) * 1000:.0f} ms"
    return [
        Figure(f"{what}, memory of each while idle", idle / 1000, 60.0, False, "KB", "resident memory"),
        Figure(f"{what}, of a core while idle", share, 0.3, False, "", beats),
        Figure(f"{what}, from an answer until all are told", slowest, 2000.0, False, "ms", told),
    ]


if __name__ == "__main__":
    import uvloop

    for each in uvloop.run(callbacks()):
        sys.stdout.write(f"{each.name}: {each.measured:.4g} {each.unit} ({each.detail})\n")
