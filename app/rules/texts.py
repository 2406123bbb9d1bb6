"""Words that people give us: bounded, and such that every store and every reader takes them alike."""

import re
from json import JSONDecodeError

from app.rules.errors import Code, Refusal

LONGEST_NAME = 200
LONGEST_TEXT = 2_000
#: Characters of somebody's words that an answer repeats to them, and of a whole message.
LONGEST_SHOWN = 100
LONGEST_MESSAGE = 1_000

#: What PostgreSQL or UTF-8 cannot hold, and what makes a reader see other words than are there: C0 (but for line feed
#: and tab), DEL and C1, Unicode's line breaks, the marks that turn the direction of text, surrogates.
_UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def refuse_text(field: str, text: str, *, longest: int = LONGEST_NAME, empty: bool = False) -> Refusal | None:
    """Refuses what is empty, too long, or holds characters that not everybody can store and read."""
    if not text.strip() and not empty:
        return Refusal(Code.INVALID, f"{field} is empty: give 1 to {longest} characters", (field,))
    if len(text) > longest:
        return Refusal(Code.INVALID, f"{field} has {len(text)} characters: {longest} at most", (field,))
    if found := _UNREADABLE.search(text):
        message = f"{field} holds the control character U+{ord(found[0]):04X}: leave it out"
        return Refusal(Code.INVALID, message, (field,))
    return None


def shown(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Somebody's words, cut to what an answer repeats of them."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def not_json(raw: bytes, error: ValueError) -> str:
    """Why a text is no JSON, and where; the reader's own words, which are exact, are quoted."""
    try:
        raw.decode()
    except UnicodeDecodeError as wrong:
        return f"byte {wrong.start + 1} begins nothing that is UTF-8"
    if isinstance(error, JSONDecodeError):
        return f'line {error.lineno}, column {error.colno}: "{error.msg}"'
    return str(error)
