"""Where tokens and bindings lead, which never changes: known before the lock, to know what to lock."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from app.proxy.attempts import Attempt, ByToken
from app.rules.ids import BindingId, DelegationId, TenantId, TokenId
from app.store import hot
from app.store.hot import Batch, step

_MOST = 10_000


class Lead(NamedTuple):
    """The binding that a token, or an API caller, names; its delegation and tenants. No right follows from it."""

    token_id: TokenId | None
    binding_id: BindingId
    delegation_id: DelegationId
    delegator_id: TenantId
    delegate_id: TenantId


class Leads:
    """Those most recently followed, by the token's hash or the binding's id."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Lead] = OrderedDict()

    def follow(self, attempts: Sequence[Attempt]) -> Batch[list[Lead | None]]:
        """The lead of each attempt; None where it names nothing that there is."""
        names = [_name(each) for each in attempts]
        unknown = [each for each, name in zip(attempts, names, strict=True) if name not in self._known]
        if unknown:
            yield from self._learn(unknown)
        found = [self._known.get(name) for name in names]
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return found

    def _learn(self, attempts: Iterable[Attempt]) -> Batch[None]:
        hashes = {each.by.token_hash for each in attempts if isinstance(each.by, ByToken)}
        bindings = {_name(each) for each in attempts} - hashes
        if hashes:
            for row in (yield step(hot.FIND, sorted(hashes))):
                self._known[row[0]] = Lead(*row[1:])
        if bindings:
            for row in (yield step(hot.FIND_BINDINGS, sorted(bindings))):
                self._known[row[0]] = Lead(None, *row)


def _name(attempt: Attempt) -> str:
    return attempt.by.token_hash if isinstance(attempt.by, ByToken) else attempt.by.binding_id
