"""Waiting for what will be, and never for a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.rules.entries import Outcome
from app.rules.ids import DispatchId
from app.store.tables import Dispatch
from tests.server.client import PATIENCE
from tests.server.lending import Lending, Loan

T = TypeVar("T")


async def until(condition: Callable[[], Awaitable[T | None]]) -> T:
    """Asks again and again until the answer is true, and returns it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.01)


async def until_settled(lending: Lending, loan: Loan, count: int = 1) -> dict[DispatchId, Dispatch]:
    """The admitted dispatches of a delegation, once there are so many and each has ended."""

    async def settled() -> dict[DispatchId, Dispatch] | None:
        rows = await lending.admitted(loan)
        done = all(row.outcome is not Outcome.PENDING for row in rows.values())
        return rows if done and len(rows) >= count else None

    return await until(settled)
