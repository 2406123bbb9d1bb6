"""One JSON object per line, without our secrets; metrics under their published names."""

import logging
import warnings
from io import BytesIO
from typing import Any

import orjson
import pytest
from prometheus_client import generate_latest

from app.telemetry import (
    DISPATCHES,
    REGISTRY,
    WEBHOOK_ATTEMPTS,
    bind_request_id,
    configure_logging,
    get_logger,
    request_id,
)

TOKEN = "aB3_-" * 8
SECRETS = [prefix + TOKEN for prefix in ("cgk_", "cgo_", "cgt_live_", "cgt_test_")] + [
    "whsec_" + "aB3/+" * 8 + "="
]


def logged(lines: BytesIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in lines.getvalue().splitlines()]


def test_a_line_is_a_json_object_with_level_time_event_and_request(lines: BytesIO) -> None:
    bind_request_id("req_1")
    get_logger().info("said", count=3, name="ünïcode\nline")
    (line,) = logged(lines)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "said",
        "level": "info",
        "count": 3,
        "name": "ünïcode\nline",
        "request_id": "req_1",
    }
    assert request_id() == "req_1"


def test_lines_below_the_level_are_not_written(lines: BytesIO) -> None:
    get_logger().debug("hidden")
    logging.getLogger("uvicorn.error").debug("hidden")
    configure_logging("DEBUG", lines)
    get_logger().debug("shown")
    logging.getLogger("uvicorn.error").debug("shown too")
    assert [line["event"] for line in logged(lines)] == ["shown", "shown too"]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_cut_down_to_its_prefix_wherever_it_hides(secret: str, lines: BytesIO) -> None:
    get_logger().info(
        f"of {secret}.", key=secret, nested=[{"a": (secret,)}], **{secret: 1}, raw=secret.encode()
    )
    text = lines.getvalue().decode()
    prefix = secret[: -len("aB3_-" * 8)] if not secret.startswith("whsec_") else "whsec_"
    assert secret[len(prefix) :] not in text
    assert logged(lines)[0]["event"] == f"of {prefix}…redacted."
    assert text.count(f"{prefix}…redacted") == 5


def test_a_secret_in_an_exception_is_redacted(lines: BytesIO) -> None:
    for log in (get_logger(), logging.getLogger("sqlalchemy.pool")):
        try:
            raise ValueError(f"bad token {SECRETS[2]}") from KeyError(SECRETS[0])
        except ValueError:
            log.exception("failed")
    first, second = logged(lines)
    for line in (first, second):
        assert "Traceback" in line["exception"]
        assert "bad token cgt_live_…redacted" in line["exception"]
        assert "KeyError: 'cgk_…redacted'" in line["exception"]
    assert (second["logger"], second["level"]) == ("sqlalchemy.pool", "error")
    assert TOKEN not in lines.getvalue().decode()


@pytest.mark.parametrize("text", ["cgk_short", "cgx_" + TOKEN, "whsec_"])
def test_what_is_no_secret_stays(text: str, lines: BytesIO) -> None:
    get_logger().info(text)
    assert logged(lines)[0]["event"] == text


def test_libraries_and_warnings_speak_the_same_json(lines: BytesIO) -> None:
    logging.getLogger("asyncpg").warning("odd %s", "thing")
    logging.getLogger("custom").log(25, "between levels")
    logging.getLogger("uvicorn.access").info("not twice")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        configure_logging("INFO", lines)
        warnings.warn("look out", stacklevel=1)
    first, second, third = logged(lines)
    assert (first["event"], first["logger"], first["level"]) == ("odd thing", "asyncpg", "warning")
    assert (second["event"], second["level"]) == ("between levels", "info")
    assert third["logger"] == "py.warnings"
    assert "look out" in third["event"]


@pytest.mark.parametrize("value", ["\ud800", 1 << 70, {1: 2}, object(), b"\xff", {"deep": "\udfff"}])
def test_no_value_makes_a_log_line_fail(value: object, lines: BytesIO) -> None:
    get_logger().info("odd", value=value)
    assert logged(lines)[0]["event"] == "odd"


def test_a_bad_record_of_a_library_is_shown_and_redacted(lines: BytesIO) -> None:
    configure_logging("INFO", lines)  # drops pytest's handler, which raises here
    logging.getLogger("careless").warning("%d", SECRETS[0])
    assert logged(lines)[0]["event"] == "'%d' % ('cgk_…redacted',)"


def test_a_stream_that_nobody_reads_does_not_fail_who_logs(lines: BytesIO) -> None:
    lines.close()
    get_logger().info("into the void")
    configure_logging("INFO", BytesIO())


PUBLISHED = {
    "crossgrant_dispatches_total",
    "crossgrant_admission_seconds",
    "crossgrant_upstream_seconds",
    "crossgrant_completion_seconds",
    "crossgrant_batch_size",
    "crossgrant_ledger_append_lag_seconds",
    "crossgrant_in_flight",
    "crossgrant_queue_depth",
    "crossgrant_webhook_attempts_total",
    "crossgrant_webhook_attempt_seconds",
    "crossgrant_subscribers",
    "agent_share_active_total",
    "agent_share_unauthorized_attempt_total",
    "agent_share_revocation_time_seconds",
    "agent_share_cross_tenant_success_rate",
}


def test_metrics_have_exactly_their_published_names_and_no_tenant() -> None:
    DISPATCHES.labels(outcome="COMPLETED", code="").inc(0)
    WEBHOOK_ATTEMPTS.labels(result="accepted").inc(0)
    samples = [line for line in generate_latest(REGISTRY).decode().splitlines() if line[0] != "#"]
    names = {line.replace("{", " ").split()[0] for line in samples}
    histograms = {name for name in PUBLISHED if name.endswith(("_seconds", "_size"))}
    suffixed = {name + suffix for name in histograms for suffix in ("_bucket", "_sum", "_count")}
    assert names == PUBLISHED - histograms | suffixed
    assert not [line for line in samples if "enant=" in line]
