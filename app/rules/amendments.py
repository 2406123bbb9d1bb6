"""What an amendment makes of the terms in force.

Limits, expiry, addresses, trust floor, guards and metadata move both ways at once. Scopes shrink at once, and grow only
when the delegate has consented: what would be added stands in a proposal until then.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from app.rules.errors import Code, Refusal
from app.rules.guards import refuse_guards
from app.rules.ids import Instant
from app.rules.limits import refuse, refuse_metadata
from app.rules.scopes import lendable, normal
from app.rules.terms import Constraints

#: What `clear` may name, as the public names have it, and the field that it leaves without a limit.
CLEARABLE = {
    "maxActionsPerHour": "max_actions_per_hour",
    "maxActionsPerDay": "max_actions_per_day",
    "maxActionsPerMonth": "max_actions_per_month",
    "maxCostUnitsPerMonth": "max_cost_units_per_month",
    "ipAllowlist": "ip_allowlist",
    "requireTrustScoreAbove": "require_trust_score_above",
    "maxRequestBytes": "max_request_bytes",
    "condition": "condition",
    "denyPatterns": "deny_patterns",
}
PUBLIC = {**{name: public for public, name in CLEARABLE.items()}, "expires_at": "expiresAt"}

_UNLIMITED: dict[str, Any] = {each.name: each.default for each in fields(Constraints)}


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to change. `limits` are fields of Constraints, `clear` public names of limits to remove."""

    scopes: list[str] | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    clear: Sequence[str] = ()
    metadata: Any = None


class Agreed(NamedTuple):
    """The content of terms."""

    scopes: list[str]
    constraints: Constraints
    metadata: Any


class Amended(NamedTuple):
    """What comes into force at once, and what is proposed beyond it; None where there is no such thing. `changed` are
    public names.
    """

    in_force: Agreed | None
    proposed: Agreed | None
    changed: list[str]


def amend(current: Agreed, held: Iterable[str], changes: Changes, now: Instant) -> Amended | Refusal:
    """Amends terms of an agent that holds these scopes, or says what is wrong with it."""
    wanted = current.scopes if changes.scopes is None else normal(changes.scopes)
    added = sorted(set(wanted) - set(current.scopes))
    constraints = _limited(current.constraints, changes)
    if isinstance(constraints, Refusal):
        return constraints
    metadata = current.metadata if changes.metadata is None else changes.metadata
    if changes.scopes is not None and (refusal := _refuse_scopes(wanted, added, held)):
        return refusal
    if refusal := _refuse(current.constraints, constraints, metadata, now):
        return refusal
    kept = Agreed([scope for scope in current.scopes if scope in wanted], constraints, metadata)
    return Amended(
        kept if kept != current else None,
        Agreed(wanted, constraints, metadata) if added else None,
        _changed(current, Agreed(wanted, constraints, metadata)),
    )


def _limited(current: Constraints, changes: Changes) -> Constraints | Refusal:
    for at, name in enumerate(changes.clear):
        if name not in CLEARABLE:
            message = f"clear[{at}] names no limit that can be removed: give any of {', '.join(CLEARABLE)}"
            return Refusal(Code.INVALID, message, ("clear", str(at)))
        if CLEARABLE[name] in changes.limits:
            message = f"{name} is both given and cleared: do one of both"
            return Refusal(Code.INVALID, message, ("clear", str(at)))
    cleared = {CLEARABLE[name]: _UNLIMITED[CLEARABLE[name]] for name in changes.clear}
    return replace(current, **cleared, **changes.limits)


def _refuse_scopes(wanted: list[str], added: list[str], held: Iterable[str]) -> Refusal | None:
    if wanted and not added:
        return None  # what the agent has lost meanwhile may stay: it allows nothing
    return lendable(added, held)


def refuse_new_guards(changes: Changes) -> Refusal | None:
    """What is wrong with guards that an amendment brings. As `refuse_guards`, which it asks beforehand."""
    limits = changes.limits
    return _flat(refuse_guards(limits.get("deny_patterns", ()), limits.get("condition")))


def _refuse(before: Constraints, after: Constraints, metadata: object, now: Instant) -> Refusal | None:
    refusal = refuse(after, now) or refuse_metadata(metadata)
    if refusal is None:  # each by itself, as it was asked beforehand
        patterns = after.deny_patterns if after.deny_patterns != before.deny_patterns else ()
        condition = after.condition if after.condition != before.condition else None
        refusal = refuse_guards(patterns, condition)
    return _flat(refusal)


def _flat(refusal: Refusal | None) -> Refusal | None:
    """An amendment's input is flat."""
    if refusal is None or not refusal.path or refusal.path[0] != "constraints":
        return refusal
    return replace(refusal, message=refusal.message.removeprefix("constraints."), path=refusal.path[1:])


def _changed(before: Agreed, after: Agreed) -> list[str]:
    limits = [
        public
        for name, public in PUBLIC.items()
        if getattr(before.constraints, name) != getattr(after.constraints, name)
    ]
    others = [name for name in ("scopes", "metadata") if getattr(before, name) != getattr(after, name)]
    return sorted([*limits, *others])
