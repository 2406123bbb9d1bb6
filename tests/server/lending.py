"""Who lends what to whom, ready to be called through the proxy; and the two witnesses that the store keeps.

It writes as the command line does, through a store of its own beside the gateway's; so one builder serves a gateway
in another process and one in this.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import orjson
from sqlalchemy import select
from typing_extensions import override

from app.inventory.upstreams import Credential, UpstreamChanges, list_upstreams, update_upstream
from app.rules.errors import Refusal
from app.rules.ids import BindingId, DelegationId, DispatchId, Instant, TenantId
from app.rules.windows import WindowKind
from app.store.engine import Tx
from app.store.tables import Agent, Dispatch, LedgerEntry, LedgerHead, ScopedToken, UsageWindow
from tests.world import Lent, Member, World


@dataclass(frozen=True, slots=True)
class Act:
    """An action of the lent service."""

    scope: str
    method: str
    path: str
    idempotent: bool = False


#: What the service can do. The last one is not lent unless a test says so.
ACTS = (
    Act("receipts:read", "GET", "/v1/receipts/{id}"),
    Act("receipts:read", "HEAD", "/v1/receipts/{id}"),
    Act("receipts:write", "POST", "/v1/receipts"),
    Act("receipts:write", "PUT", "/v1/receipts/{id}"),
    Act("receipts:write", "PATCH", "/v1/receipts/{id}", idempotent=True),
    Act("receipts:delete", "DELETE", "/v1/receipts/{id}"),
)
HELD = ("receipts:delete", "receipts:read", "receipts:write")
LENT = ("receipts:read", "receipts:write")
CREDENTIAL = Credential("X-Service-Key", "known to the service alone")
SERVICE = "receipts-api"
#: What an operator allowed at the time when an address was registered that may not be called now.
EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@dataclass(frozen=True, slots=True)
class Loan:
    """A delegation in force, with a binding and its token."""

    lent: Lent

    @property
    def delegator(self) -> Member:
        return self.lent.delegator

    @property
    def delegate(self) -> Member:
        return self.lent.delegate

    @property
    def agent(self) -> Agent:
        """The delegator's, which is lent."""
        return self.lent.agent

    @property
    def actor(self) -> Agent:
        """The delegate's, which acts."""
        return self.lent.actor

    @property
    def id(self) -> DelegationId:
        return self.lent.id

    @property
    def binding_id(self) -> BindingId:
        return self.lent.binding.id

    @property
    def token(self) -> str:
        return self.lent.bound.token.text

    @property
    def bearer(self) -> tuple[str, str]:
        """The header with which its agent calls."""
        return bearer(self.token)

    def at(self, path: str = "/v1/receipts/1") -> str:
        """Where the proxy answers for a path of the service."""
        return f"/proxy/{SERVICE}{path}"


def bearer(token: str) -> tuple[str, str]:
    """The header that shows a token."""
    return "Authorization", f"Bearer {token}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a ledger."""

    seq: int
    event: str
    pair_id: str
    delegation_id: str | None
    dispatch_id: str | None
    body: dict[str, Any]

    @property
    def outcome(self) -> str | None:
        outcome: str | None = self.body["outcome"]
        return outcome


