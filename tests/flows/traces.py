"""Whether a transaction leaves a trace in PostgreSQL: a lock on a row does, for it is written to the log like a change."""

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import text

from app.store.engine import Tx
from tests.world import World

P = ParamSpec("P")
T = TypeVar("T")

_NUMBERED = text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")


async def traced(
    world: World, flow: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
) -> tuple[T, bool]:
    """What a flow answers, and whether it changed or locked any row."""

    def run(tx: Tx) -> tuple[T, bool]:
        answer = flow(tx, *args, **kwargs)
        tx.flush()
        return answer, bool(tx.scalar(_NUMBERED))

    return await world.write(run)
