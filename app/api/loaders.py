"""Many single reads become few: an operation reads in waves, and each wave is one snapshot of the store.

Whatever the fields of one level ask for is collected first and read together, a statement for each query, however many
rows ask. So the number of statements depends on what a document asks for and never on how much it finds. There is one
set of loaders per operation: nothing that was read for one caller, or before a mutation, is ever shown to another, or
after it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from aiodataloader import DataLoader

from app.rules.ids import TenantId
from app.store.engine import Tx

P = ParamSpec("P")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: `query(tx, asking tenant, keys, …)`; what follows the keys is the same for a whole statement.
Query = Callable[Concatenate[Tx, TenantId, Sequence[K], P], Mapping[K, V]]

#: Keys in one statement: both stores take some 32,000 parameters.
_MOST = 1_000
#: Turns of the event loop in which nobody asks for more: what one wave answered has then come as far as it can.
_QUIET = 8


@dataclass(frozen=True, slots=True)
class _Form:
    """A query with all but its keys."""

    query: Query[Any, ..., Any]
    args: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Batch:
    form: _Form
    keys: list[Any]
    found: "asyncio.Future[Mapping[Any, Any]]"


class Loaders:
    """What one operation of one tenant reads by key; a loader is made when it is first asked for something."""

    def __init__(self, read: Callable[..., Awaitable[Any]], tenant_id: TenantId) -> None:
        self._read = read
        self._tenant_id = tenant_id
        self._loaders: dict[_Form, DataLoader[Any, Any]] = {}
        self._waiting: list[_Batch] = []
        self._reading: asyncio.Future[None] | None = None

    async def load(self, query: Query[K, P, V], key: K, *args: P.args, **kwargs: P.kwargs) -> V | None:
        """What `query` answers for `key`, or None where it answers nothing."""
        assert not kwargs, "what follows the keys is given by place"
        loader = self._of(_Form(query, args))
        # A field that fails cancels its neighbours; the batch belongs to all who wait for it.
        found: V | None = await asyncio.shield(loader.load(key))
        return found

    def prime(self, query: Query[K, P, V], found: Mapping[K, V]) -> None:
        """Knows these without asking."""
        loader = self._of(_Form(query, ()))
        for key, value in found.items():
            loader.prime(key, value)

    def _of(self, form: _Form) -> DataLoader[Any, Any]:
        loader = self._loaders.get(form)
        if loader is None:
            loader = self._loaders[form] = self._loader(form)
        return loader

    def _loader(self, form: _Form) -> DataLoader[Any, Any]:
        async def batch(keys: list[Any]) -> list[Any]:
            waiting = _Batch(form, keys, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._waves())
            found = await waiting.found
            return [found.get(key) for key in keys]

        return DataLoader(batch)

    async def _waves(self) -> None:
        while self._waiting:
            await self._quiet()
            batches, self._waiting = self._waiting, []
            try:
                found = await self._read(_wave, self._tenant_id, batches)
            except Exception as error:  # noqa: BLE001  # whoever waits raises it
                for batch in batches:
                    batch.found.set_exception(error)
            else:
                for batch in batches:
                    batch.found.set_result(found[batch.form])
        self._reading = None

    async def _quiet(self) -> None:
        asked = 0
        while asked != len(self._waiting):
            asked = len(self._waiting)
            for _ in range(_QUIET):
                await asyncio.sleep(0)


def _wave(tx: Tx, tenant_id: TenantId, batches: Iterable[_Batch]) -> dict[_Form, dict[Any, Any]]:
    wanted: dict[_Form, dict[Any, None]] = {}
    for batch in batches:
        wanted.setdefault(batch.form, {}).update(dict.fromkeys(batch.keys))
    return {form: _read(tx, tenant_id, form, list(keys)) for form, keys in wanted.items()}


def _read(tx: Tx, tenant_id: TenantId, form: _Form, keys: Sequence[Any]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for at in range(0, len(keys), _MOST):
        found.update(form.query(tx, tenant_id, keys[at : at + _MOST], *form.args))
    return found
