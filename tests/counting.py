"""Counting what is asked of a store."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event


@contextmanager
def counting() -> Iterator[list[str]]:
    """Every statement of the process, but for the beginnings of transactions."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def reads_of_a_ledger(statements: list[str]) -> int:
    """How many of these read entries."""
    return sum("FROM ledger" in each and "ledger_heads" not in each for each in statements)
