"""What every type builds on: things with an id, and lists in pages."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Generic, TypeVar

import strawberry

from app.api.described import argument, column, field, given, object_type
from app.api.pages import Key, Keyset, Row, Slice

N = TypeVar("N")

First = Annotated[int | None, argument("How many at most, from the start: 0 to 100; 20 unless told.")]
After = Annotated[str | None, argument("Begin after this cursor.")]
Last = Annotated[int | None, argument("How many at most, from the end: 0 to 100. Not together with `first`.")]
Before = Annotated[str | None, argument("End before this cursor.")]


@strawberry.interface(description="Anything with an id of its own; `node` finds it again.")
class Node:
    """What `node` and `nodes` find."""

    row: strawberry.Private[Any]

    id: strawberry.ID = column("A prefix that says what it names, and a UUIDv7.")


@object_type
class PageInfo:
    """Where a page lies in its list."""

    has_next_page: bool = given("Whether there is more after it.")
    has_previous_page: bool = given("Whether there is more before it.")
    start_cursor: str | None = given("The cursor of its beginning.")
    end_cursor: str | None = given("The cursor of its end; the next page begins after it.")


@object_type
class Edge(Generic[N]):
    """One place in a list."""

    cursor: str = given("Where it stands; a list can go on from here.")
    node: N = given("What stands there.")


@object_type
class Connection(Generic[N]):
    """One page of a list."""

    edges: list[Edge[N]] = given("The page, with a cursor for each.")
    page_info: PageInfo = given("Where the page lies in its list.")

    @field
    def nodes(self) -> list[N]:
        """The page, without cursors."""
        return [edge.node for edge in self.edges]


@strawberry.type(name="Connection", description="One page of a list whose length is known.")
class CountedConnection(Generic[N]):
    """A connection that counts only when it is asked to."""

    page: strawberry.Private[Connection[N]]
    count: strawberry.Private[Callable[[], Awaitable[int]]]

    @field
    def edges(self) -> list[Edge[N]]:
        """The page, with a cursor for each."""
        return self.page.edges

    @field
    def nodes(self) -> list[N]:
        """The page, without cursors."""
        return [edge.node for edge in self.page.edges]

    @field
    def page_info(self) -> PageInfo:
        """Where the page lies in its list."""
        return self.page.page_info

    @field
    async def total_count(self) -> int:
        """How many the whole list has."""
        return await self.count()


def connection(
    keyset: Keyset[Key], slice: Slice[Row], key: Callable[[Row], Key], wrap: Callable[[Row], N]
) -> Connection[N]:
    """A page of rows, each in the type that shows it."""
    info = PageInfo(
        has_next_page=slice.has_next,
        has_previous_page=slice.has_previous,
        start_cursor=slice.start,
        end_cursor=slice.end,
    )
    edges = [Edge(cursor=keyset.cursor(key(row)), node=wrap(row)) for row in slice.rows]
    return Connection(edges=edges, page_info=info)


def id_of(row: Any) -> str:
    """The key of what is listed by its id: by when it was made."""
    id: str = row.id
    return id
