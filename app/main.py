"""The composition root: from settings to a running process.

Read top to bottom it is the house: a store, what hangs on it, the endpoints, and what runs beside the requests.
"""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import func, select
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.callbacks import Callbacks
from app.api.context import Gateway
from app.api.live import Live
from app.api.schema import make_schema, make_view
from app.delegations.advising import note_uses
from app.delegations.endings import sweep
from app.delivery.callbacks.sending import Post
from app.delivery.webhooks.courier import Courier, egress_for_webhooks
from app.delivery.webhooks.turn import release_all
from app.delivery.webhooks.upkeep import purge_deliveries, purge_endpoints
from app.edge.methods import only
from app.egress.client import Egress
from app.identity.api_keys import touch_keys
from app.identity.once import purge_creations
from app.identity.plans import Plans, check_plans, load_plans
from app.ledger.wake import Wake
from app.proxy.assertion import Assertions
from app.proxy.committer import Committer
from app.proxy.destinations import Destinations
from app.proxy.endpoint import PREFIX, Proxy
from app.proxy.inflight import Inflight
from app.proxy.judging import Judges
from app.proxy.perform import Performer
from app.proxy.settle import Settler
from app.proxy.upkeep import flush_refusals, purge_keys
from app.rules.entries import Outcome
from app.rules.ids import BootId
from app.rules.lifecycle import Status
from app.settings import Settings, SettingsError, secret
from app.store.engine import Store, Tx
from app.store.installation import make_store, prepare
from app.store.keys import Keys, new_id
from app.store.tables import Delegation
from app.telemetry import (
    AGENT_SHARE_ACTIVE,
    AGENT_SHARE_CROSS_TENANT_SUCCESS_RATE,
    DISPATCHES,
    IN_FLIGHT,
    get_logger,
)
from app.web.app import assemble
from app.web.health import healthz, readyz
from app.web.metrics import metrics

_SWEEP = 1.0  # seconds between records of what the clock has done
_UPKEEP = 5.0  # seconds between flushes of what may wait, and between purges of what is over

log = get_logger()


@dataclass(frozen=True, slots=True)
class Process:
    """A process that serves. `closing` ends what would wait for ever, when the process is about to stop."""

    app: ASGIApp
    gateway: Gateway
    closing: Callable[[], None]


@asynccontextmanager
async def running(settings: Settings, public_url: str) -> AsyncIterator[Process]:
    """The gateway, with everything that it needs to run. Raises SettingsError or StoreError where it cannot."""
    keys = Keys(secret(settings))
    plans = load_plans(settings)
    boot_id = BootId(new_id("bot"))
    with _alone(settings):
        store = make_store(settings, boot_id, serves=True)
        try:
            await prepare(store, keys)
            await store.read(check_plans, plans, settings.plans)
            async with _serving(settings, keys, store, boot_id, public_url, plans) as process:
                yield process
        finally:
            await store.close()


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    # Whoever serves from a folder settles what earlier processes left PENDING: there must be no other.
    if settings.database_url is not None:
        yield
        return
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (settings.data_dir / "serve.lock").open("w")
    except OSError as error:
        reason = f"cannot use {settings.data_dir}: {error.strerror}"
        raise SettingsError(f"CROSSGRANT_DATA_DIR: {reason}") from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(
                f"CROSSGRANT_DATA_DIR: another gateway serves from {settings.data_dir.resolve()}: "
                "stop it, or choose another folder"
            ) from None
        yield


