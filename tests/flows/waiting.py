"""Waiting for what will be true, instead of for a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 20.0  # seconds; nothing takes that long unless the test fails


async def until(ask: Callable[[], Awaitable[T | None]]) -> T:
    """The first answer that is true."""
    async with asyncio.timeout(PATIENCE):
        while not (answer := await ask()):  # noqa: ASYNC110  # announced by nobody
            await asyncio.sleep(0.005)
    return answer
