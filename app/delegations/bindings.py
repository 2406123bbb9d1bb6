"""Bindings and their scoped tokens: create, rotate, revoke."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, or_, select

from app.delegations.facts import party, to_both, to_one
from app.delegations.read import find_binding_locked, find_locked, status_at, visible_to
from app.identity.callers import Caller
from app.ledger.append import append
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import DAY, SECOND, AgentId, BindingId, DelegationId, Instant, TokenId
from app.rules.instants import rfc3339
from app.rules.lifecycle import Party, Status
from app.rules.permissions import Permission
from app.rules.texts import LONGEST_TEXT, refuse_text
from app.rules.tokens import TokenKind
from app.store.engine import Tx
from app.store.keys import Keys, Minted, new_id
from app.store.tables import Agent, Binding, Delegation, ScopedToken

TOKEN_LIVES = 30 * DAY
LONGEST_OVERLAP = 86_400  # seconds
MOST_BINDINGS = 1_000  # of one delegation
MOST_OF_AN_AGENT = 1_000  # living bindings: a report of its trust reaches all of them in one transaction
MOST_TOKENS = 10  # of one binding, in overlap at once


@dataclass(frozen=True, slots=True)
class Issued:
    """A binding and its new scoped token."""

    binding: Binding
    token: ScopedToken
    minted: Minted

    def details(self) -> dict[str, object]:
        """What the delegate's ledger says of it."""
        return {
            "bindingId": self.binding.id,
            "tokenId": self.token.id,
            "prefix": self.token.prefix,
            "expiresAt": rfc3339(self.token.expires_at),
        }


def create_binding(
    tx: Tx, caller: Caller, delegation_id: DelegationId, agent_id: AgentId, keys: Keys
) -> Issued | Refusal:
    """Binds one more agent of the delegate to an ACTIVE delegation."""
    caller.require(Permission.BIND)
    mine = lock_own_agent(tx, caller, agent_id)
    delegation = find_locked(tx, caller.tenant_id, delegation_id)
    if isinstance(delegation, Refusal):
        return delegation
    if refusal := _refuse_binding(tx, caller, delegation, agent_id, mine=mine):
        return refusal
    now = tx.now()
    binding = bind(tx, delegation, agent_id, now)
    issued = issue(tx, delegation, binding, keys, now)
    append(
        tx,
        [
            to_both(Event.BINDING_CREATED, delegation, caller, now, {"bindingId": binding.id}, agent_id),
            to_one(Event.TOKEN_ISSUED, delegation, caller, now, issued.details(), agent_id),
        ],
    )
    return issued


def lock_own_agent(tx: Tx, caller: Caller, agent_id: AgentId) -> bool:
    """Whether the caller's tenant has this agent, of which nobody reports trust before it is bound. Before delegations
    in the order of locks.
    """
    mine = select(Agent.id).where(Agent.id == agent_id, Agent.tenant_id == caller.tenant_id)
    return tx.scalars(mine.with_for_update(read=True, key_share=True)).one_or_none() is not None


def refuse_bound(tx: Tx, agent_id: AgentId) -> Refusal | None:
    """Refuses one more binding of an agent that has as many as it may."""
    living = select(func.count()).where(Binding.agent_id == agent_id, Binding.revoked_at.is_(None))
    if (tx.scalar(living) or 0) < MOST_OF_AN_AGENT:
        return None
    return Refusal(
        Code.LIMIT_REACHED, f"the agent has {MOST_OF_AN_AGENT} bindings: revoke one, or bind another"
    )


def _refuse_binding(
    tx: Tx, caller: Caller, delegation: Delegation, agent_id: AgentId, *, mine: bool
) -> Refusal | None:
    if delegation.delegate_id != caller.tenant_id:
        message = "delegationId: only the delegate binds agents to a delegation"
        return Refusal(Code.WRONG_STATE, message, ("delegationId",))
    if refusal := _refuse_inactive(tx, delegation, ("delegationId",)):
        return refusal
    if not mine:
        return Refusal(Code.NOT_FOUND, "agentId names no agent of your tenant", ("agentId",))
    if refusal := refuse_bound(tx, agent_id):
        return refusal
    count = select(func.count()).where(Binding.delegation_id == delegation.id, Binding.revoked_at.is_(None))
    if (tx.scalar(count) or 0) >= MOST_BINDINGS:
        return Refusal(Code.LIMIT_REACHED, f"the delegation has {MOST_BINDINGS} bindings: revoke one first")
    return None


