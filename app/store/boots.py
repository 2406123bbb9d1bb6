"""Which processes are gone: what they left is for others to take."""

from sqlalchemy import func, select

from app.rules.ids import BootId
from app.store.engine import Tx
from app.store.postgres import boot_lock


def is_gone(tx: Tx, boot_id: BootId) -> bool:
    """Whether a process that is not this one has ended: on PostgreSQL, if its lock can be taken; on SQLite always,
    since a process starts only when every other has ended.
    """
    if tx.on_sqlite:
        return True
    return bool(tx.scalar(select(func.pg_try_advisory_xact_lock(boot_lock(boot_id)))))
