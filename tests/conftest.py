"""What every test can ask for. A test that asks for none of it starts nothing."""

import os
from collections.abc import Iterator
from typing import Literal

import pytest

from tests.postgres import Postgres, server

StoreKind = Literal["sqlite", "postgres"]

FULL = os.environ.get("CROSSGRANT_TEST_FULL") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="heavy proof: scripts/test --full")
    for item in items:
        if item.get_closest_marker("full") and not FULL:
            item.add_marker(skip)


#: By default on SQLite alone: what the test is about is the same on both stores, and takes seconds on each.
HEAVY_ON_POSTGRES = pytest.mark.parametrize(
    "store_kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.full)]
)

#: By default on PostgreSQL alone, where more than one writes at a time.
HEAVY_ON_SQLITE = pytest.mark.parametrize(
    "store_kind", [pytest.param("sqlite", marks=pytest.mark.full), "postgres"]
)


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether this run does the heavy proofs: more rounds, more load."""
    return FULL


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the whole run. CROSSGRANT_TEST_FSYNC=off makes its commits quick, and tests them less."""
    with server(durable=os.environ.get("CROSSGRANT_TEST_FSYNC") != "off") as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def store_kind(request: pytest.FixtureRequest) -> StoreKind:
    """Runs the test once on each store."""
    kind: StoreKind = request.param
    return kind


@pytest.fixture
def database_url(store_kind: StoreKind, request: pytest.FixtureRequest) -> Iterator[str | None]:
    """None for SQLite, or the DSN of a fresh, empty PostgreSQL database."""
    if store_kind == "sqlite":
        yield None
        return
    running: Postgres = request.getfixturevalue("postgres")
    with running.database() as dsn:
        yield dsn
