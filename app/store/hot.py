"""The committer's own statements: fixed driver SQL, because every dispatch pays for them twice.

Each takes one parameter, a JSON text, and works on all rows of a batch at once: the number of statements in a batch
does not depend on its size, and the driver encodes one value. A batch is a generator that yields statements and is
sent their rows, so one algorithm runs on a SQLite thread and on asyncpg alike.
"""

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson

T = TypeVar("T")
Rows = Sequence[Sequence[Any]]


class Statement(NamedTuple):
    """One statement in both dialects; None where a store has no need of it."""

    sqlite: str | None
    postgres: str | None


class Step(NamedTuple):
    """A statement and its parameter."""

    statement: Statement
    payload: str = "[]"


Batch = Generator[Step, Rows, T]


def step(statement: Statement, values: object) -> Step:
    """A statement over these values."""
    return Step(statement, orjson.dumps(values).decode())


def _in(sql: str) -> Statement:
    """A statement over a list of strings, written as {list}."""
    return Statement(
        sql.format(list="(SELECT value FROM json_each(?1))"),
        sql.replace("IN {list}", "= ANY(ARRAY(SELECT json_array_elements_text($1::json)))"),
    )


def _rows(sql: str, **columns: str) -> Statement:
    """A statement over a list of objects, selected from as {rows}; `columns` are their PostgreSQL types."""
    picked = ", ".join(f"value ->> '{name}' AS {name}" for name in columns)
    typed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return Statement(
        sql.format(rows=f"(SELECT {picked} FROM json_each(?1)) AS r"),
        sql.format(rows=f"json_to_recordset($1::json) AS r({typed})"),
    )


#: Where tokens lead, which never changes: read before the lock, to know what to lock.
FIND = _in(
    "SELECT t.token_hash, t.id, t.binding_id, b.delegation_id FROM tokens t "
    "JOIN bindings b ON b.id = t.binding_id WHERE t.token_hash IN {list}"
)
FIND_BINDINGS = _in("SELECT id, delegation_id FROM bindings WHERE id IN {list}")

LOCK = Statement(
    None,
    "SELECT id FROM delegations WHERE id = ANY(ARRAY(SELECT json_array_elements_text($1::json))) "
    "ORDER BY id FOR NO KEY UPDATE",
)

_EVIDENCE = (
    "SELECT {now}, b.id, b.revoked_at, b.agent_id, d.id, d.status, d.delegator_id, d.delegate_id, d.offer_expires_at, "
    "d.terms_version, t.scopes, t.constraints, a.scopes, o.routes_revision, k.id, k.expires_at, k.rotated_at, "
    "k.last_used_at FROM bindings b "
    "JOIN delegations d ON d.id = b.delegation_id "
    "JOIN terms t ON t.delegation_id = d.id AND t.version = d.terms_version "
    "JOIN agents a ON a.id = d.agent_id JOIN tenants o ON o.id = d.delegator_id "
    "LEFT JOIN tokens k ON k.binding_id = b.id AND k.id IN {tokens} WHERE b.id IN {bindings}"
)
#: The database's clock in microseconds, and what a decision needs to know of bindings and tokens. It starts when the
#: locks are held, so clock and rows are read after them. Takes {"bindings": […], "tokens": […]}.
EVIDENCE = Statement(
    _EVIDENCE.format(
        now="crossgrant_now()",
        tokens="(SELECT value FROM json_each(?1, '$.tokens'))",
        bindings="(SELECT value FROM json_each(?1, '$.bindings'))",
    ),
    _EVIDENCE.replace("IN {tokens}", "= ANY(ARRAY(SELECT json_array_elements_text($1::json -> 'tokens')))")
    .replace("IN {bindings}", "= ANY(ARRAY(SELECT json_array_elements_text($1::json -> 'bindings')))")
    .format(now="(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"),
)
ROUTES = _in(
    "SELECT a.tenant_id, a.id, u.name, a.scope, a.method, a.path, a.idempotent FROM actions a "
    "JOIN upstreams u ON u.id = a.upstream_id WHERE a.tenant_id IN {list}"
)
UPSTREAMS = _in(
    "SELECT tenant_id, id, name, base_url, credential_header, sealed_credential FROM upstreams "
    "WHERE tenant_id IN {list}"
)

WINDOWS = _rows(
    "SELECT w.delegation_id, w.kind, w.used FROM {rows} JOIN windows w ON w.delegation_id = r.delegation_id "
    "AND w.kind = r.kind AND w.starts_at = r.starts_at",
    delegation_id="text",
    kind="text",
    starts_at="bigint",
)
COUNT = _rows(
    "INSERT INTO windows (delegation_id, kind, starts_at, used) "
    "SELECT delegation_id, kind, starts_at, used FROM {rows} WHERE true "
    "ON CONFLICT (delegation_id, kind, starts_at) DO UPDATE SET used = windows.used + excluded.used",
    delegation_id="text",
    kind="text",
    starts_at="bigint",
    used="bigint",
)

