"""A few rows of each of many parents, in one statement, at a cost that does not grow with what the parents have.

A window function would number all that they have. PostgreSQL has LATERAL for it; SQLite looks up each parent's last
wanted key by its index and reads up to there, and a left join keeps its planner from starting at the other end.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, and_, func, select, true
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.store.engine import Tx

#: What narrows the children, given the row class or an alias of it.
Where = Callable[[Any], Sequence[ColumnElement[bool]]]

#: Beyond every key of its type, in the bytewise order of ids and the order of numbers.
_ENDS: dict[type, tuple[Any, Any]] = {str: ("", "~"), int: (0, 2**63 - 1)}


def of_each(
    tx: Tx,
    parents: Select[Any],
    of: InstrumentedAttribute[Any],
    by: InstrumentedAttribute[Any],
    most: int,
    *,
    backward: bool = False,
    where: Where = lambda child: (),
) -> list[Any]:
    """The first `most` children of each parent in the order of their key, or the last, in its reverse.

    `parents` selects one column of ids, `of` is the child's column that names its parent.
    """
    parent = parents.subquery()
    form = _bounded if tx.on_sqlite else _lateral
    rows = [row for row in tx.scalars(form(parent, of, by, most, backward, where)) if row is not None]
    return sorted(rows, key=lambda row: getattr(row, by.key), reverse=backward)


def _lateral(
    parent: Subquery,
    of: InstrumentedAttribute[Any],
    by: InstrumentedAttribute[Any],
    most: int,
    backward: bool,
    where: Where,
) -> Select[Any]:
    few = select(of.class_).where(of == parent.c[0], *where(of.class_))
    few_of_one = few.order_by(by.desc() if backward else by).limit(most).lateral()
    return select(aliased(of.class_, few_of_one)).select_from(parent.join(few_of_one, true()))


def _bounded(
    parent: Subquery,
    of: InstrumentedAttribute[Any],
    by: InstrumentedAttribute[Any],
    most: int,
    backward: bool,
    where: Where,
) -> Select[Any]:
    other = aliased(of.class_)
    key = getattr(other, by.key)
    keys = select(key).where(getattr(other, of.key) == parent.c[0], *where(other))
    nth = keys.order_by(key.desc() if backward else key).offset(most - 1).limit(1).scalar_subquery()
    first, last = _ENDS[by.type.python_type]
    within = by >= func.coalesce(nth, first) if backward else by <= func.coalesce(nth, last)
    children = and_(of == parent.c[0], within, *where(of.class_))
    return select(of.class_).select_from(parent).outerjoin(of.class_, children)
