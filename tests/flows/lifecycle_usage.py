"""What the model says of usage: fixed calendar windows in UTC, admissions, and what both ledgers are told of them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR

KINDS = ("HOUR", "DAY", "MONTH", "COST_MONTH")
REFUSED_BY = dict(zip(KINDS, ("CAP_HOUR", "CAP_DAY", "CAP_MONTH", "CAP_COST"), strict=True))

Window = tuple[str, int]


def window(kind: str, at: int) -> Window:
    """The kind of a calendar window, and when the one began that an instant falls in."""
    moment = datetime.fromtimestamp(at // SECOND, UTC).replace(minute=0, second=0)
    if kind != "HOUR":
        moment = moment.replace(hour=0)
    if kind in ("MONTH", "COST_MONTH"):
        moment = moment.replace(day=1)
    return kind, int(moment.timestamp()) * SECOND


@dataclass(eq=False)
class Spent:
    """One admission: when, and at which cost. `returned`: nothing was sent, and it counts no more."""

    at: int
    cost: int
    returned: bool = False


@dataclass
class Usage:
    """The windows of one delegation."""

    spent: list[Spent] = field(default_factory=list)
    #: Windows of which both ledgers were told that they are exhausted, and when.
    told: dict[Window, int] = field(default_factory=dict)

    def windows(self) -> Counter[Window]:
        """What each window has counted."""
        counted: Counter[Window] = Counter()
        for each in self.spent:
            if not each.returned:
                for kind in KINDS:
                    counted[window(kind, each.at)] += each.cost if kind == "COST_MONTH" else 1
        return +counted

    def beyond(self, caps: Mapping[str, int], cost: int, at: int) -> str | None:
        """Which cap one more would exceed, the narrowest first."""
        used = self.windows()
        for kind in KINDS:
            added = cost if kind == "COST_MONTH" else 1
            if kind in caps and used[window(kind, at)] + added > caps[kind]:
                return REFUSED_BY[kind]
        return None

    def admit(self, caps: Mapping[str, int], cost: int, at: int) -> tuple[Spent, int]:
        """Counts one; how many windows it exhausts that nobody was told of yet."""
        spent = Spent(at, cost)
        self.spent.append(spent)
        used = self.windows()
        full = [kind for kind, cap in caps.items() if used[window(kind, at)] >= cap]
        return spent, sum(self._tell(kind, at) for kind in full)

    def refuse(self, code: str, at: int) -> int:
        """The same for what is refused, of which nothing counts."""
        return sum(self._tell(kind, at) for kind in KINDS if REFUSED_BY[kind] == code)

    def _tell(self, kind: str, at: int) -> bool:
        """Whether it has to be told: once in a window, whatever comes back and however caps move."""
        if window(kind, at) in self.told:
            return False
        self.told[window(kind, at)] = at
        return True

    def jump(self, by: int) -> None:
        """The calendar stands still: what happened falls into earlier windows."""
        for each in self.spent:
            each.at -= by
        moved = sorted((at - by, kind) for (kind, _), at in self.told.items())
        self.told = {window(kind, at): at for at, kind in reversed(moved)}
