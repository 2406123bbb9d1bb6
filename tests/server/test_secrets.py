"""Secrets go in and never come out: not from the store, the logs, an error or the metrics (section 4, promise 8).

One installation lives through everything that handles secrets, with every log line on; then whatever it has written
or said is searched for each secret in every spelling that a dump could have.
"""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.api.product import later
from tests.conftest import HEAVY_ON_POSTGRES
from tests.server.client import Answer, ask, data, graphql
from tests.server.conftest import House
from tests.server.holding import dsn_of
from tests.serving import Installation, Member
from tests.upstreams import Answer as Told
from tests.upstreams import Upstream

CREDENTIAL = "canary-credential-3f9c27d1a8e64b50"
SANDBOXES = "canary-sandbox-credential-b7720c4e915d86af"
KEPT = "canary-kept-answer-91d7c0aa52e34f18"
#: What a list may show of a token: enough to tell it from others.
SHOWN = 15


@dataclass
class Said:
    """All that an installation was told in confidence, and all that it said."""

    secrets: dict[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)


@HEAVY_ON_POSTGRES
@pytest.mark.asyncio(loop_scope="session")
async def test_no_secret_comes_out_anywhere(
    tmp_path: Path, database_url: str | None, service: Upstream
) -> None:
    service.play = Told(KEPT.encode(), headers=[("Content-Type", "text/plain")])
    installation = Installation(tmp_path, database_url, more={"log_level": "DEBUG"})
    told = {"credential": CREDENTIAL, "sandbox credential": SANDBOXES, "kept answer": KEPT}
    said = Said({"secret key": installation.secret or "", **told})
    async with installation.serving() as served:
        await live(installation, served.port, service, said)
        places = {
            "metrics": (await ask(served.port, "GET", "/metrics")).body,
            "errors": b"\n".join(answer.body for answer in said.answers),
            "headers": "\n".join(str(answer.headers) for answer in said.answers).encode(),
            **files(tmp_path),  # with the WAL as a crash would leave it
        }
        if database_url is not None:
            places["tables"] = await dumped(installation)
        assert await served.stop() == 0
    places |= {f"{name} at the end": text for name, text in files(tmp_path).items()}

    assert len(said.secrets) >= 10
    assert service.seen[0].header("X-Service-Key") == CREDENTIAL, "it did arrive where it belongs"
    assert any(b"receipts-api" in text for text in places.values()), "the search finds what is there"
    found = [
        f"{name} in {place} as {spelling}"
        for place, text in places.items()
        for name, secret in said.secrets.items()
        for spelling, form in spellings(secret)
        if form in text
    ]
    assert found == []


async def live(installation: Installation, port: int, service: Upstream, said: Said) -> None:
    """Everything that handles secrets, done right and then wrong."""
    acme, globex = await installation.tenant("acme"), await installation.tenant("globex")
    said.secrets |= {"acme's key": acme.key, "globex's key": globex.key}
    lent, actor = await agent(port, acme), await agent(port, globex)
    upstream = await registered(port, acme, service)
    token = await delegated(port, acme, globex, lent, actor, said)
    await mistakes(port, acme, upstream, token, said)


async def agent(port: int, member: Member) -> str:
    payload = await field_of(port, member, "registerAgent", "agent { id }", name="an agent", scopes=["a:b"])
    return str(payload["agent"]["id"])


async def registered(port: int, acme: Member, service: Upstream) -> str:
    credential = {"header": "X-Service-Key", "value": CREDENTIAL}
    made = await field_of(
        port,
        acme,
        "registerUpstream",
        "upstream { id }",
        name="receipts-api",
        kind="REST",
        baseUrl=service.url,
        credential=credential,
        sandboxBaseUrl="http://127.0.0.1:9",
        sandboxCredential={"header": "X-Service-Key", "value": SANDBOXES},
    )
    id = made["upstream"]["id"]
    await field_of(
        port, acme, "defineAction", "action { id }", upstreamId=id, scope="a:b", method="POST", path="/a"
    )
    return str(id)


async def delegated(port: int, acme: Member, globex: Member, lent: str, actor: str, said: Said) -> str:
    """The last token of a delegation, whose every token has been used."""
    offered = await field_of(
        port,
        acme,
        "offerDelegation",
        "offerToken",
        fromAgentId=lent,
        toTenantId=globex.id,
        scopes=["a:b"],
        constraints={"expiresAt": later(1)},
    )
    offer = offered["offerToken"]
    said.answers.append(
        await graphql(port, globex.key, f'{{ offerPreview(offerToken: "{offer}") {{ id }} }}')
    )
    accepted = await field_of(
        port,
        globex,
        "acceptDelegation",
        "scopedToken binding { id }",
        offerToken=offer,
        acceptingAgentId=actor,
        acknowledgeConstraints=True,
    )
    rotated = await field_of(port, globex, "rotateToken", "scopedToken", bindingId=accepted["binding"]["id"])
    key = await field_of(port, globex, "createApiKey", "secret", name="another", role="VIEWER")
    said.secrets |= {
        "offer token": offer,
        "first token": accepted["scopedToken"],
        "second token": rotated["scopedToken"],
        "api key": key["secret"],
    }
    await graphql(port, key["secret"], "{ viewer { subject } }")
    return str(rotated["scopedToken"])


