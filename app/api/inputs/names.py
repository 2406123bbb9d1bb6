"""Ids as clients give them."""

from collections.abc import Callable
from typing import TypeVar

from app.rules import ids

Id = TypeVar("Id", bound=str)

_PREFIXES: dict[Callable[[str], str], str] = {
    ids.TenantId: "ten",
    ids.ApiKeyId: "key",
    ids.AgentId: "agt",
    ids.UpstreamId: "ups",
    ids.ActionId: "act",
    ids.DelegationId: "dlg",
    ids.BindingId: "bnd",
    ids.DispatchId: "dsp",
    ids.PairId: "par",
    ids.EndpointId: "whk",
    ids.DeliveryId: "whd",
}


def as_id(kind: Callable[[str], Id], text: str) -> Id:
    """An id from a client. What has not the form of one becomes one that names nothing, and is answered alike."""
    prefix = _PREFIXES[kind]
    return kind(text if ids.prefix_of(text) == prefix else f"{prefix}_00000000-0000-0000-0000-000000000000")


def maybe_id(kind: Callable[[str], Id], text: str | None) -> Id | None:
    """The same, where it may be left out."""
    return None if text is None else as_id(kind, text)
