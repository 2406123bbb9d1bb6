"""A line to PostgreSQL that loses one answer: what was said arrives and is done, and nobody hears of it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from app.settings import Settings

#: How the committer says it, in a simple query message of PostgreSQL's protocol.
COMMIT = b"COMMIT\0"


class Line:
    """While it is `armed`, the next COMMIT's answer is lost and its connection with it."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self.armed = False
        self.lost = asyncio.Event()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, there and back."""
        from_server, to_server = await asyncio.open_unix_connection(self._server)
        dead = asyncio.Event()
        ways = [
            asyncio.ensure_future(self._there(reader, to_server, dead)),
            asyncio.ensure_future(self._back(from_server, writer, dead)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, to_server):
            end.close()

    async def _there(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dead: asyncio.Event
    ) -> None:
        while data := await reader.read(2**16):
            if self.armed and data.endswith(COMMIT):
                self.armed = False
                dead.set()
            writer.write(data)
            await writer.drain()

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dead: asyncio.Event
    ) -> None:
        while data := await reader.read(2**16):
            if dead.is_set():  # it has been done: this says so
                self.lost.set()
                return
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def losing_line(settings: Settings) -> AsyncIterator[tuple[Line, Settings]]:
    """A line that is not armed yet, and the settings of a world that uses it."""
    assert settings.database_url is not None
    (folder,) = parse_qs(urlsplit(settings.database_url).query)["host"]
    line = Line(Path(folder) / ".s.PGSQL.5432")
    with tempfile.TemporaryDirectory(prefix="crossgrant-line-") as here:
        server = await asyncio.start_unix_server(line.carry, Path(here) / ".s.PGSQL.5432")
        try:
            url = settings.database_url.replace(f"host={folder}", f"host={here}")
            yield line, settings.model_copy(update={"database_url": url})
        finally:
            server.close()
