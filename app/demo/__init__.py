"""The demonstration: two tenants, a service that really runs, and the lines that walk through the whole product."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from ipaddress import ip_network
from pathlib import Path
from string import Template
from typing import TypeVar

import uvicorn
from sqlalchemy import select
from typing_extensions import override

from app.api.context import Gateway
from app.demo.service import SECRET, receipts
from app.identity.callers import Caller, find_caller
from app.identity.tenants import create_tenant
from app.inventory.actions import define_action
from app.inventory.agents import AgentDraft, register_agent
from app.inventory.upstreams import Credential, UpstreamChanges, register_upstream, update_upstream
from app.rules.errors import Refusal
from app.rules.ids import DAY, Instant
from app.rules.instants import rfc3339
from app.rules.tokens import TokenKind
from app.settings import Settings, SettingsError
from app.store.engine import Tx, wall_clock
from app.store.keys import Minted
from app.store.tables import Upstream

T = TypeVar("T")

_SLOW = 5  # seconds that a report takes: time to revoke

_ACTIONS = (
    ("receipts:write", "POST", "/v1/receipts"),
    ("receipts:read", "GET", "/v1/receipts/{id}"),
    ("reports:read", "GET", "/v1/reports/{id}"),
)


@dataclass(frozen=True, slots=True)
class _Demo:
    """What a restart shows again. The database could not tell the keys: it holds hashes."""

    acme_key: str
    globex_key: str
    globex_id: str
    acme_agent: str
    globex_agent: str
    port: int


def allowing_loopback(settings: Settings) -> Settings:
    """The settings with the demo's own service in reach."""
    return settings.model_copy(update={"egress_allow": (*settings.egress_allow, ip_network("127.0.0.1/32"))})


@asynccontextmanager
async def running(gateway: Gateway, address: str) -> AsyncIterator[str]:
    """Runs the demo's service and yields the lines to print."""
    path = gateway.settings.data_dir / "demo.json"
    known = _read(path)
    with _listening(known.port if known else 0) as listening:
        port = listening.getsockname()[1]
        demo = known or await _set_up(gateway, port)
        if demo.port != port:
            demo = await _move(gateway, demo, port)
        _write(path, json.dumps(asdict(demo)))
        walk = gateway.settings.data_dir / "walk.sh"
        script = _walk(demo, address)
        _write(walk, script)
        service = _Service(uvicorn.Config(receipts(), log_config=None, lifespan="off"))
        serving = asyncio.ensure_future(service.serve([listening]))
        try:
            yield f"{script}\nAll of this at once: bash {walk}\nCtrl-C stops the gateway; {gateway.settings.data_dir} keeps what it knows."
        finally:
            service.should_exit = service.force_exit = True  # nobody is left who would hear its answers
            await serving


class _Service(uvicorn.Server):
    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the gateway takes them


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:  # taken since the last start
        return socket.create_server(("127.0.0.1", 0))


async def _set_up(gateway: Gateway, port: int) -> _Demo:
    acme, globex = gateway.keys.mint(TokenKind.API_KEY), gateway.keys.mint(TokenKind.API_KEY)
    return await gateway.store.write(_create, gateway, acme, globex, port)


def _create(tx: Tx, gateway: Gateway, acme_key: Minted, globex_key: Minted, port: int) -> _Demo:
    acme = _tenant(tx, gateway, "acme", "Acme", acme_key)
    globex = _tenant(tx, gateway, "globex", "Globex", globex_key)
    lent = AgentDraft("receipts", "Keeps Acme's receipts", [scope for scope, _, _ in _ACTIONS], None, [])
    acting = AgentDraft("bookkeeper", "Does Globex's books", [], None, [])
    _upstream(tx, gateway, acme, port)
    return _Demo(
        acme_key.text,
        globex_key.text,
        globex.tenant_id,
        _made(register_agent(tx, acme, lent)).id,
        _made(register_agent(tx, globex, acting)).id,
        port,
    )


def _tenant(tx: Tx, gateway: Gateway, slug: str, name: str, key: Minted) -> Caller:
    created = create_tenant(tx, slug, name, "standard", key, gateway.plans)
    if isinstance(created, Refusal):
        raise SettingsError(
            f"--demo: {created.message}; demo.json, which held its keys, is gone: use another folder"
        )
    tx.flush()
    caller = find_caller(tx, key.hash)
    assert caller is not None, "it was created above"
    return caller


def _upstream(tx: Tx, gateway: Gateway, acme: Caller, port: int) -> None:
    upstream = _made(
        register_upstream(
            tx,
            acme,
            gateway.keys,
            gateway.settings.egress_allow,
            name="receipts-api",
            kind="REST",
            base_url=f"http://127.0.0.1:{port}",
            credential=Credential("Authorization", f"Bearer {SECRET}"),
        )
    )
    tx.flush()
    for scope, method, path in _ACTIONS:
        _made(
            define_action(
                tx,
                acme,
                upstream.id,
                scope=scope,
                method=method,
                path=path,
                cost_units=1,
                response_mode="BUFFERED",
                idempotent=False,
            )
        )


def _made(result: T | Refusal) -> T:
    assert not isinstance(result, Refusal), result
    return result


async def _move(gateway: Gateway, demo: _Demo, port: int) -> _Demo:
    await gateway.store.write(_moved, gateway, gateway.keys.hash(demo.acme_key), port)
    return _Demo(**{**asdict(demo), "port": port})


def _moved(tx: Tx, gateway: Gateway, key_hash: str, port: int) -> None:
    acme = find_caller(tx, key_hash)
    if acme is None:
        raise SettingsError("--demo: the key in demo.json has ended: use another folder")
    upstream = tx.scalars(select(Upstream).where(Upstream.tenant_id == acme.tenant_id)).one()
    _made(
        update_upstream(
            tx,
            acme,
            gateway.keys,
            gateway.settings.egress_allow,
            upstream.id,
            UpstreamChanges(f"http://127.0.0.1:{port}", Credential("Authorization", f"Bearer {SECRET}")),
        )
    )


def _read(path: Path) -> _Demo | None:
    try:
        return _Demo(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise SettingsError(f"--demo: {path} is damaged: use another folder") from None


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _walk(demo: _Demo, address: str) -> str:
    template = Template(files("app.demo").joinpath("walk.sh.template").read_text())
    expires_at = rfc3339(Instant(wall_clock() + 30 * DAY))
    return template.safe_substitute(asdict(demo), gateway=address, expires_at=expires_at)
