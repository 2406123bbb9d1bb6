"""What the committer's batches write: see `hot` for how.

What every batch writes are sections of one statement on PostgreSQL, and a statement each on SQLite.
"""

from collections.abc import Sequence
from functools import cache
from itertools import chain, count
from typing import Any, NamedTuple

from app.rules.ids import (
    BindingId,
    BootId,
    DelegationId,
    DispatchId,
    EntryId,
    Instant,
    PairId,
    TenantId,
    TokenId,
)
from app.store.hot import Rows, Sections, as_json, over_rows


class NewDispatch(NamedTuple):
    """A dispatch as it is admitted or refused."""

    id: DispatchId
    delegation_id: DelegationId
    binding_id: BindingId
    token_id: TokenId | None
    delegator_id: TenantId
    delegate_id: TenantId
    actor: str | None
    scope: str | None
    method: str
    path: str
    upstream_name: str
    outcome: str
    code: str | None
    terms_version: int
    requested_at: Instant
    finished_at: Instant | None
    request_bytes: int
    cost_units: int
    boot_id: BootId


class Usage(NamedTuple):
    """What is added to a window; `exhausted_at` where both ledgers are told that it is."""

    delegation_id: DelegationId
    kind: str
    starts_at: Instant
    used: int
    exhausted_at: Instant | None


class Finished(NamedTuple):
    """How a dispatch ended."""

    id: DispatchId
    outcome: str
    code: str | None
    finished_at: Instant
    upstream_status: int | None
    response_bytes: int | None


class NewEntry(NamedTuple):
    """An entry of one ledger."""

    tenant_id: TenantId
    seq: int
    id: EntryId
    pair_id: PairId
    event: str
    occurred_at: Instant
    delegation_id: DelegationId | None
    dispatch_id: DispatchId | None
    body: str
    leaf_hash: str


class Head(NamedTuple):
    """How far a ledger has come."""

    tenant_id: TenantId
    seq: int


#: Each section's columns, and what is done with its rows.
_SECTIONS: dict[str, tuple[Sequence[str], str]] = {
    "dispatches": (
        NewDispatch._fields,
        f"INSERT INTO dispatches ({', '.join(NewDispatch._fields)}) SELECT * FROM {{rows}}",
    ),
    "windows": (
        Usage._fields,
        (
            f"INSERT INTO windows ({', '.join(Usage._fields)}) SELECT * FROM {{rows}} WHERE true "
            "ON CONFLICT (delegation_id, kind, starts_at) DO UPDATE SET used = windows.used + excluded.used, "
            "exhausted_at = coalesce(windows.exhausted_at, excluded.exhausted_at)"
        ),
    ),
    "finished": (
        Finished._fields,
        (
            "UPDATE dispatches SET outcome = r.outcome, code = r.code, finished_at = r.finished_at, "
            "upstream_status = r.upstream_status, response_bytes = r.response_bytes FROM {rows} "
            "WHERE dispatches.id = r.id"
        ),
    ),
    "entries": (
        NewEntry._fields,
        f"INSERT INTO ledger ({', '.join(NewEntry._fields)}) SELECT * FROM {{rows}}",
    ),
    "heads": (
        Head._fields,
        "UPDATE ledger_heads SET seq = r.seq FROM {rows} WHERE ledger_heads.tenant_id = r.tenant_id",
    ),
}
#: The columns that are numbers; the others are text.
_NUMBERS = frozenset(
    {
        *("terms_version", "requested_at", "finished_at", "request_bytes", "cost_units", "starts_at", "used"),
        "exhausted_at",
        *("upstream_status", "response_bytes", "seq", "occurred_at"),
    }
)
_ROUND = 8  # rows: SQLite prepares one statement for each multiple of this


def write_sqlite(section: str, rows: Rows) -> tuple[str, list[Any]]:
    """The statement that writes these rows of a section, and its parameters."""
    columns, _ = _SECTIONS[section]
    size = -(-len(rows) // _ROUND) * _ROUND
    padding = [None] * (len(columns) * (size - len(rows)))
    return _sqlite(section, size), [*chain.from_iterable(rows), *padding, len(rows)]


@cache  # as many as there are sizes of batches
def _sqlite(section: str, size: int) -> str:
    columns, sql = _SECTIONS[section]
    named = ", ".join(f"column{number} AS {name}" for number, name in enumerate(columns, 1))
    row = f"({', '.join('?' * len(columns))})"
    return sql.format(rows=f"(SELECT {named} FROM (VALUES {', '.join([row] * size)}) LIMIT ?) AS r")


def _postgres() -> str:
    numbers = count(1)
    written = []
    for name, (columns, sql) in _SECTIONS.items():
        lists = ", ".join(f"json_array_elements_text(${next(numbers)}::json)" for _ in columns)
        typed = ", ".join(f"{each}::bigint" if each in _NUMBERS else each for each in columns)
        rows = f"(SELECT {typed} FROM ROWS FROM ({lists}) AS t({', '.join(columns)})) AS r"
        written.append(f"{name}_written AS ({sql.format(rows=rows)})")
    return f"WITH {', '.join(written)} SELECT 1"


#: Takes each section's columns, in their order: a JSON list for each, which costs asyncpg half of what arrays do.
WRITE_POSTGRES = _postgres()


def write_postgres(sections: Sections) -> list[str]:
    """The parameters of WRITE_POSTGRES."""
    return [
        as_json(column)
        for name, (columns, _) in _SECTIONS.items()
        for column in (zip(*sections[name], strict=True) if sections.get(name) else [()] * len(columns))
    ]


# -- what only some batches write

CLAIM = over_rows(
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
FREE = over_rows(
    "DELETE FROM idempotency_keys WHERE (binding_id, key_hash, dispatch_id) IN "
    "(SELECT binding_id, key_hash, dispatch_id FROM {rows})",
    binding_id="text",
    key_hash="text",
    dispatch_id="text",
)
KEEP = over_rows(
    "UPDATE idempotency_keys SET answer = r.answer FROM {rows} WHERE idempotency_keys.binding_id = r.binding_id "
    "AND idempotency_keys.key_hash = r.key_hash AND idempotency_keys.dispatch_id = r.dispatch_id",
    binding_id="text",
    key_hash="text",
    dispatch_id="text",
    answer="text",
)
TOUCH = over_rows(
    "UPDATE tokens SET last_used_at = r.last_used_at FROM {rows} WHERE tokens.id = r.id",
    id="text",
    last_used_at="bigint",
)
COUNT_REFUSALS = over_rows(
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
