"""A world on each store, empty, for each test; when the test is over, what always holds must hold."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from app.settings import Settings
from tests.promises import kept
from tests.stores import postgres_with_tables as postgres_with_tables  # a fixture
from tests.stores import settings as settings  # a fixture
from tests.stores import sqlite_with_tables as sqlite_with_tables  # a fixture
from tests.world import World, opened

#: For what only several connections can do to each other: SQLite has one writer.
POSTGRES = pytest.mark.parametrize("store_kind", ["postgres"], indirect=True)
SQLITE = pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def said() -> Iterator[Sequence[Mapping[str, object]]]:
    """What was logged. It is not printed: rendering one traceback takes longer than most tests here."""
    with capture_logs() as events:
        yield events


@pytest_asyncio.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    """An empty world."""
    async with opened(settings) as world:
        yield world
        await kept(world)
