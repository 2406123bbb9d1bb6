"""Large request bodies: read only for whoever may ask for something, and within one budget for all of them."""

from sqlalchemy import select

from app.delegations.read import status_at
from app.edge.budget import Budget, Room
from app.rules.errors import Code, Unavailable
from app.rules.ids import TenantId
from app.rules.lifecycle import REFUSES
from app.store.engine import Store, Tx
from app.store.tables import Binding, Delegation, ScopedToken

#: Up to this size, in bytes, a body is read for anybody: to look up a token costs more than to hold it.
SMALL = 64 * 1024
#: What all larger ones may take of memory together, in bytes; and what one tenant's may.
BUDGET = 512 * 1024 * 1024
SHARE = BUDGET // 4


class Uploads:
    """One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._budget = Budget(BUDGET, SHARE)

    async def whose(self, token_hash: str) -> TenantId | Code:
        """The tenant that acts with this token, or why nobody does now. What it then may do its admission says."""
        try:
            return await self._store.read(_whose, token_hash)
        except Unavailable:
            return Code.UNAVAILABLE

    def room(self, whose: TenantId) -> Room:
        """Room for a body of this tenant's, for the length of a block."""
        return self._budget.room(whose)


def _whose(tx: Tx, token_hash: str) -> TenantId | Code:
    rows = select(ScopedToken, Binding, Delegation).join(Binding, ScopedToken.binding_id == Binding.id)
    found = tx.execute(rows.join(Delegation).where(ScopedToken.token_hash == token_hash)).one_or_none()
    if found is None:
        return Code.TOKEN_INVALID
    token, binding, delegation = found
    now = tx.now()
    if token.expires_at <= now or (token.rotated_at is not None and token.rotated_at <= now):
        return Code.TOKEN_INVALID
    if code := REFUSES.get(status_at(delegation, now)):
        return code
    return Code.BINDING_REVOKED if binding.revoked_at is not None else delegation.delegate_id
