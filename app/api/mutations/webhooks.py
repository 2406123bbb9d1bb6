"""Webhooks: endpoints, their secrets, and what is sent because somebody asks."""

from functools import partial
from typing import Annotated

import strawberry

from app.api.context import Info
from app.api.creating import already_issued, create
from app.api.described import argument, field, object_type
from app.api.inputs.names import as_id
from app.api.inputs.webhooks import (
    CreateWebhookEndpointInput,
    RecoverDeliveriesInput,
    RedeliverInput,
    RotateWebhookSecretInput,
    UpdateWebhookEndpointInput,
)
from app.api.types.payloads import (
    DeletedPayload,
    RecoverDeliveriesPayload,
    WebhookDeliveryPayload,
    WebhookEndpointPayload,
)
from app.api.types.webhooks import WebhookDelivery, WebhookEndpoint
from app.delivery.webhooks.again import missed, recover, redeliver, send_test
from app.delivery.webhooks.endpoints import (
    create_endpoint,
    delete_endpoint,
    rotate_secret,
    update_endpoint,
)
from app.identity.once import Repeat
from app.rules.errors import Refusal
from app.rules.ids import DeliveryId, EndpointId
from app.rules.permissions import Permission
from app.store import tables

_MADE_ALREADY = already_issued("use rotateWebhookSecret, if it is lost")


@object_type
class WebhookMutations:
    """Endpoints and deliveries."""

    @field
    async def create_webhook_endpoint(
        self, info: Info, input: Annotated[CreateWebhookEndpointInput, argument("The new endpoint.")]
    ) -> WebhookEndpointPayload:
        """Have entries of your tenant's log sent somewhere, from now on."""
        gateway, caller = info.context.gateway, info.context.caller
        make = partial(
            create_endpoint, caller=caller, keys=gateway.keys, reach=gateway.reach, asked=input.changes()
        )
        made = await create(
            info.context,
            Permission.WEBHOOKS,
            input,
            make,
            tables.WebhookEndpoint,
            lambda made: made.endpoint.id,
        )
        match made:
            case Refusal():
                return WebhookEndpointPayload.refused(made)
            case Repeat(row):
                payload = WebhookEndpointPayload.refused(_MADE_ALREADY)
                payload.endpoint = None if row.deleted_at else WebhookEndpoint(row=row)
                return payload
        return WebhookEndpointPayload(endpoint=WebhookEndpoint(row=made.endpoint), secret=made.text)

    @field
    async def update_webhook_endpoint(
        self, info: Info, input: Annotated[UpdateWebhookEndpointInput, argument("What changes.")]
    ) -> WebhookEndpointPayload:
        """Change an endpoint of your tenant, halt it, or let it go on."""
        endpoint_id = as_id(EndpointId, input.endpoint_id)
        row = await info.context.write(
            update_endpoint, info.context.caller, info.context.gateway.reach, endpoint_id, input.changes()
        )
        if isinstance(row, Refusal):
            return WebhookEndpointPayload.refused(row)
        return WebhookEndpointPayload(endpoint=WebhookEndpoint(row=row))

    @field
    async def delete_webhook_endpoint(
        self, info: Info, endpoint_id: Annotated[strawberry.ID, argument("The endpoint.")]
    ) -> DeletedPayload:
        """Take an endpoint of your tenant away, with its deliveries."""
        id = await info.context.write(delete_endpoint, info.context.caller, as_id(EndpointId, endpoint_id))
        if isinstance(id, Refusal):
            return DeletedPayload.refused(id)
        return DeletedPayload(deleted_id=strawberry.ID(id))

    @field
    async def rotate_webhook_secret(
        self, info: Info, input: Annotated[RotateWebhookSecretInput, argument("Whose secret.")]
    ) -> WebhookEndpointPayload:
        """Replace an endpoint's secret. Until the overlap ends, everything is signed with both.

        There are two at most: rotating again within the overlap ends the older one at once. So rotate again only when
        every receiver has the new one. A rotation whose answer was lost counts, too.
        """
        made = await info.context.write(
            rotate_secret,
            info.context.caller,
            info.context.gateway.keys,
            as_id(EndpointId, input.endpoint_id),
            input.overlap_seconds,
        )
        if isinstance(made, Refusal):
            return WebhookEndpointPayload.refused(made)
        return WebhookEndpointPayload(endpoint=WebhookEndpoint(row=made.endpoint), secret=made.text)

    @field
    async def test_webhook(
        self, info: Info, endpoint_id: Annotated[strawberry.ID, argument("The endpoint.")]
    ) -> WebhookDeliveryPayload:
        """Send a `webhook.test` to an endpoint of your tenant, whatever its events are."""
        id = as_id(EndpointId, endpoint_id)
        row = await info.context.write(send_test, info.context.caller, info.context.gateway.sender, id)
        return _delivery(row)

    @field
    async def redeliver(
        self, info: Info, input: Annotated[RedeliverInput, argument("What is sent once more.")]
    ) -> WebhookDeliveryPayload:
        """Send a delivery once more, until 90 days after its end; one that is under way is left alone."""
        id = as_id(DeliveryId, input.delivery_id)
        return _delivery(await info.context.write(redeliver, info.context.caller, id))

    @field
    async def recover_deliveries(
        self, info: Info, input: Annotated[RecoverDeliveriesInput, argument("From when on.")]
    ) -> RecoverDeliveriesPayload:
        """Send what has FAILED since then, and what the endpoint wants of the log since then and never had.

        10,000 deliveries at most; ask again for what is left. Deliveries are kept for 90 days after their end: from an
        earlier instant on, what had arrived by then is sent again, too.
        """
        caller, id = info.context.caller, as_id(EndpointId, input.endpoint_id)
        found = await info.context.read(missed, caller, id, input.since)
        sender = info.context.gateway.sender
        count = await info.context.write(recover, caller, sender, id, input.since, found)
        if isinstance(count, Refusal):
            return RecoverDeliveriesPayload.refused(count)
        return RecoverDeliveriesPayload(count=count)


def _delivery(row: tables.WebhookDelivery | Refusal) -> WebhookDeliveryPayload:
    if isinstance(row, Refusal):
        return WebhookDeliveryPayload.refused(row)
    return WebhookDeliveryPayload(delivery=WebhookDelivery(row=row))
