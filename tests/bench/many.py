"""Delegations by the hundred thousand, straight into PostgreSQL: copies of one that went through the product's flows.

Each lends an agent of its own to one of a hundred tenants, and has a binding, entries in both ledgers, and windows,
current and past. What belongs to whom lies between what belongs to others, as time would have it.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import text

from app.rules.ids import HOUR, DelegationId, Instant, TenantId
from app.rules.windows import WindowKind, windows_at
from app.store.engine import Tx
from tests.bench.lending import Lending

_PAST = 6  # hours of which each has windows, beside the current ones

#: An id by its number; each block has ids of its own.
_IDS = """
CREATE FUNCTION pg_temp.id(kind text, number bigint, block bigint DEFAULT 0) RETURNS text IMMUTABLE RETURN
kind || '_00000000-0000-7000-' || lpad(to_hex(block), 4, '0') || '-' || lpad(to_hex(number), 12, '0')
"""
#: 1 to 100 are lent to, 101 to 200 lend.
_TENANTS = """
INSERT INTO tenants (id, slug, name, plan, created_at, routes_revision)
SELECT pg_temp.id('ten', n), 'tenant-' || n, 'Tenant ' || n, plan, created_at, 0
FROM tenants, generate_series(1, 200) n WHERE id = :acme
"""
_NEW_HEADS = "INSERT INTO ledger_heads SELECT pg_temp.id('ten', n), 0 FROM generate_series(1, 200) n"
_ACTORS = """
INSERT INTO agents (id, tenant_id, name, description, scopes, tags, created_at)
SELECT pg_temp.id('agt', n, 1), pg_temp.id('ten', n), 'actor', '', '[]', '[]', created_at
FROM agents, generate_series(1, 100) n WHERE id = :lent
"""
#: Of 120 delegations 1 is the first tenant's and 100 the second's, unless all are the first one's.
_MADE = """
CREATE TEMPORARY TABLE made ON COMMIT DROP AS
SELECT n, pg_temp.id('dlg', n) AS id, pg_temp.id('agt', n) AS agent_id,
pg_temp.id('ten', to_) AS delegate_id, pg_temp.id('agt', to_, 1) AS actor_id,
CASE WHEN :alone OR n % 120 = 5 THEN CAST(:acme AS text)
WHEN n % 6 = 5 THEN pg_temp.id('ten', 100 + to_) ELSE CAST(:initech AS text) END AS delegator_id
FROM generate_series(1, CAST(:most AS integer)) n, LATERAL (SELECT 1 + n * 7919 % 10007 % 100) AS by_chance(to_)
"""
_AGENTS = """
INSERT INTO agents (id, tenant_id, name, description, scopes, tags, created_at)
SELECT m.agent_id, m.delegator_id, 'agent ' || m.n, description, scopes, tags, created_at
FROM made m, agents WHERE agents.id = :lent
"""
_DELEGATIONS = """
INSERT INTO delegations (id, delegator_id, delegate_id, agent_id, status, acceptance, environment, offer_hash,
terms_version, expires_at, offered_at, offer_expires_at, accepted_at)
SELECT m.id, m.delegator_id, m.delegate_id, m.agent_id, status, acceptance, environment, m.id,
terms_version, expires_at, offered_at, offer_expires_at, accepted_at
FROM made m, delegations d WHERE d.id = :copied
"""
_TERMS = """
INSERT INTO terms (delegation_id, version, scopes, constraints, metadata, hash, created_at, in_force_at)
SELECT m.id, version, scopes, constraints, metadata, hash, created_at, in_force_at
FROM made m, terms WHERE delegation_id = :copied
"""
_BINDINGS = """
INSERT INTO bindings (id, delegation_id, agent_id, created_at)
SELECT pg_temp.id('bnd', m.n), m.id, m.actor_id, accepted_at FROM made m, delegations d WHERE d.id = :copied
"""
_WINDOW = """
INSERT INTO windows (delegation_id, kind, starts_at, used)
SELECT id, CAST(:kind AS text), CAST(:starts_at AS bigint), n % 1000 FROM made
"""
#: The first entries of all come before the second ones: those of one delegation are far apart.
_ENTRIES = """
WITH told AS (SELECT row_number() OVER () AS k, e.* FROM (VALUES {told}) AS v(event)
JOIN ledger e ON e.event = v.event AND e.tenant_id = :side AND e.delegation_id = :copied),
placed AS (SELECT m.{side} AS tenant_id, m.id, k, m.n * 8 + k AS number,
row_number() OVER (PARTITION BY m.{side} ORDER BY k, m.n) AS nth FROM made m CROSS JOIN (SELECT k FROM told) ks)
INSERT INTO ledger (tenant_id, seq, id, pair_id, event, occurred_at, delegation_id, body, leaf_hash)
SELECT p.tenant_id, h.seq + nth, pg_temp.id('aud', number, {block}), pg_temp.id('par', number, {block}), event,
occurred_at, p.id, replace(body, :copied, p.id), leaf_hash
FROM placed p JOIN told USING (k) JOIN ledger_heads h ON h.tenant_id = p.tenant_id
"""
_LENDER = {
    "side": "delegator_id",
    "told": "('delegation.offered'), ('delegation.accepted'), ('binding.created'), ('binding.created')",
    "block": 0,
}
_BORROWER = {"side": "delegate_id", "told": "('delegation.accepted')", "block": 1}
_HEADS = """
UPDATE ledger_heads h SET seq = (SELECT coalesce(max(seq), 0) FROM ledger WHERE tenant_id = h.tenant_id)
"""


#: Copies of what is right point to what is there: no need to look at each.
_TRUST = "SET LOCAL session_replication_role = replica"


def fill(tx: Tx, lending: Lending, initech: TenantId, most: int, *, alone: bool) -> None:
    """Makes so many, and has PostgreSQL look at what is there then."""
    for statement, given in _statements(tx.now(), lending, initech, most, alone):
        tx.execute(text(statement), given)
    tx.execute(text("ANALYZE"))


def _statements(
    now: Instant, lending: Lending, initech: TenantId, most: int, alone: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    acme, lent, copied = {"acme": lending.acme.id}, {"lent": lending.acme.agent_id}, lending.governed.id
    yield _TRUST, {}
    yield _IDS, {}
    yield _TENANTS, acme
    yield _NEW_HEADS, {}
    yield _ACTORS, lent
    yield _MADE, {**acme, "initech": initech, "most": most, "alone": alone}
    yield _AGENTS, lent
    for statement in (_DELEGATIONS, _TERMS, _BINDINGS):
        yield statement, {"copied": copied}
    for kind, starts_at in _windows(now):
        yield _WINDOW, {"kind": kind, "starts_at": starts_at}
    yield _ENTRIES.format(**_LENDER), {"side": lending.acme.id, "copied": copied}
    yield _ENTRIES.format(**_BORROWER), {"side": lending.globex.id, "copied": copied}
    yield _HEADS, {}


def _windows(now: Instant) -> Iterator[tuple[str, Instant]]:
    current = windows_at(now)
    yield from ((each.kind.value, each.start) for each in current)
    for ago in range(1, _PAST + 1):
        yield WindowKind.HOUR.value, Instant(current[0].start - ago * HOUR)


def delegation_id(number: int) -> DelegationId:
    """The id of one of them, from 1."""
    return DelegationId(f"dlg_00000000-0000-7000-0000-{number:012x}")
