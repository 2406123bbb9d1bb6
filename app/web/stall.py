"""Peers that do not read: a transport waits for them for ever, also after close()."""

import asyncio

from typing_extensions import override


class CutsStalled(asyncio.Protocol):
    """Mixed in before a protocol of uvicorn: cuts the connection after `write_seconds` of no progress."""

    #: Time for a slow reader to get the buffer (64 KiB) below its low-water mark.
    write_seconds = 60.0

    # uvicorn's protocols set them.
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    _cut: asyncio.TimerHandle | None = None

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self.cut_if_stalled()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():  # else its last bytes have the same deadline
            self._keep()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._keep()
        super().connection_lost(exc)

    def cut_if_stalled(self) -> None:
        """Cut the connection in `write_seconds`, unless its peer has read by then, or it is closed."""
        if self._cut is None:
            self._cut = self.loop.call_later(self.write_seconds, self.transport.abort)

    def _keep(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
