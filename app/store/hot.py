"""The committer's own statements: fixed driver SQL, because every dispatch pays for them twice.

A batch is a generator that yields statements and is sent their rows, so one algorithm runs on a SQLite thread and on
asyncpg alike. What costs is going back and forth: on SQLite each step of a statement gives the interpreter away, on
PostgreSQL each statement waits for a turn of the event loop. So a statement works on all rows of a batch at once,
takes its rows as one parameter, a JSON text, and what is read comes back as one row of JSON.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson

T = TypeVar("T")
Rows = Sequence[Sequence[Any]]
#: Rows to write, by section of WRITE.
Sections = Mapping[str, Sequence[Mapping[str, Any]]]


class Statement(NamedTuple):
    """One statement in both dialects."""

    sqlite: str
    postgres: str


class Step(NamedTuple):
    """A statement and its parameters."""

    statement: Statement
    payloads: Sequence[str]


class Lock(NamedTuple):
    """Locks these delegations, in the order of their ids. What a batch yields before it is outside its transaction."""

    ids: Sequence[str]


class Write(NamedTuple):
    """Writes all sections: one statement on PostgreSQL, one for each section that has rows on SQLite."""

    sections: Sections


Batch = Generator[Step | Lock | Write, Rows, T]


def step(statement: Statement, *values: object) -> Step:
    """A statement over these values, one for each of its parameters."""
    return Step(statement, [as_json(value) for value in values])


def as_json(value: object) -> str:
    """The form of every parameter."""
    return orjson.dumps(value).decode()


def _list(number: int) -> tuple[str, str]:
    """The strings of a parameter, to compare with by `=` in each dialect."""
    return (
        f"IN (SELECT value FROM json_each(?{number}))",
        f"= ANY(ARRAY(SELECT json_array_elements_text(${number}::json)))",
    )


def _objects(number: int, columns: Mapping[str, str]) -> tuple[str, str]:
    """The objects of a parameter, to select from as `r` in each dialect; `columns` are their PostgreSQL types."""
    picked = ", ".join(f"value ->> '{name}' AS {name}" for name in columns)
    typed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return (
        f"(SELECT {picked} FROM json_each(?{number})) AS r",
        f"json_to_recordset(${number}::json) AS r({typed})",
    )


def _listed(sql: str) -> Statement:
    """A statement over a list of strings, compared with as {list}."""
    sqlite, postgres = _list(1)
    return Statement(sql.format(list=sqlite), sql.format(list=postgres))


def _rows(sql: str, **columns: str) -> Statement:
    """A statement over a list of objects, selected from as {rows}."""
    sqlite, postgres = _objects(1, columns)
    return Statement(sql.format(rows=sqlite), sql.format(rows=postgres))


#: Where tokens and bindings lead, which never changes: read before the lock, to know what to lock.
FIND = _listed(
    "SELECT t.token_hash, t.id, t.binding_id, b.delegation_id FROM tokens t "
    "JOIN bindings b ON b.id = t.binding_id WHERE t.token_hash {list}"
)
FIND_BINDINGS = _listed("SELECT id, delegation_id FROM bindings WHERE id {list}")

LOCK = "BEGIN; SELECT id FROM delegations WHERE id = ANY('{{{ids}}}'::text[]) ORDER BY id FOR NO KEY UPDATE"

# -- reading: one row, a JSON list in each column

_STANDINGS = (
    "SELECT {list}({array}(b.id, b.revoked_at, b.agent_id, d.id, d.status, d.delegator_id, d.delegate_id, "
    "d.offer_expires_at, d.terms_version, t.scopes, t.constraints, a.scopes, o.routes_revision)) FROM bindings b "
    "JOIN delegations d ON d.id = b.delegation_id "
    "JOIN terms t ON t.delegation_id = d.id AND t.version = d.terms_version "
    "JOIN agents a ON a.id = d.agent_id JOIN tenants o ON o.id = d.delegator_id WHERE b.id {bindings}"
)
_TOKENS = "SELECT {list}({array}(id, expires_at, rotated_at, last_used_at)) FROM tokens WHERE id {tokens}"
_WINDOWS = (
    "SELECT {list}({array}(w.delegation_id, w.kind, w.starts_at, w.used)) FROM {windows} JOIN windows w "
    "ON w.delegation_id = r.delegation_id AND w.kind = r.kind AND w.starts_at >= r.since"
)
_KEYS = (
    "SELECT {list}({array}(k.binding_id, k.key_hash, k.fingerprint, k.dispatch_id, k.created_at, k.answer, "
    "d.outcome, d.code)) FROM {keys} JOIN idempotency_keys k "
    "ON k.binding_id = r.binding_id AND k.key_hash = r.key_hash JOIN dispatches d ON d.id = k.dispatch_id"
)
_PENDING = "SELECT {list}(id) FROM dispatches WHERE id {dispatches} AND outcome = 'PENDING'"
_SEE = "SELECT {now}, " + ", ".join(
    f"CAST(({query}) AS text)" for query in (_STANDINGS, _TOKENS, _WINDOWS, _KEYS, _PENDING)
)

_SOURCES = {
    "bindings": _list(1),
    "tokens": _list(2),
    "dispatches": _list(3),
    "windows": _objects(4, {"delegation_id": "text", "kind": "text", "since": "bigint"}),
    "keys": _objects(5, {"binding_id": "text", "key_hash": "text"}),
}
#: The database's clock in microseconds, and what decisions need to know. It starts when the locks are held, so the
#: clock and the rows are read after them. Takes the lists of `_SOURCES`.
SEE = Statement(
    _SEE.format(
        now="crossgrant_now()",
        list="json_group_array",
        array="json_array",
        **{name: sqlite for name, (sqlite, _) in _SOURCES.items()},
    ),
    _SEE.format(
        now="(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
        list="json_agg",
        array="json_build_array",
        **{name: postgres for name, (_, postgres) in _SOURCES.items()},
    ),
)
ROUTES = _listed(
    "SELECT a.tenant_id, a.id, u.name, a.scope, a.method, a.path, a.idempotent FROM actions a "
    "JOIN upstreams u ON u.id = a.upstream_id WHERE a.tenant_id {list}"
)
UPSTREAMS = _listed(
    "SELECT tenant_id, id, name, base_url, credential_header, sealed_credential FROM upstreams "
    "WHERE tenant_id {list}"
)
REFUSALS = _rows(
    "SELECT c.binding_id, c.code, c.written FROM {rows} JOIN refusal_counts c ON c.binding_id = r.binding_id "
    "AND c.code = r.code AND c.minute = r.minute",
    binding_id="text",
    code="text",
    minute="bigint",
)
_HEADS = _listed("SELECT tenant_id, seq FROM ledger_heads WHERE tenant_id {list} ORDER BY tenant_id")
HEADS = Statement(_HEADS.sqlite, f"{_HEADS.postgres} FOR UPDATE")

# -- writing: what every batch writes, in sections of one statement

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
_SECTIONS: dict[str, tuple[dict[str, str], str]] = {
    "dispatches": (
        _DISPATCH,
        f"INSERT INTO dispatches ({', '.join(_DISPATCH)}) SELECT {', '.join(_DISPATCH)} FROM {{rows}}",
    ),
    "windows": (
        {"delegation_id": "text", "kind": "text", "starts_at": "bigint", "used": "bigint"},
        (
            "INSERT INTO windows (delegation_id, kind, starts_at, used) "
            "SELECT delegation_id, kind, starts_at, used FROM {rows} WHERE true "
            "ON CONFLICT (delegation_id, kind, starts_at) DO UPDATE SET used = windows.used + excluded.used"
        ),
    ),
    "finished": (
        {
            "id": "text",
            "outcome": "text",
            "code": "text",
            "finished_at": "bigint",
            "upstream_status": "bigint",
            "response_bytes": "bigint",
        },
        (
            "UPDATE dispatches SET outcome = r.outcome, code = r.code, finished_at = r.finished_at, "
            "upstream_status = r.upstream_status, response_bytes = r.response_bytes FROM {rows} "
            "WHERE dispatches.id = r.id"
        ),
    ),
    "entries": (
        _ENTRY,
        f"INSERT INTO ledger ({', '.join(_ENTRY)}) SELECT {', '.join(_ENTRY)} FROM {{rows}}",
    ),
    "heads": (
        {"tenant_id": "text", "seq": "bigint"},
        "UPDATE ledger_heads SET seq = r.seq FROM {rows} WHERE ledger_heads.tenant_id = r.tenant_id",
    ),
}
SECTIONS = tuple(_SECTIONS)
WRITE_SQLITE = {name: sql.format(rows=_objects(1, columns)[0]) for name, (columns, sql) in _SECTIONS.items()}
#: Takes the sections in their order.
WRITE_POSTGRES = (
    "WITH "
    + ", ".join(
        f"{name}_written AS ({sql.format(rows=_objects(number, columns)[1])})"
        for number, (name, (columns, sql)) in enumerate(_SECTIONS.items(), 1)
    )
    + " SELECT 1"
)

# -- writing: what only some batches write

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
TOUCH = _rows(
    "UPDATE tokens SET last_used_at = r.last_used_at FROM {rows} WHERE tokens.id = r.id",
    id="text",
    last_used_at="bigint",
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
