"""The committer's own statements: fixed driver SQL, because every dispatch pays for them twice.

A batch is a generator that yields statements and is sent their rows, so one algorithm runs on a SQLite thread and on
asyncpg alike. What costs is going back and forth: on SQLite each step of a statement gives the interpreter away, on
PostgreSQL each statement waits for a turn of the event loop. So a statement works on all rows of a batch at once. What
it looks for is a parameter of JSON, and what it finds comes back as one row of JSON. The many rows that every batch
writes are parameters of their own, since parsing JSON would cost as much as writing them.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson

T = TypeVar("T")
Rows = Sequence[Sequence[Any]]
#: Rows to write, by section of WRITE.
Sections = Mapping[str, Rows]


class Statement(NamedTuple):
    """One statement in both dialects."""

    sqlite: str
    postgres: str


class Step(NamedTuple):
    """A statement and its parameters."""

    statement: Statement
    payloads: Sequence[str]


class See(NamedTuple):
    """Locks these delegations, then these tenants' ledgers, each in the order of their ids; then reads by SEE, whose
    parameters the payloads are. What a batch yields before it need not be in its transaction.
    """

    delegations: Sequence[str]
    ledgers: Sequence[str]
    payloads: Sequence[str]


class Write(NamedTuple):
    """Writes all sections: one statement on PostgreSQL, one for each section that has rows on SQLite."""

    sections: Sections


Batch = Generator[Step | See | Write, Rows, T]


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


def over_rows(sql: str, **columns: str) -> Statement:
    """A statement over a list of objects, selected from as {rows}."""
    sqlite, postgres = _objects(1, columns)
    return Statement(sql.format(rows=sqlite), sql.format(rows=postgres))


#: Where tokens and bindings lead, which never changes: read before the lock, to know what to lock.
FIND = _listed(
    "SELECT t.token_hash, t.id, t.binding_id, b.delegation_id, d.delegator_id, d.delegate_id FROM tokens t "
    "JOIN bindings b ON b.id = t.binding_id JOIN delegations d ON d.id = b.delegation_id WHERE t.token_hash {list}"
)
FIND_BINDINGS = _listed(
    "SELECT b.id, b.delegation_id, d.delegator_id, d.delegate_id FROM bindings b "
    "JOIN delegations d ON d.id = b.delegation_id WHERE b.id {list}"
)

# -- reading: one row, a JSON list in each column

_STANDINGS = (
    "SELECT {list}({array}(b.id, b.revoked_at, b.agent_id, d.id, d.status, d.delegator_id, d.delegate_id, "
    "d.offer_expires_at, d.environment, d.terms_version, t.scopes, t.constraints, a.scopes, c.trust_score, "
    "o.routes_revision)) FROM bindings b JOIN agents c ON c.id = b.agent_id "
    "JOIN delegations d ON d.id = b.delegation_id "
    "JOIN terms t ON t.delegation_id = d.id AND t.version = d.terms_version "
    "JOIN agents a ON a.id = d.agent_id JOIN tenants o ON o.id = d.delegator_id WHERE b.id {bindings}"
)
_TOKENS = "SELECT {list}({array}(id, expires_at, rotated_at, last_used_at)) FROM tokens WHERE id {tokens}"
_WINDOWS = (
    "SELECT {list}({array}(w.delegation_id, w.kind, w.starts_at, w.used, w.exhausted_at)) FROM {windows} JOIN windows w "
    "ON w.delegation_id = r.delegation_id AND w.kind = r.kind AND w.starts_at >= r.since"
)
_KEYS = (
    "SELECT {list}({array}(k.binding_id, k.key_hash, k.fingerprint, k.dispatch_id, k.created_at, k.answer, "
    "d.outcome, d.code)) FROM {keys} JOIN idempotency_keys k "
    "ON k.binding_id = r.binding_id AND k.key_hash = r.key_hash JOIN dispatches d ON d.id = k.dispatch_id"
)
_PENDING = "SELECT {list}(id) FROM dispatches WHERE id {dispatches} AND outcome = 'PENDING'"
_HEADS = "SELECT {list}({array}(tenant_id, seq)) FROM ledger_heads WHERE tenant_id {ledgers}"
_SEE = "SELECT {now}, " + ", ".join(
    f"CAST(({query}) AS text)" for query in (_STANDINGS, _TOKENS, _WINDOWS, _KEYS, _PENDING, _HEADS)
)


def _sources(first: int) -> dict[str, tuple[str, str]]:
    """The parameters that these take, in their order."""
    return {
        "bindings": _list(first),
        "tokens": _list(first + 1),
        "dispatches": _list(first + 2),
        "windows": _objects(first + 3, {"delegation_id": "text", "kind": "text", "since": "bigint"}),
        "keys": _objects(first + 4, {"binding_id": "text", "key_hash": "text"}),
        "ledgers": _list(first + 5),
    }


#: What decisions need to know, after the clock in microseconds.
SEE_SQLITE = _SEE.format(
    now="?7",
    list="json_group_array",
    array="json_array",
    **{name: sqlite for name, (sqlite, _) in _sources(1).items()},
)
#: The same, once the locks are held. A function, so that nothing has to come back between locking and reading; and one
#: of several statements, each of which sees what was committed before it began (a single one would see from its start).
#: The ledgers' heads are the last in the order of locks. What is written after them (windows, dispatches) is written
#: under its delegation's lock alone, so nobody who waits for a head holds it.
SEE_FUNCTION = """
CREATE FUNCTION pg_temp.see(text[], text[], text, text, text, text, text, text)
RETURNS TABLE (seen0 bigint, seen1 text, seen2 text, seen3 text, seen4 text, seen5 text, seen6 text)
LANGUAGE plpgsql VOLATILE AS $see$
BEGIN
    PERFORM 1 FROM delegations WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE;
    PERFORM 1 FROM ledger_heads WHERE tenant_id = ANY($2) ORDER BY tenant_id FOR UPDATE;
    RETURN QUERY {see};
END $see$
""".format(
    see=_SEE.format(
        now="(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
        list="json_agg",
        array="json_build_array",
        **{name: postgres for name, (_, postgres) in _sources(3).items()},
    )
)
SEE_POSTGRES = "SELECT * FROM pg_temp.see($1, $2, $3, $4, $5, $6, $7, $8)"

#: The API keys among these that are not revoked, and when they expire.
API_KEYS = _listed("SELECT id, expires_at FROM api_keys WHERE id {list} AND revoked_at IS NULL")
ROUTES = _listed(
    "SELECT a.tenant_id, a.id, u.name, a.scope, a.method, a.path, a.idempotent, a.cost_units, a.request_schema "
    "FROM actions a JOIN upstreams u ON u.id = a.upstream_id WHERE a.tenant_id {list}"
)
UPSTREAMS = _listed(
    "SELECT tenant_id, id, name, base_url, credential_header, sealed_credential, sandbox_base_url, "
    "sandbox_credential_header, sealed_sandbox_credential, guardrail_url FROM upstreams WHERE tenant_id {list}"
)
REFUSALS = over_rows(
    "SELECT c.binding_id, c.code, c.written FROM {rows} JOIN refusal_counts c ON c.binding_id = r.binding_id "
    "AND c.code = r.code AND c.minute = r.minute",
    binding_id="text",
    code="text",
    minute="bigint",
)
