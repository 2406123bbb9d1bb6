"""A command's time with the store, and what it prints of it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import orjson

from app.cli.interrupts import ignore
from app.cli.saying import fail, say, told
from app.rules.errors import Refusal, Unavailable
from app.rules.ids import BootId
from app.settings import SettingsError, load, secret, unknown_names
from app.store.engine import Store, StoreError
from app.store.installation import make_store, prepare
from app.store.keys import Keys, new_id

T = TypeVar("T")

#: What is printed of a row, by the names that it has in the API.
Shown = dict[str, str | int | None]


def with_store(use: Callable[[Store, Keys], Coroutine[Any, Any, T]], *, makes: bool = False) -> T:
    """What becomes of `use` on the store that the settings name. A server may run beside it.

    Unless the command `makes` what a store begins with, there has to be one: in the wrong folder it would only seem empty.
    """
    with told(SettingsError, StoreError, Unavailable):
        return asyncio.run(_with_store(use, makes))


async def _with_store(use: Callable[[Store, Keys], Coroutine[Any, Any, T]], makes: bool) -> T:
    for line in unknown_names():
        say(line)
    settings = load()
    if not makes and settings.database_url is None and not settings.sqlite_path.exists():
        raise StoreError(
            f"there is no {settings.store_name}: run this in the server's folder, or set CROSSGRANT_DATA_DIR or "
            "CROSSGRANT_DATABASE_URL as the server has it; `crossgrant tenant create` begins a new one"
        )
    keys = Keys(secret(settings))
    store = make_store(settings, BootId(new_id("bot")), serves=False)
    try:
        await prepare(store, keys)
        ignore()  # else a key could have been made that nobody has seen
        return await use(store, keys)
    finally:
        await store.close()


def migrate() -> None:
    """Brings the database's schema up to date, as every use of the store does."""
    with_store(_nothing, makes=True)
    print("The database is up to date.")


async def _nothing(_store: Store, _keys: Keys) -> None:
    return None


def or_fail(result: T | Refusal) -> T:
    """The result, or the refusal's message as the last line, and where that is so."""
    if isinstance(result, Refusal):
        fail(f"{result.message} (in {load().store_name})")
    return result


def show(done: str, values: Shown, *, as_json: bool) -> None:
    """What was made or changed, and where: `done` is what became of it, as in `made`."""
    say(f"{done} in {load().store_name}")
    if as_json:
        print(orjson.dumps(values).decode())
        return
    for name, value in values.items():
        print(f"{name}: {_text(value)}")


def show_all(rows: Sequence[Shown], *, as_json: bool) -> None:
    """What was found, and where: a line for each, below the names of what they show."""
    say(f"found in {load().store_name}")
    if as_json:
        print(orjson.dumps(rows).decode())
        return
    lines = [[*names] for names in rows[:1]] + [[*map(_text, row.values())] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def _text(value: object) -> str:
    # Names may have line feeds in them.
    return "-" if value is None else " ".join(str(value).split())
