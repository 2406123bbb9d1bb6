"""What a failure is called: NotSent only where no byte of the request can have left."""

import asyncio
import datetime
import socket
import ssl
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typing_extensions import override

from app.egress.client import Answer, Egress, NotSent, Outbound, Unknown
from app.rules.errors import Code
from tests.egress.peers import (
    LOOPBACK,
    LOOPS,
    OK,
    Book,
    Line,
    Loop,
    Stopwatch,
    answers,
    call,
    get,
    hangs_up_after,
    opened,
    peer,
    silent,
)


async def test_a_closed_port_is_unreachable(egress: Egress) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    outcome = await get(egress, f"http://127.0.0.1:{port}/")
    assert outcome == NotSent(Code.UPSTREAM_UNREACHABLE, "the connection failed: Connection refused")


class Deaf(Book):
    """A resolver that never answers."""

    @override
    async def resolve(self, *args: object, **kwargs: object) -> list[object]:  # type: ignore[override]
        await asyncio.Event().wait()
        return []


@pytest.mark.parametrize(("total", "connect"), [(0.1, 5.0), (60.0, 0.1)])
async def test_a_look_up_that_never_ends_is_unreachable(total: float, connect: float) -> None:
    async with opened(connect=connect, resolver=Deaf([])) as egress:
        watch = Stopwatch()
        outcome = await get(egress, "http://slow.example/", total=total)
        assert isinstance(outcome, NotSent)
        assert outcome.code is Code.UPSTREAM_UNREACHABLE
        assert watch.seconds < 2


@pytest.mark.parametrize(("total", "connect"), [(0.1, 5.0), (60.0, 0.1)])
async def test_no_free_connection_in_time_is_unreachable(total: float, connect: float) -> None:
    async with peer(silent()) as near, opened(connections=1, connect=connect) as egress:
        held = asyncio.create_task(get(egress, near.url(), total=60, idle=60))
        await near.asked.wait()
        outcome = await get(egress, near.url(), total=total)
        assert isinstance(outcome, NotSent)
        assert outcome.code is Code.UPSTREAM_UNREACHABLE
        assert len(near.requests) == 1
        held.cancel()


async def test_one_origin_may_not_take_all_connections() -> None:
    async with peer(silent()) as slow, peer(answers()) as quick, opened(connections=4) as egress:
        held = [asyncio.create_task(get(egress, slow.url(), total=60, idle=60)) for _ in range(8)]
        await slow.asked.wait()
        assert isinstance(await get(egress, quick.url()), Answer)
        assert slow.lines == 1
        for task in held:
            task.cancel()


async def test_tls_that_never_begins_is_unreachable(egress: Egress) -> None:
    async with peer(lambda line: line.hung_up()) as near:
        outcome = await get(egress, near.url(scheme="https"), total=0.2)
        assert isinstance(outcome, NotSent)
        assert outcome.code is Code.UPSTREAM_UNREACHABLE


async def test_what_speaks_no_tls_is_unreachable(egress: Egress) -> None:
    async def play(line: Line) -> None:
        await line.say(OK)
        await line.hung_up()

    async with peer(play) as near:
        outcome = await get(egress, near.url(scheme="https"))
        assert outcome == NotSent(Code.UPSTREAM_UNREACHABLE, "no TLS connection could be agreed")


async def test_an_unknown_certificate_gets_no_request(egress: Egress, tmp_path: Path) -> None:
    server, _ = _certificate(tmp_path)
    async with peer(answers(), tls=server) as near:
        outcome = await get(egress, near.url(scheme="https"))
        assert outcome == NotSent(Code.UPSTREAM_UNREACHABLE, "its TLS certificate is not valid for this name")
        assert near.requests == []


async def test_a_certificate_for_another_name_gets_no_request(tmp_path: Path) -> None:
    server, client = _certificate(tmp_path)
    async with peer(answers(), tls=server) as near, opened(tls=client) as egress:
        outcome = await get(egress, near.url(scheme="https", host="localhost"))
        assert isinstance(outcome, NotSent)
        assert near.requests == []


