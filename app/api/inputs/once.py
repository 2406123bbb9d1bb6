"""`idempotencyKey`, of whatever creates."""

from app.rules.errors import Code, Refusal

ONCE = "Makes a repeat by your tenant within 24 hours the same request, which makes nothing more: 1 to 255 characters."
ONCE_SECRET = f"{ONCE} It does not show the secret again."

LONGEST_KEY = 255


def refuse_key(key: str | None) -> Refusal | None:
    """Refuses an idempotency key that is empty or too long."""
    if key is None or 1 <= len(key) <= LONGEST_KEY:
        return None
    message = f"idempotencyKey has {len(key)} characters: give 1 to {LONGEST_KEY}"
    return Refusal(Code.INVALID, message, ("idempotencyKey",))
