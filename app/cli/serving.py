"""`crossgrant serve`."""

import socket
from ipaddress import ip_address

import uvloop

from app import demo
from app.cli.saying import told
from app.main import running
from app.rules.errors import Unavailable
from app.serve import listen, serve
from app.settings import Settings, SettingsError, load, unknown_names
from app.store.engine import StoreError
from app.telemetry import configure_logging, get_logger

log = get_logger()


def run(host: str, port: int, *, with_demo: bool) -> None:
    """Serves until SIGTERM or SIGINT."""
    with told(SettingsError, StoreError, Unavailable):
        settings = load()
        configure_logging(settings.log_level)
        _warn(settings)
        uvloop.run(_serve(demo.allowing_loopback(settings) if with_demo else settings, host, port, with_demo))


def _warn(settings: Settings) -> None:
    for line in unknown_names():
        log.warning("settings.unknown", advice=line)
    if settings.database_url is not None and settings.secret_key is None:
        advice = (
            f"set CROSSGRANT_SECRET_KEY, the same on every node: this one uses {settings.data_dir}/secret.key"
        )
        log.warning("settings.secret_key_unset", advice=advice)


async def _serve(settings: Settings, host: str, port: int, with_demo: bool) -> None:
    with listen(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        here = _called(listening) or address
        if settings.public_url is None and here != address:
            advice = f"clients are told to call {here}: set CROSSGRANT_PUBLIC_URL to what they can call"
            log.warning("settings.public_url_unset", advice=advice)
        async with running(settings, settings.public_url or here) as process:
            print(f"Crossgrant listens on {address}", flush=True)
            if not with_demo:
                await serve(process, listening)
                return
            async with demo.running(process.gateway, here) as lines:
                print(lines, flush=True)
                await serve(process, listening)


def _called(listening: socket.socket) -> str | None:
    """What can be called where the process listens on every address: 0.0.0.0 itself is no address to call."""
    address, port, *_ = listening.getsockname()
    return f"http://localhost:{port}" if ip_address(address).is_unspecified else None
