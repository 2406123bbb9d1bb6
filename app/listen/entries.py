"""An event's entry, byte by byte as its tenant's ledger has it: what a webhook of the gateway's own would carry."""

from dataclasses import dataclass
from typing import Any

from app.listen.asking import Stopped
from app.rules.entries import canonical, leaf_hash
from app.rules.ids import EntryId
from app.rules.webhooks import body_of

#: Whatever is hashed, and the hash.
NODE = (
    "id seq pairId event occurredAt dispatchId actor action outcome code details leafHash "
    "delegation { id } actingTenant { id } targetTenant { id } actingAgent { id }"
)
_LINKS = ("delegation", "actingTenant", "targetTenant", "actingAgent")


@dataclass(frozen=True, slots=True)
class Entry:
    """One event. `form` is the entry as JSON by RFC 8785; `cursor` is its place in the log."""

    id: EntryId
    event: str
    time: str
    form: str
    cursor: str

    def body(self, source: str) -> bytes:
        """The body of its webhook. `source` is the gateway's address."""
        return body_of(source, self.id, self.event, self.time, self.form)


def entry_of(edge: dict[str, Any], tenant_id: str) -> Entry:
    """The entry of an edge with NODE. Raises Stopped where it is none, or has more to it than we know by its hash."""
    try:
        return _entry(edge["node"], edge["cursor"], tenant_id)
    except (LookupError, TypeError, AttributeError, ValueError):
        raise Stopped("the gateway sent an event that is no entry of a log: is it a Crossgrant?") from None


def _entry(node: dict[str, Any], cursor: str, tenant_id: str) -> Entry:
    links = {f"{name}Id": (node[name] or {}).get("id") for name in _LINKS}
    plain = {name: value for name, value in node.items() if name not in {*_LINKS, "leafHash"}}
    form = canonical({**plain, **links, "tenantId": tenant_id})
    if leaf_hash(form) != node["leafHash"]:
        raise Stopped(
            f"the entry {node['id']} is not what its leafHash says: the gateway is of another release, "
            "use the crossgrant of that one"
        )
    entry = Entry(EntryId(node["id"]), node["event"], node["occurredAt"], form.decode(), cursor)
    # They are printed and sent as headers; a gateway's own are plain.
    if not all(text.isprintable() for text in (entry.id, entry.event, entry.time, entry.cursor)):
        raise ValueError("control characters")
    return entry
