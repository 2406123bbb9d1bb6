"""What may be agreed on: the bounds of every constraint, and what is said where one is exceeded."""

from ipaddress import IPv6Network, ip_network

import orjson

from app.rules.errors import Code, Refusal
from app.rules.ids import DAY, Instant
from app.rules.terms import Constraints
from app.rules.texts import shown

LONGEST_DELEGATION = 366 * DAY
LONGEST_OFFER = 90 * DAY
OFFER_LIVES = 7 * DAY
MOST_NETWORKS = 256
LARGEST_CAP = 2**31 - 1
#: What the proxy reads of a request at most, whatever the terms say.
LARGEST_REQUEST = 10 * 1024 * 1024
LARGEST_METADATA = 16 * 1024
#: Trust scores are 0 to this.
HIGHEST_SCORE = 100


def refuse(constraints: Constraints, now: Instant) -> Refusal | None:
    """The first thing that is wrong with new constraints, or None. Guards are for `refuse_guards`."""
    return (
        _refuse_expiry(constraints.expires_at, now)
        or _refuse_limits(constraints)
        or _refuse_networks(constraints.ip_allowlist)
    )


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
        "maxCostUnitsPerMonth": (constraints.max_cost_units_per_month, LARGEST_CAP),
        "maxRequestBytes": (constraints.max_request_bytes, LARGEST_REQUEST),
    }
    for name, (value, most) in limits.items():
        if value is not None and not 1 <= value <= most:
            message = f"constraints.{name} is {value}: give a number from 1 to {most}, or leave it out"
            return Refusal(Code.CAP_INVALID, message, ("constraints", name))
    floor = constraints.require_trust_score_above
    if floor is not None and not 0 <= floor < HIGHEST_SCORE:
        message = (
            f"constraints.requireTrustScoreAbove is {floor}: scores are 0 to {HIGHEST_SCORE}, "
            f"so give a number from 0 to {HIGHEST_SCORE - 1}, or leave it out"
        )
        return Refusal(Code.INVALID, message, ("constraints", "requireTrustScoreAbove"))
    return None


def _refuse_networks(networks: tuple[str, ...]) -> Refusal | None:
    path = ("constraints", "ipAllowlist")
    if len(networks) > MOST_NETWORKS:
        message = f"constraints.ipAllowlist has {len(networks)} networks: {MOST_NETWORKS} at most"
        return Refusal(Code.LIMIT_REACHED, message, path)
    for at, cidr in enumerate(networks):
        try:
            network = ip_network(cidr)
        except ValueError:
            message = f"constraints.ipAllowlist[{at}]: {shown(cidr)!r} is no network: give one such as 203.0.113.0/24"
            return Refusal(Code.CIDR_INVALID, message, (*path, str(at)))
        # The gateway sees such a caller's address as IPv4: the network would match nobody.
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
            message = f"constraints.ipAllowlist[{at}]: {cidr} maps IPv4: give the IPv4 network itself"
            return Refusal(Code.CIDR_INVALID, message, (*path, str(at)))
    return None


def refuse_metadata(metadata: object) -> Refusal | None:
    """Refuses what is too large to stand in the terms."""
    if len(orjson.dumps(metadata)) <= LARGEST_METADATA:
        return None
    return Refusal(Code.INVALID, f"metadata is over {LARGEST_METADATA} bytes as JSON", ("metadata",))


def refuse_offer_expiry(offer_expires_at: Instant, now: Instant) -> Refusal | None:
    """Refuses an offer that would have lapsed already, or would stand open for too long."""
    path = ("offerExpiresAt",)
    if offer_expires_at <= now:
        return Refusal(Code.EXPIRY_INVALID, "offerExpiresAt is in the past: give a later instant", path)
    if offer_expires_at > now + LONGEST_OFFER:
        return Refusal(Code.EXPIRY_INVALID, "offerExpiresAt is more than 90 days away: 90 days at most", path)
    return None