def rotate_token(tx: Tx, caller: Caller, binding_id: BindingId, overlap: int, keys: Keys) -> Issued | Refusal:
    """A new token for a binding; the old ones open nothing more after `overlap` seconds."""
    caller.require(Permission.BIND)
    if not 0 <= overlap <= LONGEST_OVERLAP:
        message = f"overlapSeconds is {overlap}: give a number from 0 to {LONGEST_OVERLAP}"
        return Refusal(Code.INVALID, message, ("overlapSeconds",))
    found = find_binding_locked(tx, binding_id, Delegation.delegate_id == caller.tenant_id)
    if found is None:
        return Refusal(Code.NOT_FOUND, "bindingId names no binding of your tenant", ("bindingId",))
    binding, delegation = found
    if refusal := _refuse_dead(tx, binding, delegation):
        return refusal
    now = tx.now()
    living = tx.scalars(select(ScopedToken).where(ScopedToken.binding_id == binding.id, open_at(now))).all()
    if overlap and len(living) >= MOST_TOKENS:
        message = (
            f"{MOST_TOKENS} tokens of this binding overlap: wait for one to end, or rotate without overlap"
        )
        return Refusal(Code.LIMIT_REACHED, message)
    ends = Instant(now + overlap * SECOND)
    for token in living:
        token.rotated_at = ends if token.rotated_at is None else min(token.rotated_at, ends)
        token.expires_at = min(
            token.expires_at, token.rotated_at
        )  # so its delegate sees, in an overlap, when it ends
    tx.facts.ended.update([delegation.id] if overlap == 0 else [])
    issued = issue(tx, delegation, binding, keys, now)
    details = {**issued.details(), "overlapSeconds": overlap}
    append(
        tx,
        [to_one(Event.TOKEN_ROTATED, delegation, caller, now, details, binding.agent_id)],
    )
    return issued


def revoke_binding(tx: Tx, caller: Caller, binding_id: BindingId, reason: str | None) -> Binding | Refusal:
    """Ends one binding at once, by either party; a repeat answers like the first."""
    caller.require(Permission.BIND)  # before anybody looks: who lacks it learns of no binding
    if reason is not None and (refusal := refuse_text("reason", reason, longest=LONGEST_TEXT, empty=True)):
        return refusal
    found = find_binding_locked(tx, binding_id, visible_to(caller.tenant_id))
    if found is None:
        return Refusal(Code.NOT_FOUND, "bindingId names no binding that you can see", ("bindingId",))
    binding, delegation = found
    side = party(delegation, caller.tenant_id)
    if side is Party.DELEGATOR:
        caller.require(Permission.END)
    if binding.revoked_at is not None:
        return binding
    now = tx.now()
    binding.revoked_at = now
    tx.facts.ended.add(delegation.id)
    details = {"bindingId": binding.id, "by": side.value, "reason": reason}
    append(tx, [to_both(Event.BINDING_REVOKED, delegation, caller, now, details, binding.agent_id)])
    return binding


def bind(tx: Tx, delegation: Delegation, agent_id: AgentId, now: Instant) -> Binding:
    """The row of a new binding."""
    binding = Binding(
        id=BindingId(new_id("bnd")), delegation_id=delegation.id, agent_id=agent_id, created_at=now
    )
    tx.add(binding)
    tx.flush()
    return binding


def issue(tx: Tx, delegation: Delegation, binding: Binding, keys: Keys, now: Instant) -> Issued:
    """A new token: 30 days at most, and never past its delegation; its prefix says where it leads."""
    minted = keys.mint(TokenKind.TEST if delegation.environment == "SANDBOX" else TokenKind.LIVE)
    token = ScopedToken(
        id=TokenId(new_id("tok")),
        binding_id=binding.id,
        token_hash=minted.hash,
        prefix=minted.prefix,
        created_at=now,
        expires_at=Instant(min(now + TOKEN_LIVES, delegation.expires_at)),
    )
    tx.add(token)
    return Issued(binding, token, minted)


def open_at(now: Instant) -> ColumnElement[bool]:
    """Whether a token, by itself, still opens anything."""
    unrotated = or_(ScopedToken.rotated_at.is_(None), ScopedToken.rotated_at > now)
    return and_(ScopedToken.expires_at > now, unrotated)


def _refuse_dead(tx: Tx, binding: Binding, delegation: Delegation) -> Refusal | None:
    if refusal := _refuse_inactive(tx, delegation, ("bindingId",)):
        return refusal
    if binding.revoked_at is not None:
        message = "bindingId: the binding is revoked and never comes back: create another"
        return Refusal(Code.WRONG_STATE, message, ("bindingId",))
    return None


def _refuse_inactive(tx: Tx, delegation: Delegation, path: tuple[str, ...]) -> Refusal | None:
    status = status_at(delegation, tx.now())
    if status is Status.ACTIVE:
        return None
    return Refusal(Code.WRONG_STATE, f"{path[0]}: the delegation is {status}, not ACTIVE", path)
