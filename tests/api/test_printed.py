"""What the documents print: operations that are valid, and a receiver that receives."""

import re
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from graphql import build_schema, parse, validate
from standardwebhooks import Webhook

ROOT = Path(__file__).parents[2]
PRINTED = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SECRET = "whsec_" + b64encode(b"x" * 32).decode()
BODY = '{"type": "delegation.revoked", "data": {"seq": 42}}'


def blocks(path: Path, language: str) -> list[str]:
    """The code that a document prints in a language."""
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.parametrize("path", PRINTED, ids=lambda path: path.name)
def test_every_operation_that_is_printed_is_valid(path: Path) -> None:
    schema = build_schema((ROOT / "schema.graphql").read_text())
    operations = blocks(path, "graphql")
    assert operations
    for operation in operations:
        assert validate(schema, parse(operation)) == [], operation


def test_the_receiver_that_is_printed_takes_what_is_ours_once_and_nothing_else() -> None:
    (receiver,) = blocks(ROOT / "docs" / "webhooks.md", "python")
    seen: set[str] = set()
    handled: list[tuple[Any, ...]] = []
    names: dict[str, Any] = {
        "seen_before": seen.__contains__,
        "handle": lambda *event: handled.append(event),
        "remember": seen.add,
    }
    exec(receiver.replace("whsec_…", SECRET), names)  # noqa: S102  # our own document
    now = datetime.now(UTC)
    headers = {
        "Webhook-Id": "whd_1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(SECRET).sign("whd_1", now, BODY),
    }
    receive = names["receive"]
    assert [receive(headers, BODY.encode()) for _ in range(2)] == [204, 204]
    assert handled == [("delegation.revoked", {"seq": 42})]
    assert receive(headers, BODY.replace("42", "43").encode()) == 400
    assert receive({}, BODY.encode()) == 400
