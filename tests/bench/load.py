"""A client that costs little: keep-alive connections on bare sockets, one request at a time on each."""

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Load:
    """What came of a load: answers by status, and how long each took in seconds."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers of status 200 per second."""
        return self.statuses[200] / self.seconds


async def run(
    port: int, request: bytes, *, connections: int, seconds: float, most: int = sys.maxsize
) -> Load:
    """Sends `request` over and over on each connection for `seconds`, or `most` times."""
    load = Load()
    began = time.perf_counter()
    ends = began + seconds
    await asyncio.gather(*(_connection(port, request, ends, most, load) for _ in range(connections)))
    load.seconds = time.perf_counter() - began
    return load


async def _connection(port: int, request: bytes, ends: float, most: int, load: Load) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    while (began := time.perf_counter()) < ends and most > 0:
        most -= 1
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(_length(head))
        load.took.append(time.perf_counter() - began)
        load.statuses[int(head[9:12])] += 1
    writer.close()


def _length(head: bytes) -> int:
    start = head.lower().index(b"content-length: ") + 16
    return int(head[start : head.index(b"\r\n", start)])


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """One request as bytes. Header names take `_` for `-`."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
