"""A delegation under all the terms there are, none of which ever refuses, and a request that all of them look at."""

import orjson

from app.rules.ids import Instant
from app.rules.terms import Constraints

SCOPE, METHOD, TEMPLATE = "payments:write", "POST", "/v1/payments/{id}"
TRUST = 90  # of the agent that acts

_CAP = 10**9  # never reached

#: What the action's body must be.
SCHEMA = {
    "type": "object",
    "required": ["id", "amount", "currency", "payee", "lines"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": "^inv-[0-9]{4,12}$"},
        "amount": {"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000},
        "currency": {"enum": ["CHF", "EUR", "GBP", "USD"]},
        "payee": {"type": "string", "minLength": 1, "maxLength": 100},
        "iban": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$"},
        "due": {"type": "string", "maxLength": 10},
        "urgent": {"type": "boolean"},
        "priority": {"type": "integer", "minimum": 0, "maximum": 9},
        "memo": {"type": ["string", "null"], "maxLength": 500},
        "lines": {
            "type": "array",
            "maxItems": 50,
            "items": {
                "type": "object",
                "required": ["sku", "count"],
                "properties": {"sku": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
            },
        },
    },
}

#: Some 300 bytes.
BODY = orjson.dumps(
    {
        "id": "inv-20260117",
        "amount": 1249.5,
        "currency": "CHF",
        "payee": "Globex Logistics AG, Pfingstweidstrasse 12, Zürich",
        "iban": "CH9300762011623852957",
        "due": "2026-02-16",
        "urgent": False,
        "priority": 3,
        "memo": "Freight January, see contract 7741",
        "lines": [{"sku": "FRT-0017", "count": 12}, {"sku": "FRT-0042", "count": 1}],
    }
)


def constraints(expires_at: Instant) -> Constraints:
    """Each of them, with a value that people would give it, but for the caps."""
    return Constraints(
        expires_at,
        max_actions_per_hour=_CAP,
        max_actions_per_day=_CAP,
        max_actions_per_month=_CAP,
        max_cost_units_per_month=_CAP,
        ip_allowlist=("203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32", "127.0.0.0/8", "10.1.0.0/16"),
        require_trust_score_above=60,
        max_request_bytes=64 * 1024,
        condition=(
            'request.method == "POST" && request.bytes <= 4096 && request.body.amount <= 10000 '
            '&& request.body.currency in ["CHF", "EUR"]'
        ),
        deny_patterns=(
            r"(?i)\bdrop\s+table\b",
            r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b",
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
            r"(?i)<script[^>]*>",
            r"\b4[0-9]{12}(?:[0-9]{3})?\b",
        ),
    )