class Lending(World):
    """A world in one store, whose services can be called, and who knows what was recorded."""

    @override
    async def tenant(self, slug: str | None = None) -> Member:
        """A tenant whose slug no other builder of the same store has taken."""
        return await super().tenant(slug or f"tenant-{uuid4().hex}")

    async def loan(
        self,
        port: int = 9,
        *,
        acts: Iterable[Act] = ACTS,
        credential: Credential | None = CREDENTIAL,
        scopes: Sequence[str] = LENT,
        **given: Any,
    ) -> Loan:
        """An accepted delegation of a service at this port of loopback; `given` is as for `offer`."""
        delegator = await self.tenant()
        upstream = await self.upstream(delegator, SERVICE, f"http://127.0.0.1:{port}", credential)
        for act in acts:
            await self.action(delegator, upstream, act.scope, act.method, act.path, idempotent=act.idempotent)
        agent = await self.agent(delegator, HELD)
        return Loan(await self.delegation(delegator, agent=agent, scopes=scopes, **given))

    async def another(self, loan: Loan, actor: Agent | None = None, **given: Any) -> Loan:
        """One more delegation of the same service, between the same agents unless told."""
        offered = await self.offer(loan.delegator, loan.delegate, loan.agent, **{"scopes": LENT, **given})
        return Loan(await self.accept(offered, actor or loan.actor))

    async def move(self, loan: Loan, base_url: str) -> None:
        """The lent service is at another address from now on."""
        await self.made(self._move, loan, base_url)

    def _move(self, tx: Tx, loan: Loan, base_url: str) -> object | Refusal:
        owner = loan.delegator.owner
        (service,) = list_upstreams(tx, owner)
        return update_upstream(tx, owner, self.keys, EVERYWHERE, service.id, UpstreamChanges(base_url))

    async def expire_token(self, loan: Loan) -> None:
        """The loan's token has passed its 30 days."""
        await self.age(ScopedToken, loan.lent.bound.issued.id, expires_at=Instant(self.later(0) - 1))

    # The witnesses.

    async def dispatches(self, loan: Loan) -> dict[DispatchId, Dispatch]:
        """Every dispatch of a delegation."""
        rows = await self.rows(Dispatch, Dispatch.delegation_id == loan.id)
        return {row.id: row for row in rows}

    async def admitted(self, loan: Loan) -> dict[DispatchId, Dispatch]:
        """Those that were admitted."""
        found = await self.dispatches(loan)
        return {id: row for id, row in found.items() if row.outcome != "REFUSED"}

    async def whole_ledger(self, member: Member) -> list[Entry]:
        """A tenant's ledger. Without a gap, or the test fails."""
        head, entries = await self.read(_ledger, member.id)
        assert [entry.seq for entry in entries] == list(range(1, head + 1))
        return entries

    async def ledgers(self, loan: Loan) -> tuple[list[Entry], list[Entry]]:
        """What both ledgers say of a delegation: the delegator's, the delegate's."""
        both = [await self.whole_ledger(member) for member in (loan.delegator, loan.delegate)]
        of_loan = [[entry for entry in each if entry.delegation_id == loan.id] for each in both]
        return of_loan[0], of_loan[1]

    async def used(self, loan: Loan, *kinds: WindowKind) -> set[int]:
        """What is counted in the windows of a delegation, of these kinds where any are named."""
        rows = await self.rows(UsageWindow, UsageWindow.delegation_id == loan.id)
        return {row.used for row in rows if row.kind in (kinds or WindowKind)}


def ended(entries: Iterable[Entry], event: str = "delegation.action") -> list[str]:
    """The dispatches of these entries, each as often as it stands there."""
    return [entry.dispatch_id or "" for entry in entries if entry.event == event]


def told_to_its_owner_alone(owner: list[Entry], other: list[Entry], url: str, kind: str) -> None:
    """The last entry of the owner's ledger says which address was not called, and what decides that; the other's is
    the same but for it.
    """
    mine, theirs = owner[-1].body, other[-1].body
    why = f"{url} was not called: it is at {kind}, which may not be called: see CROSSGRANT_EGRESS_ALLOW"
    assert mine["details"] == {**theirs["details"], "reason": why}
    assert mine["pairId"] == theirs["pairId"]
    assert not any(
        part in orjson.dumps([each.body for each in other]).decode() for part in (url, kind, "EGRESS")
    )


def _ledger(tx: Tx, tenant_id: TenantId) -> tuple[int, list[Entry]]:
    rows = select(LedgerEntry).where(LedgerEntry.tenant_id == tenant_id).order_by(LedgerEntry.seq)
    found = [
        Entry(row.seq, row.event, row.pair_id, row.delegation_id, row.dispatch_id, orjson.loads(row.body))
        for row in tx.scalars(rows)
    ]
    return tx.scalars(select(LedgerHead.seq).where(LedgerHead.tenant_id == tenant_id)).one(), found
