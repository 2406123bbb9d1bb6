"""A store on its first and on every later day: the schema is what `tables.py` says, and the secret stays the same."""

import asyncio
import re
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import inspect, text

from app.proxy.attempts import Released
from app.rules.ids import BootId
from app.rules.windows import WindowKind
from app.settings import Settings
from app.store.engine import Store, StoreError, Tx
from app.store.installation import make_store
from app.store.keys import new_id
from app.store.tables import Installation, Row
from tests.flows.nodes import node
from tests.world import SCOPES, opened, settings_for

Values = dict[str, Any]


@pytest.fixture
def settings(database_url: str | None, tmp_path: Path) -> Settings:
    """A store that nobody has touched."""
    return settings_for(tmp_path / "data", database_url)


def _differences(tx: Tx) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(tx.connection()), Row.metadata))


async def test_the_migrations_make_the_tables_that_the_rows_are_of(settings: Settings) -> None:
    async with opened(settings) as world:
        assert await world.read(_differences) == []


#: What Alembic does not compare: collations, defaults, partial indexes, the order of columns in indexes and keys. In
#: tables they have no order of their own: a migration can add one at the end alone, and every statement names its own.
SQLITE_SAYS = """
    SELECT type, name, tbl_name FROM sqlite_master;
    SELECT m.name, c.name, c.type, c."notnull", c.dflt_value, c.pk FROM sqlite_master m, pragma_table_info(m.name) c;
    SELECT m.name, l.name, l."unique", l.partial FROM sqlite_master m, pragma_index_list(m.name) l;
    SELECT m.name, x.seqno, x.name, x.coll, x."desc" FROM sqlite_master m, pragma_index_xinfo(m.name) x;
    SELECT m.name, f."table", f."from", f."to" FROM sqlite_master m, pragma_foreign_key_list(m.name) f
"""
POSTGRES_SAYS = """
    SELECT table_name, column_name, data_type, is_nullable, collation_name, column_default
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
        anew = await world.read(_described)
        assert [one ^ other for one, other in zip(migrated, anew, strict=True)] == [set()] * len(anew)


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
    with pytest.raises(StoreError, match=r"^CROSSGRANT_SECRET_KEY: [^\n]+ secret.key [^\n]+$"):
        async with opened(other):
            pass
    async with opened(settings) as world:
        assert [row.id for row in await world.rows(type(member.tenant))] == [member.id]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/x?host=/nowhere&port=5432", "x at /nowhere:5432: nothing answers there"),
        ("127.0.0.1:9/x", "x at 127.0.0.1:9: nothing answers there"),
        ("nobody.invalid/x", "x at nobody.invalid:5432: the host's name "),
    ],
)
async def test_a_database_that_cannot_be_reached_stops_the_start_with_one_line(
    tmp_path: Path, address: str, said: str
) -> None:
    nowhere = settings_for(tmp_path, f"postgresql+asyncpg://postgres@{address}")
    with pytest.raises(
        StoreError, match=rf"^CROSSGRANT_DATABASE_URL: cannot use the database {re.escape(said)}[^\n]*$"
    ):
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


async def test_what_a_store_of_the_first_release_has_is_there_after_the_upgrade(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings) as world, node(world) as at:
        lent = await world.delegation(max_actions_per_hour=5)
        await at.perform(lent)
        await at.no(lent, path="/elsewhere")
        before = await world.read(_everything)
    await _forget(settings)
    with monkeypatch.context() as patched:
        upgrade = command.upgrade
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        async with _store(settings) as store:
            await store.migrate()
            old = await store.write(_put, before)
    async with opened(settings) as world, node(world) as at:
        after = await world.read(_everything)
        (used,) = after.pop("scope_uses")
        (completed,) = (row for row in old["dispatches"] if row["outcome"] == "COMPLETED")
        assert used == {
            "delegation_id": lent.id,
            "scope": SCOPES[0],
            "last_used_at": completed["requested_at"],
        }
        for name, rows in after.items():
            kept = [{**row, **_later(name, row)} for row in old.get(name, ())]
            assert sorted(rows, key=str) == sorted(kept, key=str), name
        assert isinstance(await at.perform(lent), Released)


def _later(table: str, row: Values) -> Values:
    """What the columns that came later say of a row that was there before."""
    sandbox = ("sandbox_base_url", "sandbox_credential_header", "sealed_sandbox_credential")
    later: dict[str, Values] = {
        "upstreams": dict.fromkeys((*sandbox, "guardrail_url")),
        "actions": {"request_schema": None},
        "dispatches": {"cost_units": 1},
        "windows": {"exhausted_at": None},
        "terms": {"in_force_at": row.get("created_at")},
    }
    return later.get(table, {})


def _everything(tx: Tx) -> dict[str, list[Values]]:
    found = {}
    for table in Row.metadata.sorted_tables:
        names = [column.name for column in table.columns]
        rows = tx.execute(text(f"SELECT {', '.join(names)} FROM {table}"))  # noqa: S608  # ours
        found[table.name] = [dict(zip(names, row, strict=True)) for row in rows]
    return found


def _put(tx: Tx, rows: dict[str, list[Values]]) -> dict[str, list[Values]]:
    """Puts into the older tables what they have room for; what that is."""
    older = inspect(tx.connection())
    put: dict[str, list[Values]] = {}
    for table in Row.metadata.sorted_tables:
        if not older.has_table(table.name):
            continue
        names = [column["name"] for column in older.get_columns(table.name)]
        into = text(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"  # noqa: S608
        )
        # Costs were not counted yet.
        known = [row for row in rows[table.name] if row.get("kind") != WindowKind.COST_MONTH]
        put[table.name] = [{name: row[name] for name in names} for row in known]
        for row in put[table.name]:
            tx.execute(into, row)
    return put


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Store]:
    store = make_store(settings, BootId(new_id("bot")), serves=True)
    try:
        yield store
    finally:
        await store.close()


async def _forget(settings: Settings) -> None:
    if settings.database_url is None:
        shutil.rmtree(settings.data_dir)
        return
    connection = await asyncpg.connect(settings.database_url.replace("+asyncpg", ""))
    try:
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    finally:
        await connection.close()
