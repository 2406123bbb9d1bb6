"""A store on its first and on every later day: the schema is what `tables.py` says, and the secret stays the same."""

import asyncio
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import text

from app.settings import Settings
from app.store.engine import StoreError, Tx
from app.store.tables import Installation, Row
from tests.world import opened, settings_for


@pytest.fixture
def settings(database_url: str | None, tmp_path: Path) -> Settings:
    """A store that nobody has touched."""
    return settings_for(tmp_path / "data", database_url)


def _differences(tx: Tx) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(tx.connection()), Row.metadata))


async def test_the_migrations_make_the_tables_that_the_rows_are_of(settings: Settings) -> None:
    async with opened(settings) as world:
        assert await world.read(_differences) == []


#: What Alembic does not compare: collations, partial indexes, the order of columns in indexes and keys.
SQLITE_SAYS = """
    SELECT type, name, tbl_name FROM sqlite_master;
    SELECT m.name, c.cid, c.name, c.type, c."notnull", c.pk FROM sqlite_master m, pragma_table_info(m.name) c;
    SELECT m.name, l.name, l."unique", l.partial FROM sqlite_master m, pragma_index_list(m.name) l;
    SELECT m.name, x.seqno, x.name, x.coll, x."desc" FROM sqlite_master m, pragma_index_xinfo(m.name) x;
    SELECT m.name, f."table", f."from", f."to" FROM sqlite_master m, pragma_foreign_key_list(m.name) f
"""
POSTGRES_SAYS = """
    SELECT table_name, column_name, ordinal_position, data_type, is_nullable, collation_name, column_default
      FROM information_schema.columns WHERE table_schema = 'public';
    SELECT indexdef FROM pg_indexes WHERE schemaname = 'public';
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
      WHERE connamespace = 'public'::regnamespace
"""


def _described(tx: Tx) -> list[set[tuple[object, ...]]]:
    queries = SQLITE_SAYS if tx.get_bind().dialect.name == "sqlite" else POSTGRES_SAYS
    return [{tuple(row) for row in tx.execute(text(query))} for query in queries.split(";")]


def _made_anew(tx: Tx) -> None:
    Row.metadata.drop_all(tx.connection())
    Row.metadata.create_all(tx.connection())


async def test_column_by_column_and_index_by_index(settings: Settings) -> None:
    async with opened(settings) as world:
        migrated = await world.read(_described)
        assert all(migrated)
        await world.write(_made_anew)
        assert migrated == await world.read(_described)


async def test_a_second_start_changes_nothing(settings: Settings) -> None:
    async with opened(settings) as world:
        before = await world.read(_described)
        member = await world.tenant()
    async with opened(settings) as world:
        assert await world.read(_described) == before
        assert (await world.row(type(member.tenant), member.id)).slug == member.tenant.slug


async def test_several_first_starts_at_once_make_one_installation(settings: Settings) -> None:
    async def start() -> None:
        async with opened(settings):
            pass

    await asyncio.gather(*(start() for _ in range(12)))
    async with opened(settings) as world:
        assert len(await world.rows(Installation)) == 1


async def test_another_secret_stops_the_start_with_one_line_that_names_the_setting(
    settings: Settings,
) -> None:
    async with opened(settings) as world:
        member = await world.tenant()
    other = settings.model_copy(update={"secret_key": SecretStr("another secret, and it is long enough")})
    with pytest.raises(StoreError, match=r"^CROSSGRANT_SECRET_KEY: [^\n]+$"):
        async with opened(other):
            pass
    async with opened(settings) as world:
        assert [row.id for row in await world.rows(type(member.tenant))] == [member.id]


async def test_a_database_that_cannot_be_reached_stops_the_start_with_one_line(tmp_path: Path) -> None:
    nowhere = settings_for(tmp_path, f"postgresql+asyncpg://postgres@/nothing?host={tmp_path}&port=5432")
    with pytest.raises(StoreError, match=rf"^CROSSGRANT_DATABASE_URL: .*nothing at {tmp_path}:5432: [^\n]+$"):
        async with opened(nowhere):
            pass


async def test_a_folder_that_cannot_be_used_stops_the_start_with_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.touch()
    with pytest.raises(StoreError, match=r"^CROSSGRANT_DATA_DIR: [^\n]+$"):
        async with opened(settings_for(blocked / "data", None)):
            pass


async def test_what_sqlite_keeps_is_its_owners_alone(tmp_path: Path) -> None:
    async with opened(settings_for(tmp_path / "data", None)) as world:
        await world.tenant()
        for path in (tmp_path / "data").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
