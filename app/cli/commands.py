"""What can be typed. Nothing that takes time is loaded here: each command loads what does it when it is called."""

from typing import Annotated

import typer

from app.cli.interrupts import loading
from app.cli.saying import told
from app.cli.typed import role as a_role
from app.cli.typed import whole_number
from app.rules.permissions import Role

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The gateway, and what its operators and developers need. What fails says so in one line and exits with 2.",
)
tenants = typer.Typer(no_args_is_help=True, help="Tenants: the organizations that lend and borrow.")
keys = typer.Typer(no_args_is_help=True, help="API keys, also with the roles that GraphQL never gives.")
agents = typer.Typer(no_args_is_help=True, help="Agents: how far each is trusted.")
cli.add_typer(tenants, name="tenant")
cli.add_typer(keys, name="key")
cli.add_typer(agents, name="agent")

Tenant = Annotated[str, typer.Argument(help="The tenant's slug or id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
AsArray = Annotated[bool, typer.Option("--json", help="Print one JSON array.")]
Url = Annotated[
    str | None, typer.Option(help="The gateway's address; http://127.0.0.1:8000, or CROSSGRANT_URL.")
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        help="A key of the tenant. Better in CROSSGRANT_API_KEY: others on this machine see what you type."
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        with loading():
            from importlib.metadata import version
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


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            parser=whole_number(65535), metavar="PORT", help="The port to listen on; 0 takes a free one."
        ),
    ] = 8000,
    with_demo: Annotated[
        bool, typer.Option("--demo", help="Two tenants, an upstream and the lines to try them with.")
    ] = False,
) -> None:
    """Serve the gateway. SQLite in ./data, unless CROSSGRANT_DATABASE_URL names a PostgreSQL."""
    with loading():
        from app.cli.serving import run
    run(host, port, with_demo=with_demo)


@cli.command()
def migrate() -> None:
    """Bring the database's schema up to date. `serve` does so too."""
    with loading():
        from app.cli.store import migrate
    migrate()


@cli.command()
def schema() -> None:
    """Print the GraphQL schema."""
    with loading():
        from app.api.schema import print_sdl
    print(print_sdl())


@cli.command()
def listen(
    url: Url = None,
    api_key: ApiKey = None,
    events: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these: names or globs such as delegation.*, separated by commas; may be repeated."
        ),
    ] = None,
    forward_to: Annotated[
        str | None, typer.Option(help="POST each event there, once, signed: http://localhost:4242/hooks.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Begin after this cursor of the log, not now.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show a tenant's events as they come, and forward them to this machine as its webhooks, until Ctrl-C."""
    with loading():
        from app.listen.asking import Stopped
        from app.listen.command import listen_command
        from app.settings import SettingsError
    with told(SettingsError, Stopped):
        listen_command(url, api_key, events, forward_to, after, as_json=as_json)


@cli.command()
def trigger(
    event: Annotated[str | None, typer.Argument(help="Its name, such as delegation.revoked.")] = None,
    forward_to: Annotated[
        str | None, typer.Option(help="POST a sample of it there, signed as `listen` signs.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Have the gateway send a webhook.test to this endpoint (whk_…).")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    list_events: Annotated[bool, typer.Option("--list", help="Print the names of all events.")] = False,
) -> None:
    """Try what receives events: a sample of any to this machine, which stands in no log; or a `webhook.test`, which
    stands in your tenant's log, to an endpoint of yours and to whoever listens to `webhook.test`.
    """
    if list_events:
        with loading():
            from app.rules.entries import Event
        typer.echo("\n".join(Event))
        return
    with loading():
        from app.listen.asking import Stopped
        from app.listen.trigger import trigger_command
        from app.settings import SettingsError
    with told(SettingsError, Stopped):
        trigger_command(event, forward_to, endpoint, url, api_key)


@tenants.command(name="create")
def create_tenant(
    slug: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens: acme-corp.")],
    name: Annotated[str, typer.Option(help="What people call it.")],
    plan: Annotated[str, typer.Option(help="Its plan.")] = "standard",
    as_json: AsJson = False,
) -> None:
    """Create a tenant and an owner's API key, which is shown once."""
    with loading():
        from app.cli.tenants import create
    create(slug, name, plan, as_json=as_json)


@tenants.command(name="list")
def list_tenants(as_json: AsArray = False) -> None:
    """Show every tenant with its plan, and how many delegations it has offered of those that the plan allows."""
    with loading():
        from app.cli.tenants import show_tenants
    show_tenants(as_json=as_json)


@tenants.command(name="plan")
def set_plan(
    tenant: Tenant,
    plan: Annotated[
        str, typer.Argument(help="One in the file of plans; ours has standard, trial and enterprise.")
    ],
    as_json: AsJson = False,
) -> None:
    """Give a tenant another plan, also while a server runs: it counts at the next offer, and ends nothing."""
    with loading():
        from app.cli.tenants import set_plan
    set_plan(tenant, plan, as_json=as_json)


@keys.command(name="create")
def create_key(
    tenant: Tenant,
    role: Annotated[Role, typer.Option(help="What the key may do.", metavar="|".join(Role), parser=a_role)],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "from the command line",
    subject: Annotated[str, typer.Option(help="Who it speaks for: a user or a service.")] = "command-line",
    as_json: AsJson = False,
) -> None:
    """Create an API key with any role, which is shown once."""
    with loading():
        from app.cli.keys import create
    create(tenant, role, name, subject, as_json=as_json)


@keys.command(name="list")
def list_keys(tenant: Tenant, as_json: AsArray = False) -> None:
    """Show a tenant's API keys, those that have ended too; never the keys themselves."""
    with loading():
        from app.cli.keys import show_keys
    show_keys(tenant, as_json=as_json)


@keys.command(name="revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `key list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """End an API key at once, and the streams that it has open; a tenant's last owner's key stays."""
    with loading():
        from app.cli.keys import revoke
    revoke(key_id, as_json=as_json)


@agents.command()
def trust(
    agent: Annotated[str, typer.Argument(help="The agent's id.")],
    score: Annotated[int, typer.Argument(parser=whole_number(100), help="0 to 100.")],
    reason: Annotated[
        str, typer.Option(help="Why; its tenant sees it in its log.")
    ] = "from the command line",
    as_json: AsJson = False,
) -> None:
    """Set an agent's trust score, also while a server runs: it counts at the next dispatch."""
    with loading():
        from app.cli.agents import trust
    trust(agent, score, reason, as_json=as_json)
