"""A store that cannot be used just now, told apart from a fault of ours.

`Unavailable` promises that nothing was done. So it stands around everything up to a COMMIT, and never around one: a
COMMIT whose answer was lost may have been carried out, and whoever asked for it must not be told otherwise.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.rules.errors import Unavailable
from app.telemetry import get_logger

_RETRY_AFTER = 5  # seconds

log = get_logger()


@contextmanager
def nothing_done(is_away: Callable[[Exception], bool]) -> Iterator[None]:
    """Raises Unavailable in place of what `is_away` takes for a store that cannot be used."""
    try:
        yield
    except Exception as error:
        if not is_away(error):
            raise
        log.warning("store.unavailable", reason=reason(error))
        message = "the gateway cannot use its database just now: nothing was done; try again"
        raise Unavailable(message, _RETRY_AFTER) from error


def reason(error: Exception) -> str:
    """What a driver says of it, in one line; without the statement, which SQLAlchemy would add."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0] if said else type(error).__name__