@asynccontextmanager
async def _serving(
    settings: Settings, keys: Keys, store: Store, boot_id: BootId, public_url: str, plans: Plans
) -> AsyncIterator[Process]:
    wake = Wake(store)
    store.on_commit = wake.committed
    inflight = Inflight(store)
    wake.on_ended = inflight.suspect
    settler = Settler(store, boot_id)
    committer = Committer(store, boot_id, Destinations(keys), settler.doubt)
    egress = Egress(settings.egress_allow)
    assertions = Assertions(keys.signing, public_url)
    webhook_egress = egress_for_webhooks(settings.egress_allow, require_https=settings.require_https)
    # Of their own, too: routers that hang take no connection from upstreams.
    callback_egress = Egress(settings.egress_allow, require_https=settings.require_https)
    judges = Judges(committer)
    performer = Performer(committer, judges, inflight, egress, keys, assertions)
    gateway = Gateway(settings, store, keys, wake, performer, judges, public_url, plans, {})
    courier = Courier(store, webhook_egress, gateway.sender)
    wake.on_appended = courier.appended
    schema = make_schema()
    live = Live(gateway, schema)
    callbacks = Callbacks(gateway, schema, live, Post(callback_egress), boot_id)
    app = assemble(
        {
            "/graphql": make_view(gateway, schema, live, callbacks),
            PREFIX: Proxy(store, performer, keys, settings.trusted_proxies),
            "/.well-known/jwks.json": only(_document(assertions.jwks()), "GET"),
            "/healthz": healthz(),
            "/readyz": readyz(lambda: _ready(store)),
            "/metrics": metrics(settings.metrics_token, lambda: _refresh(store, inflight)),
        },
        lifespan=_no_lifespan,
    )
    await store.hold()
    await settler.settle_abandoned()
    if settings.database_url is None:  # nobody else serves from the folder
        await store.write(release_all)
    jobs = [
        committer.run(),
        settler.run_doubts(),
        settler.run_abandoned(),
        wake.poll(),
        wake.tell(),
        wake.listen(),
        inflight.poll(),
        courier.run(),
        callbacks.run(),
        _every(_SWEEP, lambda: _until_none(store, sweep)),
        _every(_UPKEEP, lambda: _upkeep(gateway)),
        _every(_UPKEEP, lambda: _purge(store)),
    ]
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        yield Process(app, gateway, wake.close)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(Exception):  # what it records may be lost with a crash as well
            await _upkeep(gateway)
        judges.close()
        await callback_egress.close()
        await webhook_egress.close()
        await egress.close()


async def _every(seconds: float, job: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await job()
        except Exception:
            log.exception("upkeep.failed")  # the next round tries again


async def _until_none(store: Store, flow: Callable[[Tx], int]) -> None:
    while await store.write(flow):
        pass


async def _upkeep(gateway: Gateway) -> None:
    used = dict(gateway.used_keys)
    gateway.used_keys.clear()
    if used:
        await gateway.store.write(touch_keys, used)
    uses = dict(gateway.performer.used)
    gateway.performer.used.clear()
    if uses:
        await gateway.store.write(note_uses, uses)
    await _until_none(gateway.store, flush_refusals)


async def _purge(store: Store) -> None:
    # Beside the rest of the upkeep: however much there is to drop, nothing waits for it, nor does the process's end.
    for flow in (purge_keys, purge_creations, purge_endpoints, purge_deliveries):
        await _until_none(store, flow)


async def _ready(store: Store) -> str | None:
    try:
        await store.read(_count_active)
    except Exception:
        log.exception("readiness.failed")
        return "The store does not answer."
    return None


async def _refresh(store: Store, inflight: Inflight) -> None:
    IN_FLIGHT.set(len(inflight))
    AGENT_SHARE_ACTIVE.set(await store.read(_count_active))
    samples = [sample for metric in DISPATCHES.collect() for sample in metric.samples]
    ended = sum(sample.value for sample in samples)
    completed = sum(sample.value for sample in samples if sample.labels["outcome"] == Outcome.COMPLETED)
    AGENT_SHARE_CROSS_TENANT_SUCCESS_RATE.set(completed / ended if ended else 0.0)


def _count_active(tx: Tx) -> int:
    active = Delegation.status == Status.ACTIVE, Delegation.expires_at > tx.now()
    return tx.scalar(select(func.count()).select_from(Delegation).where(*active)) or 0


def _document(body: bytes) -> ASGIApp:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"public, max-age=300"),
    ]

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


async def _no_lifespan(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise NotImplementedError("whoever runs this application started it already: see `running`")
