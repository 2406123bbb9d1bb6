"""graphql-ws, graphql-sse and Apollo Client, unchanged: each subscribes, is cut, resumes, and has what the ledger has.

Hive Gateway, unchanged too, subscribes as a federation router does: by callbacks, with a client of its own behind it.
"""

import asyncio
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest

from tests.server.client import ask, data
from tests.server.conftest import House
from tests.server.routers import none_left
from tests.server.streams import LAST
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

HERE = Path(__file__).parent
SCHEMA = HERE.parent.parent / "schema.graphql"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crossgrant-clients"
EVENTS, CUT_AT = 12, 5
CHECKS = 4  # what keeps a router's subscription alive: the first, and a heartbeat each second
PATIENCE = 300  # seconds for npm


@pytest.fixture(scope="session")
def clients() -> Path:
    """The scripts beside what they import, installed once for each lock file."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("no npm on this machine: the reference clients cannot be installed")
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = CACHE / lock
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*HERE.glob("*.mjs"), *HERE.glob("package*.json")):
        shutil.copy(file, folder)
    if not (folder / "installed").exists():
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(
            command, check=False, cwd=folder, capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode:
            pytest.skip(f"npm ci failed: {done.stderr[-300:]}")
        (folder / "installed").touch()
    return folder


@pytest.mark.parametrize("script", ["over_ws", "over_sse", "over_multipart"])
async def test_a_client_from_npm_resumes_without_a_gap(
    house: House, service: Upstream, clients: Path, script: str
) -> None:
    loan = await house.lending.loan(service.port)
    start = (await data(house.port, loan.delegator.key, LAST))["edges"][0]
    command = ["node", str(clients / f"{script}.mjs"), f"http://127.0.0.1:{house.port}/graphql"]
    asked = [loan.delegator.key, start["cursor"], str(EVENTS), str(CUT_AT)]
    process = await asyncio.create_subprocess_exec(
        *command, *asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    for _ in range(EVENTS):
        await ask(house.port, "GET", loan.at(), [loan.bearer])
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    first = start["node"]["seq"] + 1
    assert orjson.loads(out) == list(range(first, first + EVENTS)), err.decode()


@pytest.mark.parametrize("house", ["sqlite", pytest.param("postgres", marks=pytest.mark.full)], indirect=True)
async def test_hive_gateway_subscribes_by_callbacks(house: House, service: Upstream, clients: Path) -> None:
    loan = await house.lending.loan(service.port)
    start = (await data(house.port, loan.delegator.key, LAST))["edges"][0]
    command = ["node", str(clients / "hive.mjs"), f"http://127.0.0.1:{house.port}/graphql"]
    asked = [loan.delegator.key, start["cursor"], str(EVENTS), str(CHECKS), str(SCHEMA)]
    process = await asyncio.create_subprocess_exec(
        *command, *asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"beating\n", (await process.communicate())[1].decode()
    for _ in range(EVENTS):
        await ask(house.port, "GET", loan.at(), [loan.bearer])
    out, err = await process.communicate()
    first = start["node"]["seq"] + 1
    assert orjson.loads(out) == list(range(first, first + EVENTS)), err.decode()
    await none_left(house.lending, loan.delegator)
