"""What is held of bytes that others send us: a budget for all of it, and a share of that for each of whom it is held."""

from collections import Counter
from collections.abc import Hashable
from typing import Self


class NoRoom(Exception):
    """The budget is used up, or the share of whoever asks."""


class Budget:
    """At most `most` bytes in all, and `share` of one holder's."""

    def __init__(self, most: int, share: int) -> None:
        self.most = most
        self.share = share
        self.held = 0
        self.held_by: Counter[Hashable] = Counter()

    def room(self, whose: Hashable) -> "Room":
        """Room for something of this holder's, empty yet."""
        return Room(self, whose)


class Room:
    """What one thing takes of a budget, as it comes; the end of its block gives all of it back."""

    __slots__ = ("_budget", "_taken", "_whose")

    def __init__(self, budget: Budget, whose: Hashable) -> None:
        self._budget = budget
        self._whose = whose
        self._taken = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._count(-self._taken)
        if not self._budget.held_by[self._whose]:
            del self._budget.held_by[self._whose]

    def take(self, size: int) -> None:
        """Takes so many bytes more. Raises NoRoom."""
        budget = self._budget
        if budget.held_by[self._whose] + size > budget.share or budget.held + size > budget.most:
            raise NoRoom
        self._count(size)

    def _count(self, size: int) -> None:
        self._taken += size
        self._budget.held += size
        self._budget.held_by[self._whose] += size
