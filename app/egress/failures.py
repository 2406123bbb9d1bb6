"""What an exception of aiohttp means: a table, first match wins. The caller knows whether bytes may have left."""

import logging
import os
import traceback
from asyncio import CancelledError
from pathlib import Path

import aiohttp

from app.egress.addresses import AddressRefused
from app.egress.flight import Spoilt
from app.egress.outcomes import NotSent, Unknown
from app.rules.errors import Code

log = logging.getLogger(__name__)

_OURS = str(Path(__file__).parent)

_UNREACHABLE: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "no connection could be had in time"),
    (aiohttp.ClientConnectorDNSError, "its name does not resolve to an address"),
    (aiohttp.ClientConnectorCertificateError, "its TLS certificate is not valid for this name"),
    (aiohttp.ClientSSLError, "no TLS connection could be agreed"),
    (aiohttp.ClientConnectorError, "the connection failed"),
    (Spoilt, "it spoke before it was asked"),
    (aiohttp.ClientConnectionError, "the connection failed"),
    (OSError, "the connection failed"),
    (CancelledError, "this gateway is stopping"),
    (RuntimeError, "this gateway is stopping"),  # aiohttp's for a closed session
)

_BROKEN: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ServerDisconnectedError, "it closed the connection before it answered"),
    (aiohttp.ClientResponseError, "what it sent is not an HTTP/1.1 answer"),
    (aiohttp.ClientPayloadError, "its answer ended before it was whole"),
    (aiohttp.ClientConnectionError, "the connection broke"),
    (OSError, "the connection broke"),
    (RuntimeError, "the connection broke"),  # aiohttp's for reading on from a lost connection
    (CancelledError, "this gateway is stopping"),
)


class Unsendable(ValueError):
    """A request that we will not put on a wire. Its text is public."""


def not_sent(error: BaseException) -> NotSent:
    """For a failure before anything was written."""
    if isinstance(error, Unsendable):
        return denied(str(error))
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unconnected(error)
    if isinstance(error, ValueError):
        return denied("its URL or one of its headers cannot be put on the wire")
    return NotSent(Code.UPSTREAM_UNREACHABLE, _reason(error, _UNREACHABLE))


def _unconnected(error: aiohttp.ClientConnectorError) -> NotSent:
    cause = error.os_error
    if isinstance(cause, AddressRefused):
        return denied(f"it is at {cause.kind}, which may not be called: see CROSSGRANT_EGRESS_ALLOW")
    reason = _reason(error, _UNREACHABLE)
    if type(error) is aiohttp.ClientConnectorError and error.errno:
        # Not the error's own text: it names the address that a name resolved to.
        reason = f"{reason}: {os.strerror(error.errno)}"
    return NotSent(Code.UPSTREAM_UNREACHABLE, reason)


def denied(reason: str) -> NotSent:
    """For what we will not send."""
    return NotSent(Code.UPSTREAM_DENIED, reason)


def unknown(error: BaseException) -> Unknown:
    """For a failure after something may have been written."""
    if isinstance(error, aiohttp.SocketTimeoutError):
        return Unknown(Code.UPSTREAM_TIMEOUT, "it fell silent for longer than the limit")
    if isinstance(error, TimeoutError):
        return Unknown(Code.UPSTREAM_TIMEOUT, "its answer was not whole in time")
    return broken(_reason(error, _BROKEN))


def broken(reason: str) -> Unknown:
    """For an answer that is none."""
    return Unknown(Code.UPSTREAM_BROKEN, reason)


def _reason(error: BaseException, table: tuple[tuple[type[BaseException], str], ...]) -> str:
    for kind, reason in table:
        if isinstance(error, kind):
            return reason
    log.error("a call out failed in a way that is not known: %s at %s", type(error).__name__, _where(error))
    return "it failed in a way that is not known"


def _where(error: BaseException) -> str:
    # Nothing of the error's own text: it may quote what a peer sent, and with it a credential.
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{frame.name}:{frame.lineno}" for frame in frames if frame.filename.startswith(_OURS)]
    return " > ".join(ours) or "no line of ours"
