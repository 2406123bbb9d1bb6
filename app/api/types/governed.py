"""What governs a delegation beside its terms: what is used up, what is advised, and how a request would be decided."""

import strawberry

from app.api.described import column, field, object_type
from app.api.types.enums import WindowKind
from app.delegations import usage
from app.proxy import explaining
from app.rules import advice
from app.rules.ids import Instant
from app.rules.limits import LARGEST_CAP


@object_type
class UsageWindow:
    """A fixed calendar window in UTC, and what has been used of its limit."""

    row: strawberry.Private[usage.Used]

    kind: WindowKind = column("What is counted, and over how long.")
    resets_at: Instant = column("When the next one begins.")

    @field
    def limit(self) -> int:
        """The limit in force, or at the end of a past window; 2147483647 where there was none."""
        return LARGEST_CAP if self.row.limit is None else self.row.limit

    @field
    def used(self) -> int:
        """How many actions, or cost units, were admitted in it; 2147483647 stands for more, too."""
        return min(self.row.used, LARGEST_CAP)

    @field
    def remaining(self) -> int:
        """What is left of it: nothing where the limit was lowered below what is used."""
        return max(0, (LARGEST_CAP if self.row.limit is None else self.row.limit) - self.row.used)


@object_type
class Advice:
    """What would be good practice, and is not so."""

    row: strawberry.Private[advice.Advice]

    code: str = column("EXPIRES_LATE, TRUST_FLOOR_LOW, NO_IP_ALLOWLIST, SCOPE_UNUSED or REVIEW_OVERDUE.")
    message: str = column("For people.")


@object_type
class CheckResult:
    """What one check says. It is named for the constraint that it checks, where there is one."""

    row: strawberry.Private[explaining.Check]

    name: str = column("Of the check.")
    passed: bool = column("Whether it lets the action through.")
    code: str | None = column("One of ErrorCode; null where it passes.")
    detail: str | None = column("For people.")


@object_type
class Decision:
    """How a request would be decided: by the code that decides, run without effect."""

    row: strawberry.Private[explaining.Decision]

    allowed: bool = column(
        "Whether it would be admitted. What the upstream's own guardrail says nobody knows before."
    )
    code: str | None = column("Why it would not: one of ErrorCode.")
    terms_version: int = column("The version of the terms that it was judged by.")

    @field
    def checks(self) -> list[CheckResult]:
        """Every check in its order for the delegator; for the delegate, the one that decided."""
        return [CheckResult(row=row) for row in self.row.checks]
