"""How the product's types are written: the docstring is the description that clients read.

A type wraps a row and shows its columns: there is no second shape of an entity. `column` shows the row's attribute of
the same name, `field` what a method makes of the row.
"""

from collections.abc import Callable
from enum import StrEnum
from inspect import getdoc
from typing import Any, TypeVar

import strawberry
from strawberry.types.enum import EnumValue
from strawberry.types.field import StrawberryField
from typing_extensions import dataclass_transform, override

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class _Column(StrawberryField):
    """Read from the row, never given to the constructor."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init = self.repr = self.compare = False

    @override
    def get_result(self, source: Any, info: object, args: object, kwargs: object) -> Any:
        return getattr(source.row, self.python_name)


def column(description: str) -> Any:
    """A field that shows the attribute of the same name of the type's `row`."""
    return _Column(description=description)


def field(resolver: Callable[..., Any]) -> Any:
    """A field with a resolver; the resolver's docstring describes it."""
    return strawberry.field(resolver=resolver, description=getdoc(resolver))


def subscription(resolver: Callable[..., Any]) -> Any:
    """The same for a stream."""
    return strawberry.subscription(resolver=resolver, description=getdoc(resolver))


def given(description: str, **default: Any) -> Any:
    """A field whose value the constructor takes; in an input, what the client gives."""
    return strawberry.field(description=description, **default)


def optional(description: str) -> Any:
    """A field that may be left out, and is null then."""
    return strawberry.field(description=description, default=None)


def argument(description: str) -> Any:
    """For `Annotated`: what an argument means."""
    return strawberry.argument(description=description)


@dataclass_transform(kw_only_default=True)
def object_type(cls: type[T]) -> type[T]:
    """A GraphQL type of the class's own name."""
    return strawberry.type(cls, description=getdoc(cls))


@dataclass_transform(kw_only_default=True)
def input_type(cls: type[T]) -> type[T]:
    """A GraphQL input of the class's own name."""
    return strawberry.input(cls, description=getdoc(cls))


def enumeration(kind: type[E], name: str, description: str, values: dict[E, str]) -> type[E]:
    """Publishes an enum under `name`; every one of its values is described."""
    strawberry.enum(kind, name=name, description=description)
    published: list[EnumValue] = kind.__strawberry_definition__.values  # type: ignore[attr-defined]  # made above
    for value in published:
        value.description = values[kind(value.value)]
    return kind