async def mistakes(port: int, acme: Member, upstream: str, token: str, said: Said) -> None:
    """Each secret where it does not belong."""
    bearer = ("Authorization", f"Bearer {token}")
    once = ("Idempotency-Key", "canary")
    for _ in range(2):  # the second is a replay
        assert (await ask(port, "POST", "/proxy/receipts-api/a", [bearer, once], b"{}")).body == KEPT.encode()
    for secret in list(said.secrets.values()):
        shown = [(name, secret) for name in ("X-API-Key", "Cookie", "X-Other", "Traceparent")]
        for target in ("/graphql", "/proxy/receipts-api/a/b", "/metrics"):
            for authorization in (("Authorization", f"Bearer {secret}"), bearer):
                said.answers.append(await ask(port, "POST", target, [*shown, authorization], secret.encode()))
        said.answers.append(await graphql(port, secret, "{ viewer { subject } }"))
        said.answers.append(
            await graphql(port, acme.key, "query ($x: Int!) { nodes(ids: $x) { id } }", x=secret)
        )
        for credential in ({"header": "Host", "value": secret}, {"header": "X", "value": secret + "\n"}):
            for name in ("credential", "sandboxCredential"):
                said.answers.append(await replaced(port, acme, upstream, credential, name))
        if secret.startswith("cg"):  # only what looks like a token of ours can be told from a path
            said.answers.append(await ask(port, "POST", f"/proxy/{secret}/a"))
            said.answers.append(await ask(port, "GET", f"/{secret}?{secret}"))


async def replaced(
    port: int, acme: Member, upstream: str, credential: dict[str, str], name: str = "credential"
) -> Answer:
    mutation = (
        "mutation ($input: UpdateUpstreamInput!) { updateUpstream(input: $input) { userErrors { message } } }"
    )
    return await graphql(port, acme.key, mutation, input={"upstreamId": upstream, name: credential})


async def field_of(port: int, member: Member, mutation: str, wanted: str, **input: object) -> dict[str, Any]:
    """The payload of a mutation that nothing is wrong with."""
    kind = mutation[0].upper() + mutation[1:] + "Input!"
    query = (
        f"mutation ($input: {kind}) {{ {mutation}(input: $input) {{ {wanted} userErrors {{ message }} }} }}"
    )
    payload: dict[str, Any] = await data(port, member.key, query, input=input)
    assert payload["userErrors"] == []
    return payload


def files(folder: Path) -> dict[str, bytes]:
    """All that the installation has written into its folder."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def dumped(installation: Installation) -> bytes:
    """Every row of every table, as text."""
    connection = await asyncpg.connect(dsn_of(installation))
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = [
            row[0]
            for (table,) in tables
            for row in await connection.fetch(f'SELECT row_to_json(t)::text FROM "{table}" t')  # noqa: S608
        ]
    finally:
        await connection.close()
    assert len(rows) > 20
    return "\n".join(rows).encode()


def spellings(secret: str) -> Iterator[tuple[str, bytes]]:
    """A secret, without what lists may show of it, as a dump could spell it."""
    hidden = secret[SHOWN:] if secret.startswith("cg") else secret
    raw = hidden.encode()
    yield "text", raw
    yield "UTF-16", hidden.encode("utf-16-le")
    yield "UTF-16 (big-endian)", hidden.encode("utf-16-be")
    yield "hex", raw.hex().encode()
    yield "hex in capitals", raw.hex().upper().encode()
    yield "reversed", raw[::-1]
    for shift in range(3):  # base64 depends on where in its groups of three a byte stands
        inner = slice(4, -4)
        yield f"base64 + {shift}", b64encode(b"x" * shift + raw)[inner]
        yield f"URL-safe base64 + {shift}", urlsafe_b64encode(b"x" * shift + raw)[inner]


@pytest.mark.asyncio(loop_scope="session")
async def test_a_credential_under_a_wrong_name_is_not_repeated(house: House) -> None:
    member = await house.lending.tenant()
    acme = Member(member.id, "", member.key)
    for name in ("credential", "sandboxCredential"):
        answer = await replaced(house.port, acme, "ups_x", {"header": "X", "vlaue": CREDENTIAL}, name)
        assert answer.json["errors"]
        assert CREDENTIAL not in answer.body.decode()


@pytest.mark.asyncio(loop_scope="session")
async def test_a_token_in_the_path_of_a_refused_call_is_not_recorded(house: House) -> None:
    loan = await house.lending.loan()
    for target in (f"/proxy/{loan.token}/a", f"/proxy/receipts-api/{loan.token}"):
        assert (await ask(house.port, "GET", target, [loan.bearer])).status == 404
    rows = await house.lending.dispatches(loan)
    assert len(rows) == 2
    assert not any(loan.token in row.path + row.upstream_name for row in rows.values())
    for entries in await house.lending.ledgers(loan):
        assert not any(loan.token in str(entry.body) for entry in entries)


def test_the_search_finds_a_secret_in_each_spelling() -> None:
    secret = "cgt_live_" + "A1b2C3d4E5" * 4
    hidden = secret[SHOWN:]
    for form in (hidden.encode(), hidden.encode("utf-16-le"), hidden.encode().hex().encode()):
        assert any(found in b"{" + form + b"}" for _, found in spellings(secret))
    for before in ("", "a", "ab"):
        text = b64encode(f"{before}{hidden}.".encode())
        assert any(found in text for _, found in spellings(secret))
