"""An egress that may call the test's own servers."""

from collections.abc import AsyncIterator

import pytest_asyncio

from app.egress.client import Egress
from tests.egress.peers import opened


@pytest_asyncio.fixture
async def egress() -> AsyncIterator[Egress]:
    async with opened() as ready:
        yield ready
