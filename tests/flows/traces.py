"""Whether a transaction leaves a trace in PostgreSQL: a lock on a row does, for it is written to the log like a change."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, Select, Table, column, literal_column, select, text

from app.store.engine import Tx
from app.store.tables import Row
from tests.world import World

P = ParamSpec("P")
T = TypeVar("T")

#: A row: its table, and its key.
Trace = tuple[str, ...]

_NUMBERED = text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
_MINE: ColumnElement[str] = literal_column("pg_current_xact_id()::xid")


async def traced(
    world: World, flow: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
) -> tuple[T, list[Trace]]:
    """What a flow answers, and which rows it has made, changed or locked."""

    def run(tx: Tx) -> tuple[T, list[Trace]]:
        answer = flow(tx, *args, **kwargs)
        tx.flush()
        return answer, _traces(tx)

    return await world.write(run)


def _traces(tx: Tx) -> list[Trace]:
    if not tx.scalar(_NUMBERED):
        return []  # whoever locks or changes anything gets a number
    found = [
        (table.name, *row) for table in Row.metadata.sorted_tables for row in tx.execute(_touched(table))
    ]
    assert found, "it has a number, so there must be a row"
    return found


def _touched(table: Table) -> Select[Any]:
    return select(*table.primary_key).where((column("xmin") == _MINE) | (column("xmax") == _MINE))
