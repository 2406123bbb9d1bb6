"""The figures. Each is a ratio or a difference within one run, since machines differ and are noisy."""

import asyncio
import json
import socket
import statistics
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.api.pages import log_of
from app.rules.ids import TenantId
from tests import postgres
from tests.bench import load
from tests.bench.governed import BODY

CONNECTIONS = 64
ROUNDS = 5
SECONDS = 4.0  # of load on each in a round
SHORT_ROUNDS, SHORT = 15, 1.0  # where what is compared differs little: then what else goes on weighs more
MEGABYTE = 1_000_000
LONG = 1_000_000  # entries
DEPTH = LONG // 2
RESPONSES = 10_000
WARM_UP = 100

_BODY = b'{"a":1}'
_PAGE = "query($after: String) { auditLog(first: 10, after: $after) { edges { node { id seq event } } } }"


@dataclass(frozen=True)
class Figure:
    """One figure and what is required of it. `detail` says what it came from."""

    name: str
    measured: float
    required: float
    at_least: bool
    unit: str
    detail: str

    @property
    def met(self) -> bool:
        """Whether it is as required."""
        return self.measured >= self.required if self.at_least else self.measured <= self.required


@dataclass(frozen=True)
class Server:
    """A process that listens; of a gateway also whom it knows."""

    pid: int
    port: int
    token: str = ""
    governed_token: str = ""
    key: str = ""
    tenant: str = ""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@asynccontextmanager
async def started(
    module: str, *arguments: object, output: int = DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of this package, ended on leaving."""
    command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdout=output)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def plain(module: str, *arguments: object) -> AsyncIterator[Server]:
    """The upstream or the pass-through, once it listens."""
    port = free_port()
    async with started(module, port, *arguments) as process:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                await asyncio.sleep(0.05)
        yield Server(process.pid, port)


@asynccontextmanager
async def gateway(upstream: Server, *database: str, entries: int = 0) -> AsyncIterator[Server]:
    """A gateway, once it listens; its folder is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="crossgrant-bench-") as folder:
        async with started("gateway", folder, upstream.port, entries, *database, output=PIPE) as process:
            assert process.stdout is not None
            line = await process.stdout.readline()
            assert line, (Path(folder) / "log").read_text()[-2000:]
            made = json.loads(line)
            yield Server(process.pid, **made)


def dispatch(token: str, path: str = "/v1/r/7", body: bytes = _BODY) -> bytes:
    """One dispatch."""
    return load.request("POST", f"/proxy/api{path}", body, Content_Type="application/json", **_bearer(token))


def direct() -> bytes:
    """The same request, as it goes to the pass-through: with as many headers."""
    return load.request(
        "POST", "/v1/r/7", _BODY, Content_Type="application/json", **_bearer("cgt_live_" + "0" * 49)
    )


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def on_each_store(upstream: Server) -> AsyncIterator[dict[str, Server]]:
    """A gateway on each store, by its name."""
    with postgres.server(durable=True) as server, server.database() as database:
        async with gateway(upstream) as sqlite, gateway(upstream, database) as other:
            yield {"SQLite": sqlite, "PostgreSQL": other}


async def throughput() -> list[Figure]:
    """Dispatches per second over what a pass-through does."""
    async with (
        plain("upstream") as upstream,
        plain("passthrough", upstream.port) as bare,
        on_each_store(upstream) as gateways,
    ):
        loads = {name: (server, dispatch(server.token)) for name, server in gateways.items()}
        rates = await _rates({"pass-through": (bare, direct()), **loads})
        return [
            _ratio(f"throughput, {name} over pass-through", rates[name], rates["pass-through"], 0.35)
            for name in gateways
        ]


async def governed() -> list[Figure]:
    """Dispatches per second under all the terms there are, over those under hardly any."""
    async with plain("upstream") as upstream, on_each_store(upstream) as gateways:
        loads = {}
        for name, server in gateways.items():
            loads[f"{name}, plain"] = (server, dispatch(server.token, "/v1/r/7", BODY))
            loads[name] = (server, dispatch(server.governed_token, "/v1/payments/7", BODY))
        rates = await _rates(loads, SHORT_ROUNDS, SHORT)
        return [
            _ratio(f"governed, {name} over plain", rates[name], rates[f"{name}, plain"], 0.75)
            for name in gateways
        ]


