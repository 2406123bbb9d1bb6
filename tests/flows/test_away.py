"""A store that cannot be used just now is said to be so at once; what it may have done is never said not to be."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.identity.tenants import create_tenant
from app.rules.errors import Unavailable
from app.rules.ids import BootId
from app.rules.tokens import TokenKind
from app.settings import Settings
from app.store import postgres, sqlite
from app.store.engine import Tx
from app.store.installation import make_store
from app.store.keys import new_id
from app.store.tables import Tenant
from tests.flows.conftest import POSTGRES, SQLITE
from tests.flows.pausing import gate, wait_at_gate
from tests.world import World, opened, settings_for

_LOST = "SELECT pg_terminate_backend(pg_backend_pid())"
#: Loses the connection when COMMIT is asked for, and not before.
_LOST_BY_COMMIT = (
    "CREATE TEMP TABLE doomed (n int)",
    f"CREATE FUNCTION pg_temp.end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM ({_LOST}); RETURN NULL; END $$",
    (
        "CREATE CONSTRAINT TRIGGER doom AFTER INSERT ON doomed DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION pg_temp.end()"
    ),
    "INSERT INTO doomed VALUES (1)",
)


def say(tx: Tx, *statements: str) -> None:
    for statement in statements:
        tx.execute(text(statement))


def tenant_then(tx: Tx, world: World, *statements: str) -> None:
    """Makes a tenant before it says these."""
    create_tenant(tx, "acme", "Acme", "standard", world.keys.mint(TokenKind.API_KEY), world.plans)
    tx.flush()
    say(tx, *statements)


@POSTGRES
async def test_who_gets_no_connection_is_told_so_soon(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_POOL", 1)
    monkeypatch.setattr(postgres, "_PATIENCE", 0.1)
    async with opened(settings) as world, gate(world) as closed:
        holding = [asyncio.ensure_future(world.write(wait_at_gate)) for _ in range(2)]
        await closed.waiting(2)
        with pytest.raises(Unavailable):
            await world.read(say, "SELECT 1")
        with pytest.raises(Unavailable):
            await world.write(say, "SELECT 1")
        await closed.open()
        await asyncio.gather(*holding)
        await world.write(say, "SELECT 1")


async def test_a_database_that_nobody_serves_is_unavailable(tmp_path: Path) -> None:
    nowhere = settings_for(tmp_path, f"postgresql+asyncpg://postgres@/nothing?host={tmp_path}&port=5432")
    store = make_store(nowhere, BootId(new_id("bot")), serves=True)
    with pytest.raises(Unavailable):
        await store.read(say, "SELECT 1")
    with pytest.raises(Unavailable):
        await store.write(say, "SELECT 1")
    await store.close()


@POSTGRES
async def test_a_connection_that_is_lost_before_its_commit_has_done_nothing(world: World) -> None:
    with pytest.raises(Unavailable):
        await world.write(tenant_then, world, _LOST)
    assert not await world.rows(Tenant)


@POSTGRES
async def test_a_connection_that_is_lost_by_its_commit_is_not_said_to_have_done_nothing(world: World) -> None:
    with pytest.raises(DBAPIError):
        await world.write(tenant_then, world, *_LOST_BY_COMMIT)


@SQLITE
async def test_a_file_that_somebody_else_writes_for_too_long_is_unavailable(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings) as first:
        monkeypatch.setattr(sqlite, "_BUSY", 0)
        store = make_store(first.settings, first.boot_id, serves=False)
        other = sqlite3.connect(first.settings.sqlite_path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(Unavailable):
                await store.write(tenant_then, first)
        other.execute("ROLLBACK")
        other.close()
        await store.write(tenant_then, first)
        assert len(await first.rows(Tenant)) == 1
        await store.close()


@SQLITE
async def test_a_full_disk_is_unavailable_and_nothing_was_done(world: World) -> None:
    with pytest.raises(Unavailable):
        await world.write(
            tenant_then,
            world,
            "PRAGMA max_page_count = 1",  # as large as it is now
            "CREATE TABLE large (content BLOB)",
            "INSERT INTO large VALUES (zeroblob(1000000))",
        )
    assert not await world.rows(Tenant)
    await world.write(say, "PRAGMA max_page_count = 1000000")
    await world.write(tenant_then, world)


async def test_a_fault_of_ours_stays_one(world: World) -> None:
    with pytest.raises(DBAPIError):
        await world.write(say, "SELECT * FROM nowhere")
    with pytest.raises(DBAPIError):
        await world.read(say, "SELECT * FROM nowhere")


async def test_an_error_of_a_statement_repeats_no_value(world: World) -> None:
    def query(tx: Tx) -> None:
        tx.execute(text("SELECT * FROM nowhere WHERE it = :value"), {"value": "a secret"})

    with pytest.raises(DBAPIError) as raised:
        await world.read(query)
    assert "a secret" not in str(raised.value)
