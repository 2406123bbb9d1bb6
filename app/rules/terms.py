"""The terms of a delegation: scopes, constraints and metadata, immutable, versioned and hashed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

import orjson

from app.rules.guards import Guards
from app.rules.ids import Instant
from app.rules.windows import WindowKind

IPAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Constraints:
    """The limits of a delegation. None means: not limited beyond the gateway's own bounds."""

    expires_at: Instant
    max_actions_per_hour: int | None = None
    max_actions_per_day: int | None = None
    max_actions_per_month: int | None = None
    max_cost_units_per_month: int | None = None
    ip_allowlist: tuple[str, ...] = ()
    require_trust_score_above: int | None = None
    max_request_bytes: int | None = None
    condition: str | None = None
    deny_patterns: tuple[str, ...] = ()

    def cap(self, kind: WindowKind) -> int | None:
        """Most admissions, or cost units, in one window of this kind."""
        match kind:
            case WindowKind.HOUR:
                return self.max_actions_per_hour
            case WindowKind.DAY:
                return self.max_actions_per_day
            case WindowKind.MONTH:
                return self.max_actions_per_month
            case WindowKind.COST_MONTH:
                return self.max_cost_units_per_month


@dataclass(frozen=True, slots=True)
class Terms:
    """One version of a delegation's terms, as decisions read them: made once, by `of`."""

    version: int
    scopes: frozenset[str]
    constraints: Constraints
    networks: tuple[Network, ...]
    #: The windows that are limited, narrowest first.
    caps: tuple[tuple[WindowKind, int], ...]
    guards: Guards

    @classmethod
    def of(cls, version: int, scopes: Iterable[str], constraints: Mapping[str, Any]) -> "Terms":
        """From the stored form."""
        made = from_stored(constraints)
        return cls(
            version,
            frozenset(scopes),
            made,
            tuple(ip_network(cidr) for cidr in made.ip_allowlist),
            tuple((kind, cap) for kind in WindowKind if (cap := made.cap(kind)) is not None),
            Guards(made.deny_patterns, made.condition),
        )

    def allows(self, address: IPAddress | None) -> bool:
        """Whether the terms let a request come from this address; no list means: from anywhere."""
        if not self.networks:
            return True
        return address is not None and any(address in network for network in self.networks)

    def trusts(self, score: int | None) -> bool:
        """Whether an agent of this score may act: strictly above the floor, and known where there is one."""
        floor = self.constraints.require_trust_score_above
        return floor is None or (score is not None and score > floor)


def stored(constraints: Constraints) -> dict[str, Any]:
    """The form that is stored and hashed: the public names, without nulls."""
    values = {
        "expiresAt": constraints.expires_at,
        "maxActionsPerHour": constraints.max_actions_per_hour,
        "maxActionsPerDay": constraints.max_actions_per_day,
        "maxActionsPerMonth": constraints.max_actions_per_month,
        "maxCostUnitsPerMonth": constraints.max_cost_units_per_month,
        "ipAllowlist": list(constraints.ip_allowlist),
        "requireTrustScoreAbove": constraints.require_trust_score_above,
        "maxRequestBytes": constraints.max_request_bytes,
        "condition": constraints.condition,
        "denyPatterns": list(constraints.deny_patterns) or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def from_stored(values: Mapping[str, Any]) -> Constraints:
    """The inverse of `stored`."""
    return Constraints(
        expires_at=values["expiresAt"],
        max_actions_per_hour=values.get("maxActionsPerHour"),
        max_actions_per_day=values.get("maxActionsPerDay"),
        max_actions_per_month=values.get("maxActionsPerMonth"),
        max_cost_units_per_month=values.get("maxCostUnitsPerMonth"),
        ip_allowlist=tuple(values["ipAllowlist"]),
        require_trust_score_above=values.get("requireTrustScoreAbove"),
        max_request_bytes=values.get("maxRequestBytes"),
        condition=values.get("condition"),
        deny_patterns=tuple(values.get("denyPatterns", ())),
    )


def terms_hash(version: int, scopes: list[str], constraints: Constraints, metadata: object) -> str:
    """What `acceptDelegation(termsHash:)` confirms: SHA-256, in hex, of the terms as JSON with sorted keys.

    `expiresAt` stands in it as microseconds since 1970; limits that are not set are left out.
    """
    whole = {"version": version, "scopes": scopes, "constraints": stored(constraints), "metadata": metadata}
    return sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()
