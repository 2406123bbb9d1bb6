"""The house of DESIGN section 2 keeps its order: a room imports only rooms above it, and `rules/` is pure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parent.parent / "app"

#: From the top down. A room may import the rooms before it and itself.
ORDER = (
    "rules",
    "settings",
    "telemetry",
    "edge",
    "store",
    "ledger",
    "identity",
    "egress",
    "inventory",
    "delegations",
    "proxy",
    "delivery",
    "api",
    "listen",
    "web",
    "main",
    "serve",
    "demo",
    "cli",
)

ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.putenv"}
WAYS_OUT = {"aiohttp", "http.client", "httpx", "httpx2", "requests", "urllib.request", "urllib3"}
#: What a decision may not know: waiting, clocks, chance, the machine, SQL, frameworks.
IMPURE = {
    *("asyncio", "threading", "subprocess", "socket", "os", "io", "sqlite3"),
    *("time", "random", "secrets", "uuid_utils", "uuid.uuid1", "uuid.uuid4"),
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
    *("sqlalchemy", "alembic", "asyncpg", "aiodataloader", "strawberry", "graphql", "starlette", "uvicorn"),
    *("pydantic_settings", "structlog", "prometheus_client", "typer"),
}
WAITING = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)


def test_each_room_imports_only_rooms_above_it() -> None:
    found = [fault for path in sorted(APP.rglob("*.py")) for fault in faults(path, path.read_text())]
    assert not found, "\n" + "\n".join(found)


def test_each_room_has_a_place_in_the_order() -> None:
    rooms = {room(path) for path in APP.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms <= set(ORDER), f"give {sorted(rooms - set(ORDER))} a place in ORDER ({__file__})"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("ledger/append.py", "from app.delivery import feed"),
        ("ledger/append.py", "from app import api"),
        ("ledger/append.py", "def late(): import app.main"),
        ("ledger/append.py", "from ..proxy import endpoint"),
        ("rules/terms.py", "from app import settings"),
        ("rules/terms.py", "from datetime import datetime; datetime.now()"),
        ("rules/terms.py", "import datetime; datetime.datetime.now(datetime.UTC)"),
        ("rules/terms.py", "from time import time"),
        ("rules/terms.py", "from uuid import uuid4"),
        ("rules/terms.py", "import sqlalchemy.orm"),
        ("rules/terms.py", "async def f(): ..."),
        ("rules/terms.py", "type Word = str"),
        ("store/engine.py", "import os; os.environ.get('HOME')"),
        ("store/engine.py", "from os import getenv"),
        ("proxy/endpoint.py", "import aiohttp"),
        ("proxy/endpoint.py", "from aiohttp import web"),
    ],
)
def test_a_breach_is_found(path: str, line: str) -> None:
    assert len(faults(APP / path, line)) == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("ledger/append.py", "from app.ledger import read"),
        ("ledger/append.py", "from . import read"),
        ("ledger/append.py", "from app.store import tables"),
        ("rules/terms.py", "from app.rules import scopes"),
        ("rules/terms.py", "from datetime import UTC, datetime; datetime.fromtimestamp(0, UTC)"),
        ("settings.py", "import os; os.environ"),
        ("egress/client.py", "import aiohttp"),
        ("proxy/endpoint.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING: import aiohttp"),
    ],
)
def test_an_ordinary_line_passes(path: str, line: str) -> None:
    assert faults(APP / path, line) == []


def faults(path: Path, source: str) -> list[str]:
    """Each breach as `file:line: what; what is allowed`."""
    try:
        tree = ast.parse(source, feature_version=(3, 11))
    except SyntaxError as error:
        return [f"{path.relative_to(APP.parent)}:{error.lineno}: {error.msg}; Python 3.11 must read it"]
    for_types = {id(node) for node in _only_for_types(tree)}
    return [
        f"{path.relative_to(APP.parent)}:{node.lineno}: {fault}"
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt | ast.expr)
        for fault in _faults_of(node, path, runs=id(node) not in for_types)
    ]


def _faults_of(node: ast.stmt | ast.expr, path: Path, *, runs: bool) -> Iterator[str]:
    here = room(path)
    if here == "rules" and isinstance(node, WAITING):
        yield "waits; a rule takes values and returns values"
    for name in _names(node, path):
        top, _, rest = name.partition(".")
        there = rest.partition(".")[0] if top == "app" else ""
        if there in ORDER and there not in (here, *above(here)):
            yield f"{here} imports {name}; it may import {', '.join(above(here)) or 'nothing of ours'}"
        if here != "settings" and _is_one_of(name, ENVIRONMENT):
            yield f"reads {name}; only app/settings.py reads the environment"
        elif here == "rules" and _is_one_of(name, IMPURE):
            yield f"uses {name}; a rule knows no clock, chance, machine, SQL or framework: pass the value in"
        if here != "egress" and runs and _is_one_of(name, WAYS_OUT):
            yield f"imports {name}; only app/egress goes out (elsewhere under TYPE_CHECKING)"


def room(path: Path) -> str:
    return path.relative_to(APP).parts[0].removesuffix(".py")


def above(here: str) -> tuple[str, ...]:
    return ORDER[: ORDER.index(here)] if here in ORDER else ()


def _names(node: ast.AST, path: Path) -> set[str]:
    """The dotted names a node imports, or the one it spells out, cut to what the lists above speak of."""
    match node:
        case ast.Import():
            return {alias.name for alias in node.names}
        case ast.ImportFrom():
            # a relative import counts its dots from this file's package
            base = (APP.name, *path.relative_to(APP).parts)[: -node.level] if node.level else ()
            return {".".join(filter(None, (*base, node.module, alias.name))) for alias in node.names}
        case ast.Attribute() if (name := ast.unparse(node)) in ENVIRONMENT | IMPURE:
            return {name}
    return set()


def _is_one_of(name: str, listed: set[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in listed)


def _only_for_types(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for statement in node.body:
                yield from ast.walk(statement)
