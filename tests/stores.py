"""Stores with our tables and nothing in them. The migrations make each kind once; a test gets its own of it.

Whoever needs a store that nobody has touched takes an empty folder, or asks for `database_url`.
"""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from app.settings import Settings
from app.store.tables import Installation, Row
from tests.conftest import StoreKind
from tests.postgres import Postgres
from tests.world import opened, settings_for

#: The installation's own row stays: it says with which secret all tests work.
_EMPTY = "; ".join(
    f"DELETE FROM {table.name}"  # noqa: S608  # ours
    for table in reversed(Row.metadata.sorted_tables)
    if table.name != Installation.__tablename__
)


@pytest.fixture(scope="session")
def sqlite_with_tables(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A SQLite store to copy."""
    made = settings_for(tmp_path_factory.mktemp("tables"), None)
    asyncio.run(_migrate(made))
    return made


@pytest.fixture(scope="session")
def postgres_with_tables(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DSN of a PostgreSQL database to empty. Making one takes longer than most tests."""
    with postgres.database() as dsn:
        asyncio.run(_migrate(settings_for(tmp_path_factory.mktemp("tables"), dsn)))
        yield dsn


@pytest.fixture
def settings(store_kind: StoreKind, request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """The settings of a store of each kind that has our tables, and nothing in them."""
    if store_kind == "sqlite":
        return _copied(request.getfixturevalue("sqlite_with_tables"), tmp_path)
    dsn: str = request.getfixturevalue("postgres_with_tables")
    asyncio.run(_emptied(dsn))
    return settings_for(tmp_path, dsn)


async def _migrate(settings: Settings) -> None:
    async with opened(settings):
        pass


def _copied(made: Settings, folder: Path) -> Settings:
    copy = made.model_copy(update={"data_dir": folder})
    shutil.copy(made.sqlite_path, copy.sqlite_path)
    return copy


async def _emptied(dsn: str) -> None:
    connection = await asyncpg.connect(dsn.replace("+asyncpg", ""))
    try:
        await connection.execute(_EMPTY)
    finally:
        await connection.close()
