"""What the lifecycle's steps are drawn from, and how the product is asked for what the model calls by other names."""

from itertools import combinations
from typing import Any

from hypothesis import strategies as some

from app.delegations.bindings import Issued
from app.egress.outcomes import Outcome as Sent
from app.proxy.attempts import Aborted, Barred
from app.rules.amendments import Changes
from app.rules.errors import Code
from tests.flows.lifecycle_model import Deal
from tests.flows.lifecycle_parts import Change, Paper, Place, Token
from tests.flows.lifecycle_stage import ACTORS, CAN, UNHELD
from tests.flows.lifecycle_usage import DAY, HOUR, KINDS, SECOND
from tests.flows.nodes import ANSWERED, NOT_SENT, REJECTED, TIMED_OUT

LIVES = (100 * DAY, 40 * DAY, 2 * DAY, 2 * HOUR)
#: None: until a delegation expires.
JUMPS = (HOUR, HOUR, 5 * HOUR, 25 * HOUR, 8 * DAY, 31 * DAY, None)
SCORES = (0, 40, 41, 60, 61)
SENT: dict[str, Sent | Aborted | Barred] = {
    "answered": ANSWERED,
    "not sent": NOT_SENT,
    "too large": REJECTED,
    "timed out": TIMED_OUT,
    "hung up": Aborted(),
    "barred": Barred(Code.GUARDRAIL_DENIED),
}
#: A cap's name in Constraints, and its public one.
CAPS = {
    "HOUR": ("max_actions_per_hour", "maxActionsPerHour"),
    "DAY": ("max_actions_per_day", "maxActionsPerDay"),
    "MONTH": ("max_actions_per_month", "maxActionsPerMonth"),
    "COST_MONTH": ("max_cost_units_per_month", "maxCostUnitsPerMonth"),
}

indexes = some.integers(0, 5)
actors = some.sampled_from((ACTORS[0], *ACTORS))
rarely = some.sampled_from((False, False, False, True))
caps = some.integers(1, 5)
papers = some.builds(
    Paper,
    version=some.just(1),
    scopes=some.frozensets(some.sampled_from(sorted(CAN)), min_size=1, max_size=2),
    until=some.sampled_from(LIVES),  # from the offer on
    caps=some.dictionaries(some.sampled_from(KINDS), caps, min_size=1),
    floor=some.sampled_from((None, None, None, 40, 60)),
)
other_scopes = some.sampled_from(
    [frozenset(each) for size in (3, 2, 1) for each in combinations(CAN, size)] + [frozenset({*CAN, UNHELD})]
)
other_limits: dict[str, Any] = {
    "caps": some.dictionaries(some.sampled_from(KINDS), some.none() | caps, max_size=2),
    "floor": some.sampled_from((None, -1, 0, 40, 60)),
    "until": some.none() | some.sampled_from((*LIVES, -SECOND)),  # from now on
}
limits = some.builds(Change, **other_limits)
scopes = some.builds(Change, scopes=other_scopes) | some.builds(Change, scopes=other_scopes, **other_limits)
stale = some.sampled_from((0, 0, 0, 0, 0, 0, 1, -1))
hashes = some.sampled_from(("proposed", "in force", "discarded", "made up"))


def changes(change: Change) -> Changes:
    """An amendment as the product is asked for it."""
    given: dict[str, Any] = {CAPS[kind][0]: cap for kind, cap in change.caps.items() if cap is not None}
    clear = [CAPS[kind][1] for kind, cap in change.caps.items() if cap is None]
    if change.floor is not None and change.floor >= 0:
        given["require_trust_score_above"] = change.floor
    elif change.floor is not None:
        clear.append("requireTrustScoreAbove")
    if change.until is not None:
        given["expires_at"] = change.until
    return Changes(None if change.scopes is None else sorted(change.scopes), given, clear)


def place(deal: Deal, actor: str, issued: Issued | None) -> Place:
    """The binding that the product has made; any where it has made none."""
    return Place(issued.binding.id, actor, [token(deal, issued)]) if issued else Place("", actor, [])


def token(deal: Deal, issued: Issued) -> Token:
    """The token that the product has issued."""
    prefix = "cgt_test_" if deal.sandbox else "cgt_live_"
    assert issued.minted.text.startswith(prefix), "its prefix says where it leads"
    return Token(issued.minted.text, issued.token.created_at)
