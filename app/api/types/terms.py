"""What the parties agree on."""

import strawberry

from app.api.described import column, field, object_type
from app.api.scalars import JSON, Cidr, Scope
from app.rules import terms
from app.rules.ids import Instant
from app.store import tables


@object_type
class Constraints:
    """The limits of a delegation. Null: not limited beyond the gateway's own bounds."""

    row: strawberry.Private[terms.Constraints]

    @classmethod
    def of(cls, row: tables.TermsVersion) -> "Constraints":
        """Those of one version of the terms."""
        return cls(row=terms.from_stored(row.constraints))

    expires_at: Instant = column("When the delegation ends by itself.")
    max_actions_per_hour: int | None = column("Most actions in a calendar hour, UTC.")
    max_actions_per_day: int | None = column("Most actions on a calendar day, UTC.")
    max_actions_per_month: int | None = column("Most actions in a calendar month, UTC.")
    max_cost_units_per_month: int | None = column("Most cost units in a calendar month, UTC.")
    ip_allowlist: list[Cidr] = column("The networks that requests may come from; none: from anywhere.")
    require_trust_score_above: int | None = column("The trust score that the acting agent's must be above.")
    max_request_bytes: int | None = column("The largest body of a request.")
    condition: str | None = column(
        "A CEL expression over `request`, `action`, `delegation` and `now`; must be true."
    )
    deny_patterns: list[str] = column("RE2 patterns; a request whose body matches one is refused.")


@object_type
class Terms:
    """One version of what the parties agree on. Immutable."""

    row: strawberry.Private[tables.TermsVersion]

    version: int = column("1 is what was offered.")
    scopes: list[Scope] = column("What is lent.")
    hash: str = column("What `acceptDelegation(termsHash:)` confirms: SHA-256 of the terms, in hex.")
    created_at: Instant = column("When this version was made.")
    in_force_at: Instant | None = column("When it came into force; null while it is only proposed.")

    @field
    def constraints(self) -> Constraints:
        """Within which limits."""
        return Constraints.of(self.row)

    @field
    def metadata(self) -> JSON:
        """What the delegator says of it."""
        return JSON(self.row.metadata_)
