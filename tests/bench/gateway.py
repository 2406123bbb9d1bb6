"""The gateway under measurement: the real one, with two tenants, what one lends the other, and perhaps a long ledger.

`python -m tests.bench.gateway FOLDER UPSTREAM_PORT ENTRIES [DATABASE_URL]` serves until it is stopped; when it
listens, it prints one line of JSON. Its log, at the default level, goes to FOLDER/log.
"""

import asyncio
import sys
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import orjson
import uvloop
from pydantic import SecretStr
from sqlalchemy import text

from app.main import running
from app.rules.ids import TenantId
from app.serve import listen, serve
from app.settings import Settings
from app.store.engine import Tx
from app.telemetry import configure_logging
from tests.bench.lending import Lending, lend

_CHUNK = 100_000  # entries in one transaction
#: Copies of a tenant's first entry, numbered on from its last.
_FILL = text(
    "WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last) "
    "INSERT INTO ledger (tenant_id, seq, id, pair_id, event, occurred_at, body, leaf_hash) "
    "SELECT tenant_id, n, printf('aud_00000000-0000-7000-8000-%012x', n), "
    "printf('par_00000000-0000-7000-8000-%012x', n), event, occurred_at, body, leaf_hash "
    "FROM ledger, numbers WHERE tenant_id = :tenant AND seq = 1"
)
_HEAD = text("UPDATE ledger_heads SET seq = :last WHERE tenant_id = :tenant")


def fill(tx: Tx, tenant: TenantId, first: int, last: int) -> None:
    """Entries of these numbers."""
    tx.execute(_FILL, {"tenant": tenant, "first": first, "last": last})
    tx.execute(_HEAD, {"tenant": tenant, "last": last})


def count(tx: Tx, tenant: TenantId) -> int:
    """How many entries a ledger has."""
    head = text("SELECT seq FROM ledger_heads WHERE tenant_id = :tenant")
    return int(tx.execute(head, {"tenant": tenant}).scalar_one())


def settings_for(folder: Path, database: str | None) -> Settings:
    """The settings of a gateway under measurement."""
    return Settings(
        data_dir=folder,
        database_url=database,
        secret_key=SecretStr("a secret of the benchmark, long enough for all"),
        egress_allow=(ip_network("127.0.0.0/8"),),
    )


def _known(lending: Lending, port: int) -> dict[str, object]:
    tokens = {"token": lending.plain.token, "governed_token": lending.governed.token}
    return {"port": port, "key": lending.acme.key, "tenant": lending.acme.id, **tokens}


async def main(folder: Path, upstream_port: int, entries: int, database: str | None) -> None:
    """Serves."""
    settings = settings_for(folder, database)
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        async with running(settings, f"http://127.0.0.1:{port}") as process:
            lending = await lend(process.gateway, upstream_port)
            store, tenant = process.gateway.store, lending.acme.id
            for first in range(await store.read(count, tenant) + 1, entries + 1, _CHUNK):
                await store.write(fill, tenant, first, min(first + _CHUNK - 1, entries))
            sys.stdout.buffer.write(orjson.dumps(_known(lending, port)) + b"\n")
            sys.stdout.flush()
            await serve(process, listening)


if __name__ == "__main__":
    _folder = Path(sys.argv[1])
    with (_folder / "log").open("wb") as _log, suppress(asyncio.CancelledError):
        configure_logging("INFO", _log)
        uvloop.run(main(_folder, int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if sys.argv[4:] else None))
