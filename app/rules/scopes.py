"""Scopes: `resource:verb`, lower case. A set of them is what an agent can do and what a delegation lends."""

import re
from collections.abc import Iterable, Sequence

from app.rules.errors import Code, Refusal

LONGEST = 100
MOST = 100

_SCOPE = re.compile(r"[a-z0-9][a-z0-9_.\-]*:[a-z0-9][a-z0-9_.\-]*")


def is_scope(text: str) -> bool:
    """Whether `text` is `resource:verb`, in lower case, of at most 100 characters."""
    return len(text) <= LONGEST and _SCOPE.fullmatch(text) is not None


def normal(scopes: Iterable[str]) -> list[str]:
    """Sorted and without repeats: the form that is stored and hashed."""
    return sorted(set(scopes))


def lendable(asked: Sequence[str], held: Iterable[str]) -> Refusal | None:
    """Refuses what an offer cannot lend: nothing at all, or more than the agent holds."""
    if not asked:
        return Refusal(
            Code.INVALID, "scopes is empty: name at least one scope that the agent holds", ("scopes",)
        )
    missing = sorted(set(asked) - set(held))
    if missing:
        return Refusal(
            Code.SCOPE_NOT_HELD,
            f"the agent does not hold {', '.join(missing)}: offer only scopes that it holds, or add them first",
            ("scopes",),
        )
    return None
