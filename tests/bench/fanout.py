"""The figure of the live feed: many subscribers of one tenant, and how soon what is committed has come to all of them.

`fanout()` makes the figures. The gateway has one core to itself, this process and its subscribers another.
"""

import asyncio
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from tests.bench import load
from tests.bench.figures import Figure, Server, dispatch, gateway, plain

SUBSCRIBERS = 1_000
RATE = 50  # events in a second
SECONDS = 10.0
#: Those who connect at a time.
AT_ONCE = 50
SETTLING = 2.0  # seconds until what connecting left behind is let go

_EVENTS = "subscription { delegationEvents { cursor node { id seq event dispatchId occurredAt } } }"
_DISPATCH = re.compile(rb'dispatchId\\?":\\?"(dsp_[0-9a-f-]{36})')
_SOCKET = (
    b"GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)


class Subscriber(asyncio.Protocol):
    """One connection: notes when each dispatch came. Costs little, since it shares a core with all the others."""

    def __init__(self, begin: list[bytes]) -> None:
        self.arrived: dict[bytes, float] = {}
        self.answered = asyncio.get_running_loop().create_future()
        self._begin = begin
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods alone
        self._transport.write(self._begin.pop(0))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._begin:  # what follows an answer: after the handshake, after connection_ack
            self._transport.write(self._begin.pop(0))
        elif not self.answered.done():
            self.answered.set_result(None)
        data = self._rest + data
        end = 0
        for found in _DISPATCH.finditer(data):
            self.arrived.setdefault(found[1], now)
            end = found.end()
        self._rest = data[max(end, len(data) - 64) :]

    def leave(self) -> None:
        """Hangs up."""
        self._transport.abort()


def _over_sse(key: str) -> list[bytes]:
    body = json.dumps({"query": _EVENTS}).encode()
    headers = {"Content_Type": "application/json", "X_API_Key": key, "Accept": "text/event-stream"}
    return [load.request("POST", "/graphql", body, **headers)]


def _over_ws(key: str) -> list[bytes]:
    init = {"type": "connection_init", "payload": {"apiKey": key}}
    subscribe = {"type": "subscribe", "id": "1", "payload": {"query": _EVENTS}}
    return [_SOCKET, _masked(init), _masked(subscribe)]


def _masked(message: object) -> bytes:
    text = json.dumps(message).encode()
    return b"\x81\xfe" + len(text).to_bytes(2) + b"\0\0\0\0" + text


async def fanout() -> list[Figure]:
    """The slowest of a hundred arrivals after its commit, and what an idle subscriber takes, over both transports."""
    async with plain("upstream") as upstream, gateway(upstream) as server:
        with _apart(server.pid):
            figures = await _measured(server, "SSE", _over_sse(server.key))
            return figures + await _measured(server, "WebSocket", _over_ws(server.key))


@contextmanager
def _apart(pid: int) -> Iterator[None]:
    cores = sorted(os.sched_getaffinity(0))
    for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  # names are all there is to it
        os.sched_setaffinity(int(thread), cores[:1])
    os.sched_setaffinity(0, cores[-1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


async def _measured(server: Server, name: str, begin: list[bytes]) -> list[Figure]:
    before = _resident(server.pid)
    subscribers = await _connected(server, begin)
    await _until_followed(server, subscribers)
    await asyncio.sleep(SETTLING)
    idle = (_resident(server.pid) - before) / len(subscribers)
    sent, cpu = await _acted(server)
    await _until(lambda: all(len(each.arrived) >= len(sent) for each in subscribers))
    took = [
        each.arrived[id] - done for id, done in sent.items() for each in subscribers if id in each.arrived
    ]
    missing = len(sent) * len(subscribers) - len(took)
    for each in subscribers:
        each.leave()
    return _figures(name, took, missing, idle, f"{len(sent)} events in {SECONDS:g} s, {cpu:.0%} of a core")


def _figures(name: str, took: list[float], missing: int, idle: float, came: str) -> list[Figure]:
    quantiles = [ms * 1000 for ms in statistics.quantiles(took, n=100)]
    detail = f"{came}; median {quantiles[49]:.0f} ms, slowest {max(took) * 1000:.0f} ms; {missing} missing"
    what = f"{SUBSCRIBERS:,} subscribers over {name}"
    p99 = quantiles[98] if not missing else float("inf")
    return [
        Figure(f"{what}, p99 from the answer to the arrival", p99, 250.0, False, "ms", detail),
        Figure(f"{what}, memory of each while idle", idle / 1000, 60.0, False, "KB", "resident memory"),
    ]


async def _connected(server: Server, begin: list[bytes]) -> list[Subscriber]:
    loop = asyncio.get_running_loop()
    subscribers: list[Subscriber] = []
    for _ in range(0, SUBSCRIBERS, AT_ONCE):
        connecting = [
            loop.create_connection(lambda: Subscriber([*begin]), "127.0.0.1", server.port)
            for _ in range(AT_ONCE)
        ]
        some = [subscriber for _, subscriber in await asyncio.gather(*connecting)]
        subscribers += some
    return subscribers


async def _until_followed(server: Server, subscribers: list[Subscriber]) -> None:
    """Acts until each has heard of something, and then of the same: all of them follow."""
    while not all(each.arrived for each in subscribers):
        await load.run(server.port, dispatch(server.token), connections=1, seconds=10.0, most=1)
        await asyncio.sleep(0.2)
    await asyncio.sleep(1.0)
    for each in subscribers:
        each.arrived.clear()


async def _acted(server: Server) -> tuple[dict[bytes, float], float]:
    """Acts at a steady pace: when each dispatch was answered, which is after its commit, and what it cost."""
    sent: dict[bytes, float] = {}
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    began, cpu = time.perf_counter(), _cpu(server.pid)
    for number in range(int(RATE * SECONDS)):
        await asyncio.sleep(began + number / RATE - time.perf_counter())
        writer.write(dispatch(server.token))
        head = await reader.readuntil(b"\r\n\r\n")
        committed = time.perf_counter()
        length = re.search(rb"(?i)content-length: (\d+)", head)
        id = re.search(rb"(?i)dispatch-id: (dsp_[0-9a-f-]+)", head)
        assert length is not None
        assert id is not None
        await reader.readexactly(int(length[1]))
        sent[id[1]] = committed
    writer.close()
    return sent, (_cpu(server.pid) - cpu) / (time.perf_counter() - began)


async def _until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    ends = time.perf_counter() + seconds
    while not condition() and time.perf_counter() < ends:  # noqa: ASYNC110  # an event each would disturb
        await asyncio.sleep(0.05)


def _cpu(pid: int) -> float:
    """Seconds of a core that it has used."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123  # read while others are timed
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123  # as above
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    import uvloop

    for each in uvloop.run(fanout()):
        sys.stdout.write(f"{each.name}: {each.measured:.4g} {each.unit} ({each.detail})\n")
