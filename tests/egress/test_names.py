"""Looking up names: the system's resolver, for as many as hang on it."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from app.egress.names import Names


async def test_hundreds_of_names_that_nobody_answers_for_do_not_hold_up_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_go, system = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        if host.endswith(".silent"):
            let_go.wait()
            raise socket.gaierror
        return system(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    names = Names()
    hanging = [asyncio.ensure_future(names.resolve(f"n{n}.silent", 80)) for n in range(400)]
    await asyncio.sleep(0)  # so that they have asked
    try:
        async with asyncio.timeout(30):
            found = await names.resolve("127.0.0.1", 80)
        assert found[0]["host"] == "127.0.0.1"
    finally:
        let_go.set()
        await asyncio.gather(*hanging, return_exceptions=True)
        await names.close()
