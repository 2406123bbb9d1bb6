"""Looking up names, in threads of its own: names that never answer must not starve those of other tenants."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

#: Look-ups that may wait at a time, each in a thread that is made when it is needed. A name that nobody answers for keeps
#: its thread for 10 s and more, and one tenant may have hundreds of such names.
_THREADS = 512
#: The connector tries the addresses of a name over and over, so that its work grows with the square of their number.
_ADDRESSES = 8

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Names(AbstractResolver):
    """The system's resolver. `resolve` raises OSError, whatever is wrong with a name."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="egress-names")

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _addresses, host, port, family)

    @override
    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    flags = socket.AI_ADDRCONFIG
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=flags)
    except ValueError as error:  # labels that no encoding allows
        raise OSError(f"{host!r} is not a name") from error
    return [
        ResolveResult(
            hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=_NUMERIC
        )
        for kind, _, protocol, _, address in found[:_ADDRESSES]
    ]
