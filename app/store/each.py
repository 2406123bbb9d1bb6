"""A few rows of each of many parents, in one statement, at a cost that does not grow with what the parents have."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, aliased

#: Beyond every key of its type, in the bytewise order of ids and the order of numbers.
_BEYOND: dict[type, tuple[Any, Any]] = {str: ("", "~"), int: (0, 2**63 - 1)}


def of_each(
    parents: Select[Any],
    of: InstrumentedAttribute[Any],
    by: InstrumentedAttribute[Any],
    most: int,
    *,
    backward: bool = False,
    where: Callable[[Any], Sequence[ColumnElement[bool]]] = lambda child: (),
) -> Select[Any]:
    """The first `most` children of each parent by their key, or the last where `backward`, in that order.

    `parents` selects one column of ids, `of` is the child's column that names its parent; `where` narrows the children.
    Each parent's `most`-th key is looked up by its index, and bounds what is read: a window function would number
    everything that the parents have.
    """
    children = of.class_
    parent = parents.subquery()
    first, beyond = _BEYOND[by.type.python_type]
    nth = _nth(parent.c[0], of, by, most, backward, where)
    bounds = select(parent.c[0].label("id"), nth.label("nth")).subquery()
    within = (
        by >= func.coalesce(bounds.c.nth, first) if backward else by <= func.coalesce(bounds.c.nth, beyond)
    )
    rows = select(children).join(bounds, of == bounds.c.id).where(within, *where(children))
    return rows.order_by(by.desc() if backward else by)


def _nth(
    parent: ColumnElement[Any],
    of: InstrumentedAttribute[Any],
    by: InstrumentedAttribute[Any],
    most: int,
    backward: bool,
    where: Callable[[Any], Sequence[ColumnElement[bool]]],
) -> ColumnElement[Any]:
    other = aliased(of.class_)
    key = getattr(other, by.key)
    rows = select(key).where(getattr(other, of.key) == parent, *where(other))
    return rows.order_by(key.desc() if backward else key).offset(most - 1).limit(1).scalar_subquery()
