"""The command line: what is wrong is one line and exit code 2; what it makes works at once, also beside a server."""

import asyncio
import re
import socket
from asyncio.subprocess import PIPE
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from app.rules.permissions import Role
from tests.conftest import FULL, HEAVY_ON_POSTGRES
from tests.postgres import Postgres
from tests.server.client import ask, data
from tests.serving import ROOT, Done, Installation

pytestmark = pytest.mark.asyncio(loop_scope="session")

REGISTER = 'mutation { registerAgent(input: {name: "actor", scopes: []}) { agent { id } } }'
VIEWER = "{ viewer { subject role tenant { slug } } }"


# What is wrong


WRONG = [
    ("secret_key", "short", "CROSSGRANT_SECRET_KEY"),
    ("database_url", "postgresql+asyncpg://u:p@localhost:notaport/x", "CROSSGRANT_DATABASE_URL"),
    ("database_url", "postgresql+asyncpg://u:p@127.0.0.1:9/x", "x at 127.0.0.1:9"),
    ("egress_allow", "10.0.0.0/99", "CROSSGRANT_EGRESS_ALLOW"),
    ("log_level", "LOUD", "CROSSGRANT_LOG_LEVEL"),
    ("data_dir", "/dev/null/below-a-file", "CROSSGRANT_DATA_DIR"),
    ("plans", "/dev/null/below-a-file", "CROSSGRANT_PLANS"),
    ("plans", "/dev/null", "CROSSGRANT_PLANS"),
]


async def test_a_wrong_setting_stops_the_start_with_one_line(tmp_path: Path) -> None:
    for name, value, says in (
        WRONG if FULL else WRONG[:2]
    ):  # one by one: together they would take all of a small machine
        done = await Installation(tmp_path, more={name: value}).command("serve", "--port", "0")
        assert_one_line(done, says)
        assert name != "secret_key" or value not in done.err, "a secret is not repeated"
        assert "u:p@" not in done.err, "a password is not repeated"


async def test_a_parameter_that_the_driver_does_not_know_stops_the_start(tmp_path: Path) -> None:
    url = "postgresql+asyncpg://u:p@127.0.0.1:9/x?sslmode=require"
    assert_one_line(await Installation(tmp_path, url).command("migrate"), "CROSSGRANT_DATABASE_URL")


async def test_a_database_that_is_not_there_stops_the_start(postgres: Postgres, tmp_path: Path) -> None:
    gone = f"postgresql+asyncpg://postgres@/no_such_database?host={postgres.folder}&port=5432"
    assert_one_line(await Installation(tmp_path, gone).command("serve", "--port", "0"), "no_such_database")


@pytest.mark.full
async def test_a_store_of_another_secret_stops_the_start(tmp_path: Path) -> None:
    first = Installation(tmp_path)
    await first.tenant("acme")
    done = await replace(first, secret="another secret, long enough too, for sure").command(
        "serve", "--port", "0"
    )
    assert_one_line(done, "CROSSGRANT_SECRET_KEY")


async def test_a_damaged_database_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "crossgrant.db").write_bytes(b"this is no database" * 1000)
    assert_one_line(await Installation(tmp_path).command("serve", "--port", "0"), "CROSSGRANT_DATA_DIR")


async def test_a_port_in_use_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_one_line(await Installation(tmp_path).command("serve", "--port", port), port)


@pytest.mark.full
async def test_an_address_that_is_not_ours_stops_the_start(tmp_path: Path) -> None:
    done = await Installation(tmp_path).command("serve", "--host", "198.51.100.1")
    assert_one_line(done, "198.51.100.1")


