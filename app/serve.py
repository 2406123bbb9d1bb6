"""Serving: uvicorn with our limits, from the first socket to the last answer."""

import errno
import gc
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from typing_extensions import override

from app.main import Process
from app.settings import SettingsError
from app.web.protocol import BoundedHttpProtocol
from app.web.websocket import BoundedWebSocketProtocol

#: As long as an upstream may take, and a little: then what is under way has been answered.
_GRACE = 35  # seconds
_KEEP_ALIVE = 15  # seconds
_FILES = 16_384  # open at a time: connections of clients, calls out, the store's. Each client may hold 300 KB
#: A thread of the store asks for the interpreter between two steps of a statement. Python's 5 ms each time would be
#: most of a commit; the switch itself takes some microseconds.
_SWITCH = 0.0005  # seconds
#: New objects until the youngest are looked through for cycles. A request makes hundreds and nearly no cycle: with
#: Python's 700, every second request would pay for a look.
_YOUNG = 50_000


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, closing: Callable[[], None]) -> None:
        super().__init__(config)
        self._closing = closing

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own also raises the signal again at the end, which kills the process before its store is closed.
        self.force_exit |= self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing()  # streams would keep their connections open through the whole grace
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises SettingsError where the address cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        other = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise SettingsError(
            f"cannot listen on {host} port {port}: {reason}; choose another with {other}"
        ) from None


async def serve(process: Process, listening: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what is under way."""
    config = uvicorn.Config(
        process.app,
        http=_bounded(_files()),
        ws=BoundedWebSocketProtocol,
        ws_max_size=64 * 1024,
        ws_per_message_deflate=False,  # its windows take more than all else that an idle connection needs
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # whom to believe is decided in edge/address.py
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    _spare_requests()
    await _Server(config, process.closing).serve([listening])


def _files() -> int:
    """How many files may be open at a time: as many as the system gives to whoever asks, _FILES at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _FILES
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft < wanted:
        with suppress(ValueError, OSError):  # some systems give less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return min(_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _bounded(files: int) -> type[BoundedHttpProtocol]:
    """Half of the files are for clients: each may need another for its call out."""

    class Bounded(BoundedHttpProtocol):
        at_most = files // 2
        refused_at_most = files // 16

    return Bounded


def _spare_requests() -> None:
    sys.setswitchinterval(_SWITCH)
    # What has been made by now (schema, classes, statements) stays: looking through it again takes 60 ms each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 50)
