"""One event to the local receiver: the very request that a webhook endpoint would get, once."""

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.egress.client import Egress
from app.rules.ids import EndpointId, EntryId, TenantId
from app.rules.webhooks import delivery_id

if TYPE_CHECKING:
    from app.delivery.webhooks.sending import Ended

#: A developer looks at it: longer than any handler that answers.
SECONDS = 10.0
#: In the place of an endpoint's id, of which `webhook-id` is made: the same entry has the same one at every start.
_ENDPOINT = EndpointId("crossgrant listen")
_NOBODY = TenantId("")  # attempts are shared between tenants by a gateway, and this is none


def secret_of(key: str) -> bytes:
    """The secret that is signed with, the same for this API key for ever.

    Whoever knows it can neither find the key nor use the gateway: it is an HMAC under the key, whose 256 random bits
    nobody guesses, and its label keeps it apart from whatever else may be made of a key.
    """
    return hmac.digest(key.encode(), b"crossgrant listen: the secret of its webhooks", "sha256")


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where events go on this machine, and the secret that signs them."""

    url: str
    secret: bytes = field(repr=False)


async def forward(egress: Egress, receiver: Receiver, id: EntryId, body: bytes) -> "Ended":
    """Sends it once, whatever becomes of it."""
    from app.delivery.webhooks.sending import Job, attempt  # a gateway's: with it comes the store

    job = Job(
        delivery_id=delivery_id(id, _ENDPOINT),
        endpoint_id=_ENDPOINT,
        tenant_id=_NOBODY,
        claim=0,
        url=receiver.url,
        secrets=(receiver.secret,),
        body=body,
        attempts=[],
        failures=0,
        again=False,
    )
    return await attempt(egress, job, SECONDS)