async def test_a_known_certificate_is_called_and_its_connection_used_again(tmp_path: Path) -> None:
    server, client = _certificate(tmp_path)
    async with peer(answers(), tls=server) as near, opened(tls=client) as egress:
        for _ in range(2):
            assert isinstance(await get(egress, near.url(scheme="https")), Answer)
        assert near.lines == 1


async def test_where_https_is_required_nothing_goes_out_over_http(tmp_path: Path) -> None:
    server, client = _certificate(tmp_path)
    async with (
        peer(answers()) as plain,
        peer(answers(), tls=server) as near,
        opened(tls=client, require_https=True) as egress,
    ):
        for scheme in ("http", "HTTP"):
            outcome = await get(egress, plain.url(scheme=scheme))
            assert isinstance(outcome, NotSent)
            assert outcome.code is Code.UPSTREAM_DENIED
            assert "CROSSGRANT_REQUIRE_HTTPS" in outcome.reason
        assert plain.lines == 0
        assert isinstance(await get(egress, near.url(scheme="https")), Answer)


@LOOPS
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"])
def test_a_tls_connection_that_breaks_is_unknown_and_one_that_is_cancelled_closes(
    tmp_path: Path, loop: Loop, answer: bytes
) -> None:
    server, client = _certificate(tmp_path)

    async def main() -> None:
        async with opened(tls=client) as egress:
            async with peer(hangs_up_after(answer), tls=server) as near:
                assert isinstance(await get(egress, near.url(scheme="https")), Unknown)
            async with peer(silent(), tls=server) as near:
                task = asyncio.create_task(get(egress, near.url(scheme="https")))
                await near.asked.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await near.left.wait()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("body", [b"", b"x", bytes(2_000_000)])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "no last chunk", "no answer proper"],
)
async def test_an_answer_that_breaks_off_is_unknown(egress: Egress, answer: bytes, body: bytes) -> None:
    async with peer(hangs_up_after(answer)) as near:
        outcome = await call(egress, Outbound("PUT", near.url(), (), body))
        assert isinstance(outcome, Unknown)
        assert outcome.code is Code.UPSTREAM_BROKEN
        assert len(near.requests) == 1


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", b"HTTP/1.1 200 OK\r\n\r\n1"]
)
async def test_a_reset_is_unknown(egress: Egress, answer: bytes) -> None:
    async def play(line: Line) -> None:
        await line.request()
        if answer:
            await line.say(answer)
        _reset(line)

    async with peer(play) as near:
        outcome = await get(egress, near.url())
        assert isinstance(outcome, Unknown)
        assert outcome.code is Code.UPSTREAM_BROKEN


async def test_a_reset_in_the_middle_of_the_request_is_unknown(egress: Egress) -> None:
    async def play(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        _reset(line)

    async with peer(play) as near:
        outcome = await call(egress, Outbound("POST", near.url(), (), bytes(20_000_000)))
        assert isinstance(outcome, Unknown)
        assert outcome.code is Code.UPSTREAM_BROKEN


async def test_after_close_nothing_is_sent() -> None:
    egress = Egress(LOOPBACK)
    async with peer(answers()) as near:
        assert isinstance(await get(egress, near.url()), Answer)
        await egress.close()
        assert await get(egress, near.url()) == NotSent(Code.UPSTREAM_UNREACHABLE, "this gateway is stopping")
        assert len(near.requests) == 1


async def test_close_ends_what_runs_and_what_waits() -> None:
    egress = Egress(LOOPBACK, connections=1)
    async with peer(silent()) as near:
        runs = asyncio.create_task(get(egress, near.url(), total=60, idle=60))
        await near.asked.wait()
        waits = asyncio.create_task(get(egress, near.url(), total=60, idle=60))
        await asyncio.sleep(0)  # one turn of the loop brings it to where it waits
        await egress.close()
        assert isinstance(await runs, Unknown)
        assert isinstance(await waits, NotSent)
        assert len(near.requests) == 1


def _reset(line: Line) -> None:
    # lingering for no time makes the close a reset
    connection = line.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    line.writer.transport.abort()


def _certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server of 127.0.0.1, and a client that knows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))
