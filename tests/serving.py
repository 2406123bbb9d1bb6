"""A gateway that serves: the real process, or the same house in this process where a test replaces a part of it."""

import asyncio
import logging
import os
import resource
import signal
import ssl
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import orjson
import structlog
from pydantic import SecretStr

from app.api.context import Gateway
from app.main import running
from app.serve import listen, serve
from app.settings import Settings
from app.telemetry import configure_logging

SECRET = "a secret of the tests, long enough for everybody"
PATIENCE = 30.0  # seconds; nothing takes that long unless the test fails
ROOT = Path(__file__).parent.parent

#: For every client of httpx2: one of its own reads all certificate authorities again, 40 ms of each test.
TLS = ssl.create_default_context()

#: The command as it is installed, whatever the PATH says.
_MAIN = "from app.cli import main; main()"
CROSSGRANT = [sys.executable, "-c", _MAIN]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What a command says with --json."""
        assert self.code == 0, self.err
        return orjson.loads(self.out)


@dataclass(frozen=True)
class Member:
    """A tenant made by the command line, with its owner's key."""

    id: str
    slug: str
    key: str


@dataclass(frozen=True)
class Served:
    """A gateway that answers at `url`. `process` is None where it is this one."""

    url: str
    port: int
    process: Process | None
    #: What it says about itself: the stderr of a process.
    log: Path

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def kill(self) -> None:
        """kill -9, as a crash does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; its exit code once it has finished what was under way."""
        return await self._end(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT, as Ctrl-C does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)

    async def ended(self) -> int:
        """Its exit code, once it has one."""
        assert self.process is not None
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def _end(self, by: signal.Signals) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(by)
        return await self.ended()


@dataclass(frozen=True)
class Installation:
    """One store and one secret, shared by every process that is started from it. Loopback is within reach."""

    data_dir: Path
    database_url: str | None = None
    secret: str | None = SECRET
    #: More variables, without their prefix and in lower case, as in `log_level`.
    more: Mapping[str, str] = field(default_factory=dict)
    #: How many files its server may have open.
    files: int | None = None
    #: What a test replaces in its server, in Python.
    before: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What a process of this installation finds in its environment."""
        wanted = {
            "data_dir": str(self.data_dir),
            "database_url": self.database_url,
            "secret_key": self.secret,
            "egress_allow": "127.0.0.0/8",
            **self.more,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CROSSGRANT_")}
        ours = {f"CROSSGRANT_{name.upper()}": value for name, value in wanted.items() if value is not None}
        return {**inherited, **ours, "PYTHONPATH": str(ROOT)}

    @property
    def settings(self) -> Settings:
        """The same, for a gateway in this process."""
        return Settings(
            data_dir=self.data_dir,
            database_url=self.database_url,
            secret_key=None if self.secret is None else SecretStr(self.secret),
            egress_allow=(ip_network("127.0.0.0/8"),),
        )

    async def command(self, *arguments: str) -> Done:
        """Runs `crossgrant` with these arguments to its end."""
        process = await asyncio.create_subprocess_exec(
            *CROSSGRANT, *arguments, env=self.environment, stdout=PIPE, stderr=PIPE
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    async def tenant(self, slug: str, *options: str) -> Member:
        """A tenant, made by the command line."""
        made = (await self.command("tenant", "create", slug, "--name", slug.title(), *options, "--json")).json
        return Member(made["tenantId"], made["slug"], made["apiKey"])

    @asynccontextmanager
    async def serving(self, *options: str) -> AsyncIterator[Served]:
        """The real process on a free port, ready; killed at the end, if it still lives then."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        log = _free(self.data_dir)
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", f"{self.before}\n{_MAIN}"),
                *("serve", "--port", "0", *options),
                env=self.environment,
                stdout=PIPE,
                stderr=errors,
                preexec_fn=self._limit,
            )
        try:
            served = await _served(process, log)
            await ready(served.url)
            yield served
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()  # also closes its pipe

    def _limit(self) -> None:
        if self.files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, self.files), self.files))

    @asynccontextmanager
    async def serving_here(self) -> AsyncIterator[tuple[Served, Gateway]]:
        """The same house in this process, for one gateway at a time: what a test has replaced is what runs."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        log = _free(self.data_dir)
        with listen("127.0.0.1", 0) as listening, _unharmed_by(signal.SIGTERM), _logging_to(log):
            port = listening.getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            async with running(self.settings, url) as process:
                serving = asyncio.ensure_future(serve(process, listening))
                try:
                    await ready(url)
                    yield Served(url, port, None, log), process.gateway
                finally:
                    signal.raise_signal(signal.SIGTERM)  # the way in which `serve` is told to end
                    await serving


async def ready(url: str) -> None:
    """Waits until the gateway there is ready. Its socket listens before it says its address: one question is enough."""
    async with httpx2.AsyncClient(timeout=PATIENCE, verify=TLS) as http:
        answer = await http.get(f"{url}/readyz")
    assert answer.status_code == 200, answer.text


async def _served(process: Process, log: Path) -> Served:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        first = (await process.stdout.readline()).decode().split()
    assert first, f"the gateway did not start:\n{_text(log)}"
    url = first[-1]
    return Served(url, int(url.rpartition(":")[2]), process, log)


def _text(log: Path) -> str:
    return log.read_text()


def _free(folder: Path) -> Path:
    return next(path for number in range(1, 1000) if not (path := folder / f"gateway-{number}.log").exists())


@contextmanager
def _logging_to(log: Path) -> Iterator[None]:
    # As a process logs: what structlog does unasked draws every traceback, and takes most of a test's time.
    level, handlers = logging.root.level, logging.root.handlers
    with log.open("wb") as lines:
        configure_logging("INFO", lines)
        try:
            yield
        finally:
            structlog.reset_defaults()
            structlog.contextvars.clear_contextvars()
            logging.captureWarnings(capture=False)
            logging.root.level, logging.root.handlers = level, handlers


@contextmanager
def _unharmed_by(number: signal.Signals) -> Iterator[None]:
    # uvicorn hands a signal on, once it has ended, to whoever handled it before.
    before = signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(number, before)
