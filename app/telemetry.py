"""What the process says about itself: JSON lines on stderr, and Prometheus metrics.

Every line, ours and the libraries', passes one redaction: no secret of ours leaves by the log. Metrics carry no
tenant labels; their names are published, so a test holds them.
"""

import asyncio
import json
import logging
import sys
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from structlog.contextvars import merge_contextvars
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger
from typing_extensions import override

from app.rules.tokens import redact

# structlog's own would look through all of a task's variables for each line.
_REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)


def configure_logging(level: str, stream: BinaryIO | None = None) -> None:
    """Send every log line, structlog's and stdlib logging's, as one JSON object to `stream` (default: stderr).

    `level` is DEBUG, INFO, WARNING or ERROR. May be called again; the last call holds.
    """
    global _lines, _at_info  # noqa: PLW0603 (as structlog's own configuration)
    _lines = lines = _Lines(stream or sys.stderr.buffer)
    _at_info = logging.getLevelNamesMapping()[level] <= logging.INFO
    structlog.configure(
        processors=[
            merge_contextvars,
            _name_request,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: lines,
    )
    logging.root.handlers = [_ToStructlog()]
    logging.root.setLevel(level)
    logging.captureWarnings(capture=True)
    _tame_uvicorn(level)
    _tame_alembic()


def get_logger() -> FilteringBoundLogger:
    """A logger for a module: `log.info("what happened", key=value)`."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def bind_request_id(request_id: str) -> None:
    """Put `request_id` on every later line of this task and of the tasks that it starts."""
    _REQUEST_ID.set(request_id)


def request_id() -> str | None:
    """The id of the request that this task serves; None outside of requests."""
    return _REQUEST_ID.get()


def access(method: str, path: str, status: int | None, ms: float) -> None:
    """The line of an answered request. It bypasses structlog, which would cost more than all else on its way out."""
    if _at_info:
        line = {
            "method": method,
            "path": path,
            "status": status,
            "ms": ms,
            "event": "request",
            "request_id": _REQUEST_ID.get(),
            "level": "info",
            "timestamp": datetime.now(UTC).replace(tzinfo=None).isoformat() + "Z",
        }
        _lines.later(_render(None, "info", line))


def _name_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    name = _REQUEST_ID.get()
    if name is not None:
        event["request_id"] = name
    return event


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    # Redacted after rendering: so nothing can hide in a nested value, a key or a traceback.
    try:
        line = orjson.dumps(event, default=repr)
    except TypeError:  # a lone surrogate or a huge integer; a log line must not fail its caller
        line = json.dumps(event, default=repr, skipkeys=True, ensure_ascii=False).encode(errors="replace")
    return redact(line)


class _Lines:
    """Where structlog ends: one write for each line, under every name that it calls a logger by."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: list[bytes] = []

    def later(self, line: bytes) -> None:
        """Writes at the end of this turn of the event loop: one call for all that it answered."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write_waiting)
        self._waiting.append(line)

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.msg(b"\n".join(waiting))

    def msg(self, line: bytes) -> None:
        try:
            self._stream.write(line + b"\n")  # one call: lines of two threads do not mix
            self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads them any more; whoever logs has work to do all the same

    debug = info = warning = error = critical = exception = msg


_lines = _Lines(sys.stderr.buffer)
_at_info = False  # until logging is configured


class _ToStructlog(logging.Handler):
    """Hands the records of stdlib logging (uvicorn, SQLAlchemy, asyncpg, warnings) to structlog."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        message = _message(record)
        if message is not None:
            extra: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
            get_logger().log(_standard(record.levelno), message, logger=record.name, **extra)


def _message(record: logging.LogRecord) -> str | None:
    if '"WebSocket %s"' in str(record.msg):
        return None  # uvicorn's access line, with the query; web/app.py writes ours
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # a library's arguments do not fit its text
        return f"{record.msg!r} % {record.args!r}"


def _standard(level: int) -> int:
    # structlog has names for the five levels alone; a library's 25 is an INFO.
    return min(level // 10 * 10, logging.CRITICAL)


def _tame_uvicorn(level: str) -> None:
    # It asks the logger itself, not its parents, whether to trace every connection.
    logging.getLogger("uvicorn.error").setLevel(level)
    # web/app.py writes the access line. uvicorn decides by hasHandlers(), so propagation must end too.
    access = logging.getLogger("uvicorn.access")
    access.handlers = []
    access.propagate = False


def _tame_alembic() -> None:
    # It tells at INFO that it looked; that it changed something is told by who called it.
    logging.getLogger("alembic").setLevel(logging.WARNING)


# `…_created` samples double the output and tell nothing that a scraper does not know.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations

REGISTRY = CollectorRegistry()


class Spread(Collector):
    """A histogram for what every dispatch observes. Without the client's locks it costs a fifth, so observe on the
    event loop alone.
    """

    def __init__(self, name: str, documentation: str, buckets: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(buckets) + 1)  # the last is what is beyond them all
        self._sum = 0.0
        REGISTRY.register(self)

    def observe(self, value: float) -> None:
        """Counts a value in its bucket."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @override
    def collect(self) -> Iterable[HistogramMetricFamily]:
        reached, buckets = 0, []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            reached += count
            label: str = floatToGoString(bound)  # type: ignore[no-untyped-call]  # it has no annotations
            buckets.append((label, reached))
        family = HistogramMetricFamily(self._name, self._documentation)
        family.add_metric([], buckets, self._sum)
        yield family


_QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

DISPATCHES = Counter(
    "crossgrant_dispatches",  # the client appends _total to counters
    "Dispatches that reached their outcome, by outcome and refusal code (empty when COMPLETED).",
    ["outcome", "code"],
    registry=REGISTRY,
)
ADMISSION_SECONDS = Spread(
    "crossgrant_admission_seconds",
    "From a dispatch's arrival at the committer to its admission's commit.",
    buckets=_QUICK,
)
UPSTREAM_SECONDS = Spread(
    "crossgrant_upstream_seconds",
    "From sending to an upstream to the end of its answer.",
    buckets=_SLOW,
)
COMPLETION_SECONDS = Spread(
    "crossgrant_completion_seconds",
    "From a completion's arrival at the committer to its commit.",
    buckets=_QUICK,
)
BATCH_SIZE = Spread(
    "crossgrant_batch_size",
    "Admissions and completions in one commit.",
    buckets=_SIZES,
)
LEDGER_APPEND_LAG_SECONDS = Spread(
    "crossgrant_ledger_append_lag_seconds",
    "From a fact's happening to the commit of its ledger entries.",
    buckets=_QUICK,
)
IN_FLIGHT = Gauge("crossgrant_in_flight", "Dispatches under way at their upstreams.", registry=REGISTRY)
QUEUE_DEPTH = Gauge(
    "crossgrant_queue_depth", "Admissions and completions waiting for a commit.", registry=REGISTRY
)
WEBHOOK_ATTEMPTS = Counter(
    "crossgrant_webhook_attempts",  # exposed with _total
    "Attempts to deliver an entry to a webhook endpoint, by what the endpoint did: took it, failed, or is gone.",
    ["result"],
    registry=REGISTRY,
)
WEBHOOK_ATTEMPT_SECONDS = Spread(
    "crossgrant_webhook_attempt_seconds",
    "From sending to a webhook endpoint to its answer.",
    buckets=_SLOW,
)
SUBSCRIBERS = Gauge(
    "crossgrant_subscribers", "Subscriptions that have caught up and follow a ledger.", registry=REGISTRY
)

AGENT_SHARE_ACTIVE = Gauge("agent_share_active_total", "Delegations in force.", registry=REGISTRY)
AGENT_SHARE_UNAUTHORIZED_ATTEMPT = Counter(
    "agent_share_unauthorized_attempt",  # exposed with _total
    "Attempts across tenants that were refused.",
    registry=REGISTRY,
)
AGENT_SHARE_REVOCATION_TIME_SECONDS = Histogram(
    "agent_share_revocation_time_seconds",
    "From the call of a revocation to its commit: then it binds.",
    buckets=_QUICK,
    registry=REGISTRY,
)
AGENT_SHARE_CROSS_TENANT_SUCCESS_RATE = Gauge(
    "agent_share_cross_tenant_success_rate",
    "COMPLETED dispatches as a share of all that ended, 0 to 1.",
    registry=REGISTRY,
)