KEYS = _rows(
    "SELECT k.binding_id, k.key_hash, k.fingerprint, k.dispatch_id, k.created_at, k.answer, d.outcome, d.code "
    "FROM {rows} JOIN idempotency_keys k ON k.binding_id = r.binding_id AND k.key_hash = r.key_hash "
    "JOIN dispatches d ON d.id = k.dispatch_id",
    binding_id="text",
    key_hash="text",
)
CLAIM = _rows(
    "INSERT INTO idempotency_keys (binding_id, key_hash, fingerprint, dispatch_id, created_at) "
    "SELECT binding_id, key_hash, fingerprint, dispatch_id, created_at FROM {rows} WHERE true "
    "ON CONFLICT (binding_id, key_hash) DO UPDATE SET fingerprint = excluded.fingerprint, "
    "dispatch_id = excluded.dispatch_id, created_at = excluded.created_at, answer = NULL",
    binding_id="text",
    key_hash="text",
    fingerprint="text",
    dispatch_id="text",
    created_at="bigint",
)
FREE = _rows(
    "DELETE FROM idempotency_keys WHERE (binding_id, key_hash, dispatch_id) IN "
    "(SELECT binding_id, key_hash, dispatch_id FROM {rows})",
    binding_id="text",
    key_hash="text",
    dispatch_id="text",
)
KEEP = _rows(
    "UPDATE idempotency_keys SET answer = r.answer FROM {rows} WHERE idempotency_keys.binding_id = r.binding_id "
    "AND idempotency_keys.key_hash = r.key_hash AND idempotency_keys.dispatch_id = r.dispatch_id",
    binding_id="text",
    key_hash="text",
    dispatch_id="text",
    answer="text",
)

REFUSALS = _rows(
    "SELECT c.binding_id, c.code, c.written FROM {rows} JOIN refusal_counts c ON c.binding_id = r.binding_id "
    "AND c.code = r.code AND c.minute = r.minute",
    binding_id="text",
    code="text",
    minute="bigint",
)
COUNT_REFUSALS = _rows(
    "INSERT INTO refusal_counts (binding_id, code, minute, delegation_id, written, counted) "
    "SELECT binding_id, code, minute, delegation_id, written, counted FROM {rows} WHERE true "
    "ON CONFLICT (binding_id, code, minute) DO UPDATE SET written = refusal_counts.written + excluded.written, "
    "counted = refusal_counts.counted + excluded.counted",
    binding_id="text",
    code="text",
    minute="bigint",
    delegation_id="text",
    written="bigint",
    counted="bigint",
)

_DISPATCH = {
    "id": "text",
    "delegation_id": "text",
    "binding_id": "text",
    "token_id": "text",
    "delegator_id": "text",
    "delegate_id": "text",
    "actor": "text",
    "scope": "text",
    "method": "text",
    "path": "text",
    "upstream_name": "text",
    "outcome": "text",
    "code": "text",
    "terms_version": "bigint",
    "requested_at": "bigint",
    "finished_at": "bigint",
    "request_bytes": "bigint",
    "boot_id": "text",
}
DISPATCH = _rows(
    f"INSERT INTO dispatches ({', '.join(_DISPATCH)}) SELECT {', '.join(_DISPATCH)} FROM {{rows}}",
    **_DISPATCH,
)
#: Finishes what is still PENDING, and tells which that was: only those answers may be released.
FINISH = _rows(
    "UPDATE dispatches SET outcome = r.outcome, code = r.code, finished_at = r.finished_at, "
    "upstream_status = r.upstream_status, response_bytes = r.response_bytes FROM {rows} "
    "WHERE dispatches.id = r.id AND dispatches.outcome = 'PENDING' RETURNING dispatches.id",
    id="text",
    outcome="text",
    code="text",
    finished_at="bigint",
    upstream_status="bigint",
    response_bytes="bigint",
)
TOUCH = _rows(
    "UPDATE tokens SET last_used_at = r.last_used_at FROM {rows} WHERE tokens.id = r.id",
    id="text",
    last_used_at="bigint",
)

_HEADS = "SELECT tenant_id, seq FROM ledger_heads WHERE tenant_id IN {list} ORDER BY tenant_id"
_LOCKED = _in(_HEADS)
HEADS = Statement(_LOCKED.sqlite, f"{_LOCKED.postgres} FOR UPDATE")
_ENTRY = {
    "tenant_id": "text",
    "seq": "bigint",
    "id": "text",
    "pair_id": "text",
    "event": "text",
    "occurred_at": "bigint",
    "delegation_id": "text",
    "dispatch_id": "text",
    "body": "text",
    "leaf_hash": "text",
}
_COLUMNS = ", ".join(_ENTRY)
_APPEND = _rows(f"INSERT INTO ledger ({_COLUMNS}) SELECT {_COLUMNS} FROM {{rows}}", **_ENTRY)
#: Appends numbered entries and moves the heads to the last of them; SQLite needs a second statement for that.
APPEND = Statement(
    _APPEND.sqlite,
    "WITH r AS (SELECT * FROM json_to_recordset($1::json) AS r("
    + ", ".join(f"{name} {kind}" for name, kind in _ENTRY.items())
    + ")), moved AS (UPDATE ledger_heads h SET seq = l.seq "
    "FROM (SELECT tenant_id, max(seq) AS seq FROM r GROUP BY tenant_id) l WHERE h.tenant_id = l.tenant_id) "
    f"INSERT INTO ledger ({_COLUMNS}) SELECT {_COLUMNS} FROM r",
)
ADVANCE = Statement(
    _rows(
        "UPDATE ledger_heads SET seq = r.seq FROM {rows} WHERE ledger_heads.tenant_id = r.tenant_id",
        tenant_id="text",
        seq="bigint",
    ).sqlite,
    None,
)
