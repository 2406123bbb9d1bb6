"""No way of naming an address leads to one that may not be called: each test counts the connections that came."""

import asyncio
from ipaddress import ip_network
from urllib.parse import quote

import aiohttp
import pytest
import uvloop

from app.egress.addresses import kind_refused
from app.egress.client import Answer, Egress, NotSent
from app.rules.errors import Code
from tests.egress.peers import LOOPBACK, OK, Book, answers, get, opened, peer, words

ONLY_1 = (ip_network("127.0.0.1/32"),)


HOSTS = words("""
    127.0.0.1 [::ffff:127.0.0.1] [::ffff:7f00:1] localhost LOCALHOST localhost. 127.1 127.0.0.1. 0x7f000001
    0x7f.1 017700000001 2130706433 0 0.0.0.0 [::] ⓛocalhost %31%32%37.0.0.1 [::1%25lo] [::ffff:127.0.0.1%251]
    [0::0:1] 127。0。0。1
""")


@pytest.mark.parametrize("host", [*HOSTS, "\N{FULLWIDTH DIGIT ONE}27.0.0.1"])
async def test_a_denied_address_is_not_called_however_it_is_written(host: str) -> None:
    async with peer(answers()) as near, opened(()) as egress:
        assert isinstance(await get(egress, near.url(host=host)), NotSent)
        assert near.lines == 0


async def test_a_refusal_says_what_the_address_is_and_not_which() -> None:
    async with opened((), resolver=Book(["10.11.12.13"])) as egress:
        outcome = await get(egress, "http://inside.example/")
        assert isinstance(outcome, NotSent)
        assert outcome.code is Code.UPSTREAM_DENIED
        assert "a private address" in outcome.reason
        assert "10.11" not in outcome.reason


async def test_an_allowed_network_is_called(egress: Egress) -> None:
    async with peer(answers()) as near:
        for host in ("127.0.0.1", "[::ffff:127.0.0.1]", "localhost"):
            assert isinstance(await get(egress, near.url(host=host)), Answer)


async def test_of_several_addresses_only_the_permitted_ones_are_tried() -> None:
    book = Book(["127.0.0.2", "::1", "127.0.0.1"])
    async with (
        peer(answers()) as near,
        peer(answers(), "127.0.0.2", near.port) as denied,
        opened(ONLY_1, resolver=book) as egress,
    ):
        assert isinstance(await get(egress, near.url(host="many.example")), Answer)
        assert (near.lines, denied.lines) == (1, 0)


async def test_several_denied_addresses_are_a_denial() -> None:
    async with opened((), resolver=Book(["127.0.0.2", "::1", "10.0.0.1"])) as egress:
        outcome = await get(egress, "http://many.example/")
        assert isinstance(outcome, NotSent)
        assert outcome.code is Code.UPSTREAM_DENIED


async def test_answers_that_change_between_look_ups_lead_nowhere_else() -> None:
    name = "flip.example"
    async with peer(answers(OK)) as near, peer(answers(OK), "127.0.0.2", near.port) as denied:
        # The broken variant looks a name up, finds it permitted, and then calls it by name.
        book = Book(["127.0.0.1"], ["127.0.0.2"])
        assert [kind_refused(found["host"], ONLY_1) for found in await book.resolve(name)] == [None]
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=book)) as broken,
            broken.get(near.url(host=name)) as response,
        ):
            assert response.status == 200
        assert (near.lines, denied.lines) == (0, 1)

        book = Book(["127.0.0.1"], ["127.0.0.2"])
        await book.resolve(name)
        async with opened(ONLY_1, resolver=book) as egress:
            outcome = await get(egress, near.url(host=name))
        assert isinstance(outcome, NotSent)
        assert outcome.code is Code.UPSTREAM_DENIED
        assert (near.lines, denied.lines) == (0, 1)


async def test_a_redirect_to_a_denied_address_is_an_answer_like_any_other() -> None:
    async with peer(answers(), "127.0.0.2") as denied:
        target = denied.url(host="127.0.0.2")
        found = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
        async with peer(answers(found)) as near, opened(ONLY_1) as egress:
            outcome = await get(egress, near.url())
            assert isinstance(outcome, Answer)
            assert (outcome.status, outcome.headers["location"]) == (302, target)
            assert denied.lines == 0


async def test_proxies_and_credentials_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, egress: Egress
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with peer(answers()) as near, peer(answers()) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert isinstance(await get(egress, near.url()), Answer)
        assert (near.lines, proxy.lines) == (1, 0)
        assert b"authorization" not in near.requests[0].lower()


URLS = words("""
    /v1 127.0.0.1 ftp://127.0.0.1/ file:///etc/passwd ws://127.0.0.1/ wss://127.0.0.1/ tcp://127.0.0.1/
    unix:///run/x.sock //127.0.0.1/ http:// http:///x http://127.0.0.1:99999/ http://[::1/
    http://bob:pw@127.0.0.1/ http://@127.0.0.1/ http://127.0.0.1/#x http://127.0.0.1/é http://127.0.0.1\\@8.8.8.8/
""")
SPACED = [
    "",
    "http://127.0.0.1/a b",
    "http://127.0.0.1/a\r\nX: y",
    "http://127.0.0.1/\x7f",
    "\thttp://127.0.0.1/",
]


@pytest.mark.parametrize("url", URLS + SPACED)
async def test_what_is_no_url_of_ours_is_not_sent(egress: Egress, url: str) -> None:
    outcome = await get(egress, url)
    assert isinstance(outcome, NotSent)
    assert outcome.code is Code.UPSTREAM_DENIED


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.example", quote("é.example"), "no-such-name.invalid"])
async def test_a_name_without_an_address_is_unreachable(egress: Egress, host: str) -> None:
    outcome = await get(egress, f"http://{host}/")
    assert isinstance(outcome, NotSent)
    assert outcome.code is Code.UPSTREAM_UNREACHABLE
    assert "resolve" in outcome.reason


def test_the_guard_stands_on_the_loop_that_servers_run_on_too() -> None:
    async def main() -> None:
        async with peer(answers()) as near, opened(()) as closed, opened(LOOPBACK) as open_:
            for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
                assert isinstance(await get(closed, near.url(host=host)), NotSent)
                assert isinstance(await get(open_, near.url(host=host)), Answer)
            assert near.lines == 3

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
