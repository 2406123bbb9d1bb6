"""The terms of a delegation: scopes, constraints and metadata, immutable, versioned and hashed."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

import orjson

from app.rules.errors import Code, Refusal
from app.rules.ids import DAY, Instant
from app.rules.windows import WindowKind

LONGEST_DELEGATION = 366 * DAY
LONGEST_OFFER = 90 * DAY
OFFER_LIVES = 7 * DAY
MOST_NETWORKS = 256
LARGEST_CAP = 2**31 - 1
#: What the proxy reads of a request at most, whatever the terms say.
LARGEST_REQUEST = 10 * 1024 * 1024
LARGEST_METADATA = 16 * 1024

IPAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Constraints:
    """The limits of a delegation. None means: not limited beyond the gateway's own bounds."""

    expires_at: Instant
    max_actions_per_hour: int | None = None
    max_actions_per_day: int | None = None
    max_actions_per_month: int | None = None
    ip_allowlist: tuple[str, ...] = ()
    max_request_bytes: int | None = None

    def cap(self, kind: WindowKind) -> int | None:
        """Most admissions in one window of this kind."""
        match kind:
            case WindowKind.HOUR:
                return self.max_actions_per_hour
            case WindowKind.DAY:
                return self.max_actions_per_day
            case WindowKind.MONTH:
                return self.max_actions_per_month


@dataclass(frozen=True, slots=True)
class Terms:
    """One version of a delegation's terms, with its networks parsed."""

    version: int
    scopes: frozenset[str]
    constraints: Constraints
    networks: tuple[Network, ...]

    @classmethod
    def of(cls, version: int, scopes: list[str], constraints: Mapping[str, Any]) -> "Terms":
        """From the stored form."""
        made = from_stored(constraints)
        return cls(version, frozenset(scopes), made, tuple(ip_network(cidr) for cidr in made.ip_allowlist))

    def allows(self, address: IPAddress | None) -> bool:
        """Whether the terms let a request come from this address; no list means: from anywhere."""
        if not self.networks:
            return True
        return address is not None and any(address in network for network in self.networks)


def stored(constraints: Constraints) -> dict[str, Any]:
    """The form that is stored and hashed: the public names, without nulls."""
    values = {
        "expiresAt": constraints.expires_at,
        "maxActionsPerHour": constraints.max_actions_per_hour,
        "maxActionsPerDay": constraints.max_actions_per_day,
        "maxActionsPerMonth": constraints.max_actions_per_month,
        "ipAllowlist": list(constraints.ip_allowlist),
        "maxRequestBytes": constraints.max_request_bytes,
    }
    return {name: value for name, value in values.items() if value is not None}


def from_stored(values: Mapping[str, Any]) -> Constraints:
    """The inverse of `stored`."""
    return Constraints(
        expires_at=values["expiresAt"],
        max_actions_per_hour=values.get("maxActionsPerHour"),
        max_actions_per_day=values.get("maxActionsPerDay"),
        max_actions_per_month=values.get("maxActionsPerMonth"),
        ip_allowlist=tuple(values["ipAllowlist"]),
        max_request_bytes=values.get("maxRequestBytes"),
    )


def terms_hash(version: int, scopes: list[str], constraints: Constraints, metadata: object) -> str:
    """What `acceptDelegation(termsHash:)` confirms: SHA-256, in hex, of the terms as JSON with sorted keys.

    `expiresAt` stands in it as microseconds since 1970; limits that are not set are left out.
    """
    whole = {"version": version, "scopes": scopes, "constraints": stored(constraints), "metadata": metadata}
    return sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


def refuse(constraints: Constraints, now: Instant) -> Refusal | None:
    """The first thing that is wrong with new constraints, or None."""
    return _refuse_expiry(constraints.expires_at, now) or _refuse_limits(constraints)


def _refuse_expiry(expires_at: Instant, now: Instant) -> Refusal | None:
    path = ("constraints", "expiresAt")
    if expires_at <= now:
        return Refusal(
            Code.EXPIRY_INVALID, "constraints.expiresAt is in the past: give a later instant", path
        )
    if expires_at > now + LONGEST_DELEGATION:
        message = "constraints.expiresAt is more than 366 days away: a delegation lives 366 days at most"
        return Refusal(Code.EXPIRY_INVALID, message, path)
    return None


def _refuse_limits(constraints: Constraints) -> Refusal | None:
    limits = {
        "maxActionsPerHour": (constraints.max_actions_per_hour, LARGEST_CAP),
        "maxActionsPerDay": (constraints.max_actions_per_day, LARGEST_CAP),
        "maxActionsPerMonth": (constraints.max_actions_per_month, LARGEST_CAP),
        "maxRequestBytes": (constraints.max_request_bytes, LARGEST_REQUEST),
    }
    for name, (value, most) in limits.items():
        if value is not None and not 1 <= value <= most:
            message = f"constraints.{name} is {value}: give a number from 1 to {most}, or leave it out"
            return Refusal(Code.CAP_INVALID, message, ("constraints", name))
    return _refuse_networks(constraints.ip_allowlist)


def _refuse_networks(networks: tuple[str, ...]) -> Refusal | None:
    path = ("constraints", "ipAllowlist")
    if len(networks) > MOST_NETWORKS:
        message = f"constraints.ipAllowlist has {len(networks)} networks: {MOST_NETWORKS} at most"
        return Refusal(Code.LIMIT_REACHED, message, path)
    for at, cidr in enumerate(networks):
        try:
            ip_network(cidr)
        except ValueError as error:
            message = f"constraints.ipAllowlist[{at}]: {error}; give a network such as 203.0.113.0/24"
            return Refusal(Code.CIDR_INVALID, message, (*path, str(at)))
    return None


def refuse_offer_expiry(offer_expires_at: Instant, now: Instant) -> Refusal | None:
    """Refuses an offer that would have lapsed already, or would stand open for too long."""
    path = ("offerExpiresAt",)
    if offer_expires_at <= now:
        return Refusal(Code.EXPIRY_INVALID, "offerExpiresAt is in the past: give a later instant", path)
    if offer_expires_at > now + LONGEST_OFFER:
        return Refusal(Code.EXPIRY_INVALID, "offerExpiresAt is more than 90 days away: 90 days at most", path)
    return None
