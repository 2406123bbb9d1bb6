"""What is promised of delegations, as a small model: read from DESIGN, and knowing nothing of the product.

Instants are microseconds since 1970 and handed in, codes and events go by their names. Each method is one step: it
says with which code the product must refuse it, None where it must not, and moves the model only then.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.flows.lifecycle_parts import Can, Change, Paper, Place, Token, Use
from tests.flows.lifecycle_usage import DAY, SECOND, Usage

TOKEN_LIVES = 30 * DAY
TOLD_A_MINUTE = 60  # refusals of one binding and code

NOT_ACTIVE = {
    "SUSPENDED": "DELEGATION_SUSPENDED",
    "REVOKED": "DELEGATION_REVOKED",
    "EXPIRED": "DELEGATION_EXPIRED",
}

Scores = Mapping[str, int | None]


@dataclass(eq=False)
class Deal:
    """A delegation. `state` is what somebody has recorded of it; `status` what is true by the clock."""

    id: str
    can: Mapping[str, Can]  # all that the lent agent holds
    terms: Paper
    offer_until: int
    sandbox: bool
    addressed: bool
    state: str = "PENDING"
    proposal: Paper | None = None
    places: list[Place] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    #: Refusals by binding, code and minute.
    denials: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    #: How dispatches ended, and the events in each side's ledger.
    ended: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    delegator: Counter[str] = field(default_factory=Counter)
    delegate: Counter[str] = field(default_factory=Counter)

    def status(self, at: int) -> str:
        if self.state == "PENDING" and at >= min(self.offer_until, self.terms.until):
            return "LAPSED"
        if self.state in ("ACTIVE", "SUSPENDED") and at >= self.terms.until:
            return "EXPIRED"
        return self.state

    def is_known(self) -> bool:
        """Whether its delegate can see it: one offered by TOKEN only once the token is used."""
        return self.addressed or self.state == "DECLINED" or "delegation.accepted" in self.delegate

    def counts_for_plan(self, at: int) -> bool:
        return self.status(at) in ("PENDING", "ACTIVE", "SUSPENDED")

    def tell(self, *events: str, delegate: bool = True) -> None:
        self.delegator.update(events)
        self.delegate.update(events if delegate else ())

    # -- the agreement

    def offered(self) -> None:
        self.tell("delegation.offered", delegate=self.addressed)

    def accept(self, at: int, place: Place) -> str | None:
        if self.status(at) != "PENDING":
            return "OFFER_NOT_ACCEPTABLE"
        self.state = "ACTIVE"
        self.tell("delegation.accepted")
        self._bound(place)
        return None

    def decline(self, at: int) -> str | None:
        if self.status(at) != "PENDING":
            return "OFFER_NOT_ACCEPTABLE"
        self._end("DECLINED")
        self.tell("delegation.declined")
        return None

    def suspend(self, at: int) -> str | None:
        return self._turn(at, "ACTIVE", "SUSPENDED", "delegation.suspended")

    def resume(self, at: int) -> str | None:
        return self._turn(at, "SUSPENDED", "ACTIVE", "delegation.resumed")

    def _turn(self, at: int, before: str, after: str, event: str) -> str | None:
        if self.status(at) != before:
            return "WRONG_STATE"
        self.state = after
        self.tell(event)
        return None

    def revoke(self, at: int, *, by_delegate: bool) -> str | None:
        if by_delegate and not self.is_known():
            return "NOT_FOUND"
        if self.state == "REVOKED":
            return None
        if self.status(at) not in (
            ("ACTIVE", "SUSPENDED") if by_delegate else ("PENDING", "ACTIVE", "SUSPENDED")
        ):
            return "WRONG_STATE"
        self._end("REVOKED")
        self.tell("delegation.revoked", delegate=self.is_known())
        return None

    def in_flight(self) -> int:
        return sum(use.open for use in self.uses)

    def sweep(self, at: int) -> None:
        """Records what the clock has done."""
        if (status := self.status(at)) != self.state:
            offered = self.state == "PENDING"
            self._end(status)
            self.tell(f"delegation.{status.lower()}", delegate=self.addressed or not offered)

    def _end(self, state: str) -> None:
        self.state = state
        for place in self.places:
            place.ended = True

    # -- its terms

    def amend(self, at: int, version: int, change: Change) -> str | None:
        if self.status(at) not in ("ACTIVE", "SUSPENDED"):
            return "WRONG_STATE"
        if version != self.terms.version:
            return "VERSION_CONFLICT"
        wanted = change.of(self.terms)
        added = wanted.scopes - self.terms.scopes
        if added - set(self.can):
            return "SCOPE_NOT_HELD"
        if wanted.until <= at:
            return "EXPIRY_INVALID"
        at_once = replace(wanted, scopes=self.terms.scopes & wanted.scopes)
        if at_once == self.terms and not added and self.proposal is None:
            return "INVALID"
        if at_once != self.terms:
            self._enforce(at, replace(at_once, version=self.terms.version + 1))
        self.proposal = replace(wanted, version=self.terms.version + 1) if added else None
        self.tell("delegation.amended")
        return None

    def acknowledge(self, at: int, which: str) -> str | None:
        """`which` terms are acknowledged: the proposed, those in force, or any others."""
        if not self.is_known():
            return "NOT_FOUND"
        if self.status(at) not in ("ACTIVE", "SUSPENDED"):
            return "WRONG_STATE"
        if which == "in force" and self.proposal is None:
            return None  # a repeat
        if which != "proposed" or self.proposal is None:
            return "TERMS_CHANGED"
        self._enforce(at, self.proposal)
        self.proposal = None
        self.tell("delegation.terms_acknowledged")
        return None

    def _enforce(self, at: int, terms: Paper) -> None:
        self.terms = terms
        for place in self.places:
            if not place.ended:
                self._live(*(token for token in place.tokens if token.opens(at)))

    def _live(self, *tokens: Token) -> None:
        """As long as a token may, never past its delegation, and not when another has taken its place."""
        for token in tokens:
            token.until = min(token.made + TOKEN_LIVES, self.terms.until, token.replaced or self.terms.until)

    # -- who acts under it

    def bind(self, at: int, place: Place) -> str | None:
        if not self.is_known():
            return "NOT_FOUND"
        if self.status(at) != "ACTIVE":
            return "WRONG_STATE"
        self._bound(place)
        return None

    def _bound(self, place: Place) -> None:
        self.places.append(place)
        self._live(*place.tokens)
        self.tell("binding.created")
        self.delegate["token.issued"] += 1

    def revoke_binding(self, place: Place) -> str | None:
        if not place.ended:
            place.ended = True
            self.tell("binding.revoked")
        return None

    def rotate(self, at: int, place: Place, token: Token, overlap: int) -> str | None:
        if self.status(at) != "ACTIVE" or place.ended:
            return "WRONG_STATE"
        for old in place.tokens:
            if old.opens(at):
                old.replaced = min(at + overlap, old.replaced or at + overlap)
                old.until = min(old.until, old.replaced)
        place.tokens.append(token)
        self._live(token)
        self.delegate["token.rotated"] += 1
        return None

    def open_tokens(self, at: int) -> set[str]:
        living = [place for place in self.places if not place.ended]
        return {token.text for place in living for token in place.tokens if token.opens(at)}

    def trust_moves(self, actor: str, before: int | None, after: int) -> None:
        """Both ledgers hear of each binding that may act no more, or again."""
        was, trusted = self.terms.trusts(before), self.terms.trusts(after)
        for place in self.places:
            if place.actor == actor and not place.ended and was != trusted:
                self.tell("binding.trust_regained" if trusted else "binding.trust_lost")

    # -- what is done under it

    def judge(self, place: Place, token: Token, scope: str, at: int, scores: Scores) -> str | None:
        """Why an action is not admitted: the first check that fails, in the documented order."""
        return self.ended_right(place, token, scope, at, scores) or self.usage.beyond(
            self.terms.caps, self.can[scope].cost, at
        )

    def ended_right(self, place: Place, token: Token, scope: str, at: int, scores: Scores) -> str | None:
        """The same without caps: why an answer is withheld."""
        checks = (
            ("TOKEN_INVALID", token.is_replaced(at)),
            (NOT_ACTIVE.get(self.status(at), "?"), self.status(at) != "ACTIVE"),
            ("BINDING_REVOKED", place.ended),
            ("TOKEN_INVALID", token.until <= at),
            ("TRUST_TOO_LOW", not self.terms.trusts(scores[place.actor])),
            ("ACTION_NOT_FOUND", scope not in self.terms.scopes or scope not in self.can),
            ("NO_SANDBOX", self.sandbox and scope in self.can and not self.can[scope].in_sandbox),
        )
        return next((code for code, wrong in checks if wrong), None)

    def admitted(self, place: Place, token: Token, scope: str, at: int) -> Use:
        spent, exhausted = self.usage.admit(self.terms.caps, self.can[scope].cost, at)
        self.tell(*["delegation.quota_exhausted"] * exhausted)
        use = Use(place, token, scope, spent)
        self.uses.append(use)
        return use

    def refused(self, place: Place, code: str, at: int) -> None:
        self.tell(*["delegation.quota_exhausted"] * self.usage.refuse(code, at))
        minute = (place.id, code, at // (60 * SECOND))
        self.denials[minute] += 1
        if self.denials[minute] <= TOLD_A_MINUTE:
            self._finish("REFUSED", code)

    def complete(self, use: Use, sent: str, at: int, scores: Scores) -> tuple[str, str | None]:
        """How a dispatch ends of which this came: its outcome and code."""
        ended = self.ended_right(use.place, use.token, use.scope, at, scores)
        outcome, code = {
            "answered": ("WITHHELD" if ended else "COMPLETED", ended),
            "not sent": ("FAILED", "UPSTREAM_UNREACHABLE"),
            "too large": ("FAILED", "UPSTREAM_RESPONSE_TOO_LARGE"),
            "timed out": ("INDETERMINATE", ended or "UPSTREAM_TIMEOUT"),
            "hung up": ("INDETERMINATE", ended or "UPSTREAM_BROKEN"),
            "barred": ("REFUSED", ended or "GUARDRAIL_DENIED"),
        }[sent]
        use.open, use.spent.returned = False, sent in ("not sent", "barred")
        self._finish(outcome, code)
        return outcome, code

    def _finish(self, outcome: str, code: str | None) -> None:
        self.ended[outcome, code] += 1
        self.tell("delegation.denied" if outcome == "REFUSED" else "delegation.action")

    # -- the clock

    def jump(self, by: int) -> None:
        """So much time passes: all that has happened, and all that is due, lies that much further back."""
        self.offer_until -= by
        self.terms = replace(self.terms, until=self.terms.until - by)
        if self.proposal:
            self.proposal = replace(self.proposal, until=self.proposal.until - by)
        for token in (token for place in self.places for token in place.tokens):
            token.made, token.until = token.made - by, token.until - by
            token.replaced = None if token.replaced is None else token.replaced - by
        self.usage.jump(by)
