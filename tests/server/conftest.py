"""A gateway on each store for all tests that replace nothing in it, and one in this process for those that do.

Tests here run on one event loop, the one that serves in production, because the gateway's process belongs to it.
"""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from app.api.context import Gateway
from app.rules.ids import BootId
from app.settings import secret
from app.store.installation import make_store
from app.store.keys import Keys, new_id
from tests.conftest import FULL
from tests.postgres import Postgres
from tests.server.lending import Lending
from tests.serving import Installation, Served
from tests.upstreams import Upstream, upstream

#: For one test. None takes half of it, unless it waits for what never comes.
DEADLINE = 600 if FULL else 60  # seconds

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories() -> Mapping[str, LoopFactory]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Ends a test that waits for ever: the others have their turn."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.obj = _within_its_time(item.obj)
    yield


def _within_its_time(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def timed(*arguments: object, **fixtures: object) -> None:
        async with asyncio.timeout(DEADLINE):
            await test(*arguments, **fixtures)

    return timed


_PROOF = "proof"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for kind, line in report.user_properties:
            if kind == _PROOF:
                terminalreporter.write_line(str(line))


Proving = Callable[[str, int, int], None]


@pytest.fixture
def proven(request: pytest.FixtureRequest) -> Proving:
    """Says in the run's summary how soon a broken variant failed, and how much the real one bore."""

    def say(variant: str, failed_after: int, bore: int) -> None:
        told = f"{request.node.name}: {variant} failed after {failed_after}, the real one bore {bore}"
        request.node.user_properties.append((_PROOF, told))

    return say


@dataclass(frozen=True)
class House:
    """A gateway that serves, and the means to build in its store."""

    served: Served
    lending: Lending

    @property
    def port(self) -> int:
        return self.served.port


@dataclass(frozen=True)
class Here(House):
    """The same in this process."""

    gateway: Gateway


@asynccontextmanager
async def lending_in(installation: Installation) -> AsyncIterator[Lending]:
    """Builders with a store of their own, beside whatever serves."""
    settings = installation.settings
    boot_id = BootId(new_id("bot"))
    store = make_store(settings, boot_id, serves=False)
    try:
        yield Lending(store, Keys(secret(settings)), settings, boot_id)
    finally:
        await store.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sqlite_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with _housed(Installation(tmp_path_factory.mktemp("house-sqlite"))) as ready:
        yield ready


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_house(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> AsyncIterator[House]:
    with postgres.database() as dsn:
        async with _housed(Installation(tmp_path_factory.mktemp("house-postgres"), dsn)) as ready:
            yield ready


@pytest.fixture(params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest) -> House:
    """A process on each store, for the whole run: a test builds its own tenants in it."""
    ready: House = request.getfixturevalue(f"{request.param}_house")
    return ready


@asynccontextmanager
async def _housed(installation: Installation) -> AsyncIterator[House]:
    async with installation.serving() as served, lending_in(installation) as lending:
        yield House(served, lending)


@asynccontextmanager
async def opened_here(installation: Installation) -> AsyncIterator[Here]:
    """A gateway in this process: what the test has replaced by then is what runs."""
    async with installation.serving_here() as (served, gateway):
        boot_id = BootId(new_id("bot"))
        yield Here(served, Lending(gateway.store, gateway.keys, gateway.settings, boot_id), gateway)


Opening = Callable[[], AbstractAsyncContextManager[Here]]


@pytest.fixture
def installation(tmp_path: Path, database_url: str | None) -> Installation:
    """A store of the test's own, of each kind."""
    return Installation(tmp_path, database_url)


@pytest.fixture
def here(installation: Installation) -> Opening:
    """Opens a gateway in this process on that store."""
    return lambda: opened_here(installation)


@pytest_asyncio.fixture(loop_scope="session")
async def service() -> AsyncIterator[Upstream]:
    """The delegator's service."""
    async with upstream() as running:
        yield running
