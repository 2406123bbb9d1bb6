"""The web room's tests run on both event loops: asyncio's and uvloop, which serves in production."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO

import pytest
import structlog
import uvloop

from app.telemetry import configure_logging

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories() -> Mapping[str, LoopFactory]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def lines() -> Iterator[BytesIO]:
    """What the process logs at INFO during a test; the world's logging is as before afterwards."""
    stream = BytesIO()
    level = logging.root.level
    configure_logging("INFO", stream)
    yield stream
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(capture=False)
    logging.root.setLevel(level)
    # pytest comes and goes with handlers of its own, which stay.
    for handler in [
        one for one in logging.root.handlers if type(one).__module__ == configure_logging.__module__
    ]:
        logging.root.removeHandler(handler)
