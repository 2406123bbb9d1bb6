"""Which store a process uses, and that all who use it hold the same secret."""

from app.rules.ids import BootId
from app.settings import Settings
from app.store.engine import Store, StoreError, Tx
from app.store.keys import Keys
from app.store.tables import Installation


def make_store(settings: Settings, boot_id: BootId, *, serves: bool) -> Store:
    """The store that the settings name. On SQLite only the process that `serves` checkpoints."""
    # Here, for nobody needs both, and a command would be seen to wait for the other's driver.
    if settings.database_url is not None:
        from app.store.postgres import Postgres

        return Postgres(settings.database_url, boot_id)
    from app.store.sqlite import Sqlite

    return Sqlite(settings.sqlite_path, checkpoints=serves)


async def prepare(store: Store, keys: Keys) -> None:
    """Brings the schema up to date and compares secrets. Raises StoreError."""
    await store.migrate()
    await store.write(_agree, keys.check)


def _agree(tx: Tx, check: str) -> None:
    # Of several first starts at once one inserts, and the others wait for it and compare.
    tx.execute(tx.inserting(Installation).values(id=1, key_check=check).on_conflict_do_nothing())
    if tx.get_one(Installation, 1).key_check != check:
        raise StoreError(
            "CROSSGRANT_SECRET_KEY: this database was set up with another secret; "
            "give the one of the server that uses this database, or the file secret.key of its data folder"
        )