async def _rates(
    loads: dict[str, tuple[Server, bytes]], rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[str, list[float]]:
    """How many of each request are answered in a second, in rounds that take turns."""
    rates: dict[str, list[float]] = {name: [] for name in loads}
    for counts in (False, *[True] * rounds):  # the first round warms up
        for name, (server, request) in loads.items():
            done = await load.run(server.port, request, connections=CONNECTIONS, seconds=seconds)
            assert set(done.statuses) == {200}, done.statuses
            if counts:
                rates[name].append(done.rate)
    return rates


def _ratio(name: str, ours: list[float], theirs: list[float], required: float) -> Figure:
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    rounds = " ".join(f"{each:.2f}" for each in ratios)
    detail = f"{statistics.median(ours):.0f}/s of {statistics.median(theirs):.0f}/s; rounds {rounds}"
    return Figure(name, statistics.median(ratios), required, True, "", detail)


async def single() -> list[Figure]:
    """One connection: what the gateway adds to the upstream's own time."""
    async with plain("upstream") as upstream, gateway(upstream) as server:
        took: dict[str, list[float]] = {"upstream": [], "gateway": []}
        for _ in range(ROUNDS):
            own = await load.run(upstream.port, direct(), connections=1, seconds=1.0)
            through = await load.run(server.port, dispatch(server.token), connections=1, seconds=1.0)
            took["upstream"].append(statistics.median(own.took) * 1000)
            took["gateway"].append(statistics.median(through.took) * 1000)
        added = [ours - own for ours, own in zip(took["gateway"], took["upstream"], strict=True)]
        detail = f"{statistics.median(took['gateway']):.2f} ms, upstream {statistics.median(took['upstream']):.2f} ms"
        name = "one dispatch beyond its upstream, SQLite"
        return [Figure(name, statistics.median(added), 3.0, False, "ms", detail)]


async def pages() -> list[Figure]:
    """`auditLog` over HTTP, on a short ledger and on a long one: its start, and half-way."""
    async with (
        plain("upstream") as upstream,
        gateway(upstream) as short,
        gateway(upstream, entries=LONG) as long,
    ):
        places = {
            "10 rows": (short, None),
            "1,000,000 rows": (long, None),
            f"1,000,000 rows, after {DEPTH:,}": (long, log_of(TenantId(long.tenant)).cursor(DEPTH)),
        }
        took: dict[str, list[float]] = {name: [] for name in places}
        for counts in (False, *[True] * ROUNDS):
            for name, (server, after) in places.items():
                request = _page(server, after)
                done = await load.run(server.port, request, connections=1, seconds=1.5)
                assert set(done.statuses) == {200}, done.statuses
                if counts:
                    took[name].append(statistics.median(done.took) * 1000)
        medians = {name: statistics.median(each) for name, each in took.items()}
        detail = "; ".join(f"{name} {ms:.2f} ms" for name, ms in medians.items())
        spread = max(medians.values()) / min(medians.values())
        return [Figure("auditLog page, slowest over fastest", spread, 1.3, False, "x", detail)]


def _page(server: Server, after: str | None) -> bytes:
    body = json.dumps({"query": _PAGE, "variables": {"after": after}}).encode()
    return load.request("POST", "/graphql", body, Content_Type="application/json", X_API_Key=server.key)


async def memory() -> list[Figure]:
    """What 10,000 answers of 1 MB, one after the other, leave behind."""
    async with plain("upstream") as upstream, gateway(upstream) as server:
        request = load.request("GET", f"/proxy/api/size/{MEGABYTE}", b"", **_bearer(server.token))
        await _answers(server, request, WARM_UP)
        before = _resident(server.pid)
        await _answers(server, request, RESPONSES)
        after = _resident(server.pid)
        detail = f"{before:.0f} MB after {WARM_UP}, {after:.0f} MB after {RESPONSES:,} more"
        return [Figure("memory after 10,000 answers of 1 MB", after - before, 64.0, False, "MB", detail)]


async def _answers(server: Server, request: bytes, count: int) -> None:
    done = await load.run(server.port, request, connections=1, seconds=600.0, most=count)
    assert set(done.statuses) == {200}, done.statuses


def _resident(pid: int) -> float:
    """Its resident memory in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / MEGABYTE
    raise RuntimeError(f"the process {pid} is gone")