async def test_a_second_server_on_one_folder_is_turned_away(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    async with installation.serving() as first:
        assert_one_line(await installation.command("serve", "--port", "0"), str(tmp_path))
        assert (await ask(first.port, "GET", "/readyz")).status == 200
    async with installation.serving():
        pass  # a dead one holds nothing


async def test_a_wrong_argument_is_one_line(tmp_path: Path) -> None:
    wrong = (
        ["tenant", "create", "Not A Slug", "--name", "x"],
        ["tenant", "create", "acme", "--name", "x", "--plan", "none"],
        ["key", "create", "nobody", "--role", "ADMIN"],
        ["agent", "trust", "agt_x", "80"],
        ["agent", "trust", "agt_x", "101"],
    )
    for arguments in wrong if FULL else wrong[:1]:
        assert_one_line(await Installation(tmp_path).command(*arguments), "")


# What it makes


@HEAVY_ON_POSTGRES
async def test_what_is_made_beside_a_running_server_works_at_once(
    tmp_path: Path, database_url: str | None
) -> None:
    installation = Installation(tmp_path, database_url)
    async with installation.serving() as served:
        member = await installation.tenant("acme")
        assert await data(served.port, member.key, VIEWER) == {
            "subject": "owner",
            "role": "OWNER",
            "tenant": {"slug": "acme"},
        }
        options = ("--role", Role.AUDITOR.lower(), "--subject", "a robot", "--json")
        key = (await installation.command("key", "create", "acme", *options)).json
        assert (key["tenantId"], key["role"]) == (member.id, "AUDITOR")
        viewer = await data(served.port, key["apiKey"], VIEWER)
        assert (viewer["subject"], viewer["role"]) == ("a robot", "AUDITOR")
        log = await data(served.port, key["apiKey"], "{ auditLog { nodes { event actor } } }")
        assert log["nodes"] == [{"event": "api_key.created", "actor": "command-line"}]
        agent = (await data(served.port, member.key, REGISTER))["agent"]["id"]
        trusted = (await installation.command("agent", "trust", agent, "80", "--json")).json
        assert trusted == {"agentId": agent, "tenantId": member.id, "trustScore": 80}
        shown = await data(served.port, member.key, f'{{ agent(id: "{agent}") {{ trustScore }} }}')
        assert shown == {"trustScore": 80}


async def test_plans_are_those_of_the_file_and_none_that_a_tenant_has_may_go(tmp_path: Path) -> None:
    plans = tmp_path / "plans.yaml"
    plans.write_text("gold: {maxActiveOutgoing: 7}\n")
    installation = Installation(tmp_path / "data", more={"plans": str(plans)})
    await installation.tenant("acme", "--plan", "gold")
    assert_one_line(await installation.command("tenant", "create", "b", "--name", "B"), "gold")
    assert (await installation.command("tenant", "list")).err.count("\n") == 1
    plans.write_text("silver: {maxActiveOutgoing: 7}\n")
    listed = await installation.command("tenant", "list", "--json")
    assert [row["maxActiveOutgoing"] for row in listed.json] == [None]
    assert "\ncrossgrant: not in the file of plans: acme (gold): no gateway starts until " in listed.err
    assert_one_line(await installation.command("serve", "--port", "0"), "gold")


async def test_what_is_made_is_said_to_be_where_it_is_but_not_on_stdout(tmp_path: Path) -> None:
    done = await Installation(tmp_path).command("tenant", "create", "acme", "--name", "Acme", "--json")
    assert set(done.json) == {"tenantId", "slug", "apiKey"}
    assert done.err == f"crossgrant: made in SQLite {tmp_path}/crossgrant.db\n"


@pytest.mark.full
async def test_a_variable_that_is_no_setting_is_named_once_and_stops_nothing(tmp_path: Path) -> None:
    installation = Installation(tmp_path, more={"databse_url": "x"})
    done = await installation.command("migrate")
    assert (done.code, done.err.count("CROSSGRANT_DATABASE_URL"), done.err.count("\n")) == (0, 1, 1)
    async with installation.serving() as served:
        log = await asyncio.to_thread(served.log.read_text)
    assert log.count("did you mean CROSSGRANT_DATABASE_URL?") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", pytest.param("::", marks=pytest.mark.full)])  # noqa: S104 (that is what is warned of)
async def test_who_listens_everywhere_is_told_what_clients_are_told(tmp_path: Path, host: str) -> None:
    async with Installation(tmp_path).serving("--host", host) as served:
        log = await asyncio.to_thread(served.log.read_text)
    (line,) = [line for line in log.splitlines() if "CROSSGRANT_PUBLIC_URL" in line]
    assert f"http://localhost:{served.port}" in line


@pytest.mark.full
async def test_who_has_said_what_clients_are_told_is_not_told(tmp_path: Path) -> None:
    told = Installation(tmp_path, more={"public_url": "https://x.example"})
    async with told.serving("--host", "0.0.0.0") as served:  # noqa: S104  # the same
        log = await asyncio.to_thread(served.log.read_text)
    assert "CROSSGRANT_PUBLIC_URL" not in log


async def test_the_release_is_printed(tmp_path: Path) -> None:
    done = await Installation(tmp_path).command("--version")
    assert (done.code, done.out, done.err) == (0, f"crossgrant {version('crossgrant')}\n", "")


async def test_the_schema_is_printed(tmp_path: Path) -> None:
    done = await Installation(tmp_path).command("schema")
    assert (done.code, done.err) == (0, "")
    assert done.out == (ROOT / "schema.graphql").read_text()


async def test_generated_secrets_are_their_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = await Installation(folder, secret=None).command("migrate")
    assert (first.code, first.err) == (0, "")
    for path in (folder, *folder.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, f"{path.name} is open to others"
    kept = (folder / "secret.key").read_bytes()
    assert await Installation(folder, secret=None).command("migrate") == first
    assert (folder / "secret.key").read_bytes() == kept
    assert len(kept) >= 32


# The demonstration


@pytest.mark.full
async def test_the_demonstrations_walk_runs_to_its_end_and_a_restart_keeps_it(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    async with installation.serving("--demo") as served:
        walk = await printed_walk(served.process)
        assert_the_walk_tells(await walked(walk))
        assert await served.stop() == 0
    keys = re.findall(r"^(?:ACME|GLOBEX)=(cgk_\w+)", walk, re.MULTILINE)
    async with installation.serving("--demo") as served:
        again = await printed_walk(served.process)
        assert re.findall(r"^(?:ACME|GLOBEX)=(cgk_\w+)", again, re.MULTILINE) == keys, "the same tenants"
        log = await data(served.port, keys[0], "{ auditLog(first: 100) { nodes { seq event } } }")
    events = [entry["event"] for entry in log["nodes"]]
    assert [entry["seq"] for entry in log["nodes"]] == list(range(1, len(events) + 1))
    assert "delegation.revoked" in events[-3:], "all of the walk is still there"


def assert_the_walk_tells(steps: list[str]) -> None:
    _offered, previewed, accepted, acted, not_lent, amended, revoked, logs = steps
    assert '"scopes":["receipts:read","receipts:write","reports:read"]' in previewed
    assert "is active" in accepted
    assert '"id":"r1"' in acted
    assert '"total":12.5' in acted
    assert "ACTION_NOT_FOUND" in not_lent
    assert '"version":2' in amended
    assert '"allowed":false,"code":"CAP_HOUR"' in amended
    assert '"inFlightAborted":1' in revoked
    assert "DELEGATION_REVOKED" in revoked
    assert logs.count("delegation.revoked") == 2
    assert '"report"' not in revoked


async def printed_walk(process: Any) -> str:
    """The lines that the process prints to be pasted: up to the one that names the file which holds them."""
    lines: list[str] = []
    async with asyncio.timeout(30):
        while not (found := re.search(r"All of this at once: bash (\S+)", "".join(lines))):
            lines.append((await process.stdout.readline()).decode())
    printed = "".join(lines[:-1]).strip()
    assert (await asyncio.to_thread(Path(found[1]).read_text)).strip() == printed
    return printed


async def walked(walk: str) -> list[str]:
    """What the steps of the walk print, each from its number on."""
    process = await asyncio.create_subprocess_exec("bash", "-c", walk, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    _before, *steps = re.split(r"^(?=\d\. )", out.decode(), flags=re.MULTILINE)
    return steps


def assert_one_line(done: Done, says: str) -> None:
    """It ended with code 2 and one line on stderr, which says this."""
    assert (done.code, done.out) == (2, ""), done
    assert done.err.startswith("crossgrant: "), done.err
    assert done.err.endswith("\n")
    assert done.err.count("\n") == 1, done.err
    assert says in done.err
