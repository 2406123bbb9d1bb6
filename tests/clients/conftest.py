from tests.server.conftest import house as house
from tests.server.conftest import postgres_house as postgres_house
from tests.server.conftest import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories
from tests.server.conftest import service as service
from tests.server.conftest import sqlite_house as sqlite_house
