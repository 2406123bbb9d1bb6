"""`crossgrant trigger`: a test of one event, to the local receiver or to an endpoint."""

import asyncio
from difflib import get_close_matches
from typing import TYPE_CHECKING

import typer

from app.egress.client import Egress
from app.listen.asking import ANYWHERE, Gateway, Stopped, ask
from app.listen.command import answered, gateway_at, receiver_at, signing
from app.listen.entries import Entry
from app.listen.forwarding import Receiver, forward, secret_of
from app.rules.entries import Event, canonical
from app.rules.errors import Code
from app.rules.ids import EntryId
from app.rules.retry import Accepted
from app.rules.samples import sample
from app.rules.texts import shown
from app.rules.webhooks import render_secret

if TYPE_CHECKING:
    from app.delivery.webhooks.sending import Ended

_TEST = (
    """mutation ($id: ID!) { testWebhook(endpointId: $id) { delivery { id } userErrors { code message } } }"""
)

#: What a receiver answers that could not verify what it got.
_UNVERIFIED = (400, 401, 403)


def trigger_command(
    event: str | None = None,
    forward_to: str | None = None,
    endpoint: str | None = None,
    url: str | None = None,
    api_key: str | None = None,
) -> None:
    """Sends a sample of an event to this machine, or has an endpoint sent a `webhook.test`. Raises SettingsError or
    Stopped.
    """
    wanted = _event(event)
    gateway = gateway_at(url, api_key)
    match forward_to, endpoint:
        case str(), None:
            receiver = Receiver(receiver_at(forward_to), secret_of(gateway.key))
            typer.echo(signing(render_secret(receiver.secret)))
            _show(wanted, asyncio.run(_forwarded(gateway, receiver, wanted)), receiver)
        case None, str() if wanted is Event.WEBHOOK_TEST:
            typer.echo(f"{wanted}  {asyncio.run(_tested(gateway, endpoint))}")
        case None, str():
            raise Stopped(
                f"--endpoint: an endpoint is sent what stands in the log, and a {wanted} that never was does not: "
                "trigger webhook.test there, or send a sample to your own machine with --forward-to"
            )
        case _:
            raise Stopped(
                "give either --forward-to, an address on this machine, or --endpoint, for a webhook.test"
            )


def _event(name: str | None) -> Event:
    if name is None:
        raise Stopped("EVENT is missing: give one that `crossgrant trigger --list` names")
    try:
        return Event(name)
    except ValueError:
        if "*" in name:
            raise Stopped(
                f"EVENT: {name!r} is a glob: give the name of one event, as in {Event.REVOKED}; "
                "`crossgrant trigger --list` names all"
            ) from None
        near = ", ".join(get_close_matches(name, [*Event], n=3))
        meant = f"did you mean {near}? Else give" if near else "give"
        raise Stopped(
            f"EVENT: {name!r} is no event: {meant} one that `crossgrant trigger --list` names"
        ) from None


async def _forwarded(gateway: Gateway, receiver: Receiver, event: Event) -> "Ended":
    from app.store.engine import wall_clock  # as what forwards does
    from app.store.keys import new_id

    now, id = wall_clock(), EntryId(new_id("aud"))
    made = sample(event, id, now)
    entry = Entry(id, event, made["occurredAt"], canonical(made).decode(), cursor="")
    egress = Egress(ANYWHERE)
    try:
        return await forward(egress, receiver, id, entry.body(gateway.url))
    finally:
        await egress.close()


def _show(event: Event, ended: "Ended", receiver: Receiver) -> None:
    if not isinstance(ended.result, Accepted):
        raise Stopped(f"the receiver has not taken the {event}: {answered(ended)}{_hint(ended, receiver)}")
    typer.echo(f"{event}  {ended.job.delivery_id}  → {answered(ended)}")


def _hint(ended: "Ended", receiver: Receiver) -> str:
    status = ended.told["status"]
    if status is None:
        return f"; is your receiver running at {receiver.url}?"
    if status in _UNVERIFIED:
        return f"; if it could not verify the signature: the secret of this key is {render_secret(receiver.secret)}"
    return ""


async def _tested(gateway: Gateway, endpoint: str) -> str:
    egress = Egress(ANYWHERE)
    try:
        payload = (await ask(egress, gateway, _TEST, id=endpoint))["testWebhook"]
    finally:
        await egress.close()
    for error in payload["userErrors"]:
        raise Stopped(
            f"--endpoint: {_unknown(endpoint) if error['code'] == Code.NOT_FOUND else error['message']}"
        )
    return f"{payload['delivery']['id']}  is on its way: the endpoint's `deliveries` say what became of it"


def _unknown(endpoint: str) -> str:
    return f"your tenant has no endpoint {shown(endpoint)}: `{{ webhookEndpoints {{ id url }} }}` lists them"
