"""What a router asks for in `extensions.subscription`, as Apollo's HTTP callback protocol 1.0 puts it."""

from dataclasses import dataclass, field

from app.egress.origins import Reach
from app.rules.errors import BadInput

MOST_SUBSCRIPTIONS = 10_000  # of one tenant
MOST_HEARTBEATS = 500  # a second, of one tenant: a third of a core
LONGEST_NAME = 200  # characters of a router's id for a subscription, and of a verifier
LARGEST_OPERATION = 32 * 1024  # bytes of a document with its variables

#: Milliseconds between heartbeats. 0 is none.
_SHORTEST, _LONGEST = 1_000, 3_600_000
_UNLESS_TOLD = 5_000

_IN = "extensions.subscription"


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a subscription is to be sent, under which name. `heartbeat` is in milliseconds."""

    url: str
    subscription_id: str
    verifier: str = field(repr=False)
    heartbeat: int

    @property
    def heartbeats(self) -> float:
        """How many it asks for in a second."""
        return 1_000 / self.heartbeat if self.heartbeat else 0.0


def asked_in(extension: object, reach: Reach) -> Asked:
    """Raises BadInput, naming the member that is wrong."""
    if not isinstance(extension, dict):
        raise BadInput(
            f"{_IN} must be an object with callbackUrl, subscriptionId and verifier, for that is where "
            "callbackSpec=1.0 has them; without a callback, send Accept: text/event-stream or use a WebSocket"
        )
    url = extension.get("callbackUrl")
    if not isinstance(url, str):
        raise BadInput(f"{_IN}.callbackUrl must be a string: the address that takes the router's callbacks")
    if reason := reach.refusal(url):
        raise BadInput(f"{_IN}.callbackUrl {reason}")
    subscription_id, verifier = _name(extension, "subscriptionId"), _name(extension, "verifier")
    return Asked(url, subscription_id, verifier, _heartbeat(extension.get("heartbeatIntervalMs")))


def _name(extension: dict[str, object], name: str) -> str:
    value = extension.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_NAME or not value.isprintable():
        raise BadInput(f"{_IN}.{name} must be a string of 1 to {LONGEST_NAME} printable characters")
    return value


def _heartbeat(value: object) -> int:
    if value is None:
        return _UNLESS_TOLD
    if type(value) is int and (value == 0 or _SHORTEST <= value <= _LONGEST):  # a bool is none
        return value
    raise BadInput(
        f"{_IN}.heartbeatIntervalMs must be 0, for none, or an integer from {_SHORTEST} to {_LONGEST}"
    )
