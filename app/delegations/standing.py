"""What a decision sees of a binding, read outside of a batch: to explain one, and to find out what may not go on."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import orjson
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import aliased

from app.delegations.read import in_force
from app.rules.admission import Evidence
from app.rules.ids import BindingId
from app.rules.terms import Terms
from app.store.engine import Tx
from app.store.tables import Agent, Binding, Delegation, TermsVersion

_Actor = aliased(Agent)


class Stands(NamedTuple):
    """A binding with its delegation, and the evidence of a decision about it."""

    binding: Binding
    delegation: Delegation
    evidence: Evidence


def standings(tx: Tx, *which: ColumnElement[bool]) -> dict[BindingId, Stands]:
    """The bindings of which this is true, in the order of their ids; as if an API key asked for them."""
    rows = (
        select(Binding, Delegation, TermsVersion, Agent.scopes, _Actor.trust_score)
        .join(Delegation, Binding.delegation_id == Delegation.id)
        .join(TermsVersion, in_force())
        .join(Agent, Delegation.agent_id == Agent.id)
        .join(_Actor, Binding.agent_id == _Actor.id)
        .where(*which)
        .order_by(Binding.id)
    )
    return {
        binding.id: Stands(binding, delegation, evidence(delegation, binding, terms_of(terms), scopes, trust))
        for binding, delegation, terms, scopes, trust in tx.execute(rows)
    }


def evidence(
    delegation: Delegation,
    binding: Binding | None,
    terms: Terms,
    agent_scopes: Sequence[str],
    trust_score: int | None,
) -> Evidence:
    """The evidence of these rows. No binding is as good as one that has ended."""
    return Evidence(
        delegation.id,
        delegation.delegate_id,
        delegation.status,
        delegation.offer_expires_at,
        delegation.environment == "SANDBOX",
        terms,
        frozenset(agent_scopes),
        binding is None or binding.revoked_at is not None,
        trust_score,
        None,
    )


def terms_of(row: TermsVersion) -> Terms:
    """One version of the terms, as decisions read it."""
    return _terms(row.version, tuple(row.scopes), orjson.dumps(row.constraints))


# Parsing what was read, not remembering what was decided; a page shows many bindings of one delegation.
@lru_cache(maxsize=1024)
def _terms(version: int, scopes: tuple[str, ...], constraints: bytes) -> Terms:
    return Terms.of(version, scopes, orjson.loads(constraints))
