"""`crossgrant listen`: one line for each event, and where it went."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import typer

from app.egress.client import Egress
from app.egress.origins import origin_refusal
from app.listen.asking import ANYWHERE, Gateway, Stopped
from app.listen.entries import Entry
from app.listen.following import Listener, follow, introduce
from app.listen.forwarding import Receiver, forward, secret_of
from app.rules.errors import Refusal
from app.rules.webhooks import refuse_events, render_secret
from app.settings import load_client

if TYPE_CHECKING:
    from app.delivery.webhooks.sending import Ended


def listen_command(
    url: str | None = None,
    api_key: str | None = None,
    events: Sequence[str] | None = None,
    forward_to: str | None = None,
    after: str | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Shows a tenant's events as they come until Ctrl-C. Raises SettingsError or Stopped."""
    gateway = gateway_at(url, api_key)
    wanted = globs_in(events)
    secret = secret_of(gateway.key)
    receiver = Receiver(receiver_at(forward_to), secret) if forward_to is not None else None
    try:
        asyncio.run(_Listening(gateway, receiver, wanted, as_json).run(after, render_secret(secret)))
    except KeyboardInterrupt:
        pass  # the way in which it ends


def gateway_at(url: str | None, api_key: str | None) -> Gateway:
    """The gateway that is meant. Raises SettingsError."""
    settings = load_client(url, api_key)
    return Gateway(settings.url, settings.api_key.get_secret_value())


def globs_in(options: Sequence[str] | None) -> list[str]:
    """The events that are meant; none are all of them. Raises Stopped."""
    if not options:
        return []
    globs = [part.strip() for option in options for part in option.split(",")]
    if isinstance(refusal := refuse_events(globs), Refusal):
        raise Stopped(f"--{refusal.message}")
    return globs


def receiver_at(url: str) -> str:
    """The address that is meant: `localhost:4242/hooks` will do. Raises Stopped."""
    whole = url if "://" in url else f"http://{url}"
    if reason := origin_refusal(whole, ANYWHERE, pushed=True):
        raise Stopped(f"--forward-to {reason}")
    return whole


@dataclass(frozen=True)
class _Listening:
    gateway: Gateway
    receiver: Receiver | None
    events: Sequence[str]
    as_json: bool
    egress: Egress = field(default_factory=lambda: Egress(ANYWHERE))

    async def run(self, after: str | None, secret: str) -> None:
        try:
            listener = await introduce(self.egress, self.gateway)
            after = after or listener.end
            self._print(_begun(self.gateway, listener, secret, after), self._greeting(listener, secret))
            entries = follow(self.gateway, listener, after, self.events, _say)
            async with aclosing(entries):
                async for entry in entries:
                    ended = await self._forward(entry)
                    self._print(_told(entry, ended), _line(entry, ended))
        finally:
            await self.egress.close()

    async def _forward(self, entry: Entry) -> "Ended | None":
        # One after the other: they arrive in the order of the log, and what was shown was sent.
        if self.receiver is None:
            return None
        return await forward(self.egress, self.receiver, entry.id, entry.body(self.gateway.url))

    def _greeting(self, listener: Listener, secret: str) -> str:
        subject = "" if listener.subject.upper() == listener.role else f" (subject {listener.subject})"
        role = f"with a key of the role {listener.role}{subject}"
        lines = [f"Listening to {listener.slug} at {self.gateway.url} {role}. Ctrl-C ends it."]
        if self.receiver is not None:
            lines.append(f"Forwarding {', '.join(self.events) or 'every event'} to {self.receiver.url}.")
        return "\n".join([*lines, signing(secret)])

    def _print(self, told: dict[str, Any], text: str) -> None:
        typer.echo(orjson.dumps(told) if self.as_json else text)


def _begun(gateway: Gateway, listener: Listener, secret: str, after: str) -> dict[str, Any]:
    return {"url": gateway.url, "tenant": listener.slug, "secret": secret, "after": after}


def signing(secret: str) -> str:
    """What a receiver verifies with, for who writes it."""
    return f"The signing secret is {secret}, the same for this API key every time."


def _told(entry: Entry, ended: "Ended | None") -> dict[str, Any]:
    attempt = ended.told if ended else {}
    said = {name: attempt.get(name) for name in ("status", "durationMs", "error")}
    return {"cursor": entry.cursor, **said, "entry": orjson.loads(entry.form)}


def _line(entry: Entry, ended: "Ended | None") -> str:
    shown = f"{entry.time}  {entry.event}  {entry.id}"
    return shown if ended is None else f"{shown}  → {answered(ended)}"


def answered(ended: "Ended") -> str:
    """What came of an attempt, in words."""
    told = ended.told
    if told["status"] is None:
        return str(told["error"])
    redirect = ": redirects are not followed" if 300 <= told["status"] <= 399 else ""
    return f"{told['status']} in {told['durationMs']} ms{redirect}"


def _say(line: str) -> None:
    typer.echo(f"crossgrant: {line}", err=True)
