"""`crossgrant`: serve, migrate, tenants, keys, schema, listen, trigger. What fails says so in one line and exits with 2."""

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from importlib.metadata import version
from ipaddress import ip_address
from typing import Annotated, Any, NoReturn, TypeVar

import orjson
import typer
import uvloop

from app import demo
from app.api.schema import print_sdl
from app.delegations.trust import report_trust
from app.identity.api_keys import grant_key
from app.identity.plans import load_plans
from app.identity.tenants import create_tenant
from app.listen.asking import Stopped
from app.listen.command import listen_command
from app.listen.trigger import trigger_command
from app.main import running
from app.rules.errors import Refusal, Unavailable
from app.rules.ids import AgentId, BootId
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from app.serve import listen, serve
from app.settings import Settings, SettingsError, load, secret, unknown_names
from app.store.engine import Store, StoreError
from app.store.installation import make_store, prepare
from app.store.keys import Keys, new_id
from app.telemetry import configure_logging, get_logger

T = TypeVar("T")

log = get_logger()

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
tenants = typer.Typer(no_args_is_help=True, help="Tenants: the organizations that lend and borrow.")
agents = typer.Typer(no_args_is_help=True, help="Agents: how far each is trusted.")
api_keys = typer.Typer(no_args_is_help=True, help="API keys, also with the roles that GraphQL never gives.")
cli.add_typer(tenants, name="tenant")
cli.add_typer(api_keys, name="key")
cli.add_typer(agents, name="agent")
cli.command(name="listen")(listen_command)
cli.command(name="trigger")(trigger_command)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crossgrant {version('crossgrant')}")
        raise typer.Exit


@cli.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the release's number."),
    ] = False,
) -> None:
    pass  # each option acts by itself


def main() -> None:
    """The entry point."""
    try:
        cli()
    except (SettingsError, StoreError, Unavailable, Stopped) as error:
        _fail(str(error))


@cli.command(name="serve")
def serve_command(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")
    ] = 8000,
    with_demo: Annotated[
        bool, typer.Option("--demo", help="Two tenants, an upstream and the lines to try them with.")
    ] = False,
) -> None:
    """Serve the gateway. SQLite in ./data, unless CROSSGRANT_DATABASE_URL names a PostgreSQL."""
    settings = load()
    configure_logging(settings.log_level)
    for line in unknown_names():
        log.warning("settings.unknown", advice=line)
    if settings.database_url is not None and settings.secret_key is None:
        advice = (
            f"set CROSSGRANT_SECRET_KEY, the same on every node: this one uses {settings.data_dir}/secret.key"
        )
        log.warning("settings.secret_key_unset", advice=advice)
    uvloop.run(_serve(demo.allowing_loopback(settings) if with_demo else settings, host, port, with_demo))


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


@cli.command()
def migrate() -> None:
    """Bring the database's schema up to date. `serve` does so too."""
    _with_store(lambda store, keys: _nothing())
    print("The database is up to date.")


@cli.command()
def schema() -> None:
    """Print the GraphQL schema."""
    print(print_sdl())


@tenants.command(name="create")
def create(
    slug: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens: acme-corp.")],
    name: Annotated[str, typer.Option(help="What people call it.")],
    plan: Annotated[str, typer.Option(help="Its plan.")] = "standard",
    as_json: AsJson = False,
) -> None:
    """Create a tenant and an owner's API key, which is shown once."""

    async def run(store: Store, keys: Keys) -> dict[str, str]:
        minted = keys.mint(TokenKind.API_KEY)
        tenant = _or_fail(await store.write(create_tenant, slug, name, plan, minted, load_plans(load())))
        return {"tenantId": tenant.id, "slug": tenant.slug, "apiKey": minted.text}

    _show(_with_store(run), as_json)


@api_keys.command(name="create")
def create_key_command(
    tenant: Annotated[str, typer.Argument(help="The tenant's slug or id.")],
    role: Annotated[
        Role, typer.Option(help="What the key may do.", metavar="|".join(Role), case_sensitive=False)
    ],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "from the command line",
    subject: Annotated[str, typer.Option(help="Who it speaks for: a user or a service.")] = "command-line",
    as_json: AsJson = False,
) -> None:
    """Create an API key with any role, which is shown once."""

    async def run(store: Store, keys: Keys) -> dict[str, str]:
        minted = keys.mint(TokenKind.API_KEY)
        key = _or_fail(await store.write(grant_key, tenant, name, subject, role, minted))
        return {"apiKeyId": key.id, "tenantId": key.tenant_id, "role": key.role, "apiKey": minted.text}

    _show(_with_store(run), as_json)


@agents.command(name="trust")
def trust(
    agent: Annotated[str, typer.Argument(help="The agent's id.")],
    score: Annotated[int, typer.Argument(help="0 to 100.")],
    reason: Annotated[
        str, typer.Option(help="Why; its tenant sees it in its log.")
    ] = "from the command line",
    as_json: AsJson = False,
) -> None:
    """Set an agent's trust score, also while a server runs: it counts at the next dispatch."""

    async def run(store: Store, _keys: Keys) -> dict[str, object]:
        row = _or_fail(await store.write(report_trust, None, AgentId(agent), score, reason))
        return {"agentId": row.id, "tenantId": row.tenant_id, "trustScore": row.trust_score}

    _show(_with_store(run), as_json)


def _with_store(use: Callable[[Store, Keys], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        for line in unknown_names():
            _say(line)
        settings = load()
        keys = Keys(secret(settings))
        store = make_store(settings, BootId(new_id("bot")), serves=False)
        try:
            await prepare(store, keys)
            return await use(store, keys)
        finally:
            await store.close()

    return asyncio.run(run())


async def _nothing() -> None:
    return None


def _or_fail(result: T | Refusal) -> T:
    if isinstance(result, Refusal):
        _fail(result.message)
    return result


def _show(values: Mapping[str, object], as_json: bool) -> None:
    _say(f"made in {load().store_name}")  # not on stdout, which is for programs
    if as_json:
        print(orjson.dumps(dict(values)).decode())
        return
    for name, value in values.items():
        print(f"{name}: {value}")


def _fail(message: str) -> NoReturn:
    _say(message)
    sys.exit(2)


def _say(line: str) -> None:
    print(f"crossgrant: {line}", file=sys.stderr)
