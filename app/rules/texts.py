"""Words that people give us: bounded, and such that every store and every reader takes them alike."""

from app.rules.errors import Code, Refusal

LONGEST_NAME = 200
LONGEST_TEXT = 2_000


def refuse_text(field: str, text: str, *, longest: int = LONGEST_NAME, empty: bool = False) -> Refusal | None:
    """Refuses what is empty, too long, or holds characters that PostgreSQL or UTF-8 cannot."""
    if not text.strip() and not empty:
        return Refusal(Code.INVALID, f"{field} is empty: give 1 to {longest} characters", (field,))
    if len(text) > longest:
        return Refusal(Code.INVALID, f"{field} has {len(text)} characters: {longest} at most", (field,))
    if any((ch < " " and ch not in "\n\t") or ch == "\x7f" or "\ud800" <= ch <= "\udfff" for ch in text):
        return Refusal(Code.INVALID, f"{field} holds a control character or half a surrogate pair", (field,))
    return None
