"""What the model's delegations are made of: terms, amendments, bindings and tokens, actions under way."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.flows.lifecycle_usage import Spent


@dataclass(frozen=True)
class Can:
    """What a scope allows: one action."""

    cost: int
    in_sandbox: bool


@dataclass(frozen=True)
class Paper:
    """One version of the terms. A kind without a cap is not limited."""

    version: int
    scopes: frozenset[str]
    until: int
    caps: Mapping[str, int]
    floor: int | None

    def trusts(self, score: int | None) -> bool:
        return self.floor is None or (score is not None and score > self.floor)


@dataclass(frozen=True)
class Change:
    """An amendment: what is None or not named stays. A cap of None is cleared, and so is a floor of -1."""

    scopes: frozenset[str] | None = None
    caps: Mapping[str, int | None] = field(default_factory=dict)
    floor: int | None = None
    until: int | None = None

    def of(self, paper: Paper) -> Paper:
        """The terms that are wanted; their version is for whoever puts them into force."""
        caps = {kind: cap for kind, cap in {**paper.caps, **self.caps}.items() if cap is not None}
        return Paper(
            paper.version,
            paper.scopes if self.scopes is None else self.scopes,
            paper.until if self.until is None else self.until,
            caps,
            paper.floor if self.floor is None else None if self.floor < 0 else self.floor,
        )


@dataclass(eq=False)
class Token:
    """A scoped token. `replaced`: from when another has taken its place, perhaps in an overlap."""

    text: str
    made: int
    until: int = 0
    replaced: int | None = None

    def opens(self, at: int) -> bool:
        return at < self.until and not self.is_replaced(at)

    def is_replaced(self, at: int) -> bool:
        return self.replaced is not None and self.replaced <= at


@dataclass(eq=False)
class Place:
    """An agent bound to a delegation."""

    id: str
    actor: str
    tokens: list[Token]
    ended: bool = False


@dataclass(eq=False)
class Use:
    """An action under way, or ended once it is not `open`."""

    place: Place
    token: Token
    scope: str
    spent: Spent
    open: bool = True
