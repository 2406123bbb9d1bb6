"""`denyPatterns`: RE2 patterns; a body in which one of them is found is denied.

They are matched with `(?m)`, so `^` and `$` stand for the beginning and end of a line and of each JSON string, against
the body as it was sent and then against what its escapes hide (see `bodies`). Case counts unless a pattern says `(?i)`.
A pattern may run from one string into the next only through a negated class such as `[^,]*` or with `(?s)`: that denies
more, never less.

RE2 takes time linear in the text at worst, for each instruction of its program. All patterns of the terms are one
program, since one call is what costs most; the more instructions it has, the smaller the bodies that it judges. Where
an automaton would need too much memory RE2 falls back to a slower one and finds the same; `RE2::Set` would not, it
would report no match.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import re2  # type: ignore[import-untyped]

from app.rules.content.bodies import Body, too_large
from app.rules.content.denials import Denial
from app.rules.errors import Code, Refusal
from app.rules.texts import shown

MOST_PATTERNS = 20
LONGEST_PATTERN = 500
MOST_INSTRUCTIONS = 2_000
#: Instructions times bytes: 50 ms at the 5 ns that the slowest automaton takes.
MOST_WORK = 10_000_000
#: Bytes of memory for one program and its automata, of which a cache holds many.
_MEMORY = 256 * 1024

#: A line of its own that no class but a negated one matches.
_BETWEEN = "\n\0\n"
_NAMED = "constraints.denyPatterns"
_PATH = ("constraints", "denyPatterns")
#: What would not mean the same within the one program, or would never match there, and what to say instead.
_UNFIT = {
    r"\A": "write ^",
    r"\z": "write $",
    r"\Q": "put a backslash before each special character",
    r"\C": "it matches parts of characters",
}
_SIMPLER = "use fewer or simpler ones, without large counts such as {500} or classes such as \\pL"
_PIECE = re.compile(r"\\.|\(\?[a-zA-Z]*-[a-zA-Z]*m", re.DOTALL)


class Program(NamedTuple):
    """The patterns of one version of the terms, compiled. `size` counts instructions."""

    regexp: Any
    size: int
    anchored: bool


def refuse(patterns: Sequence[str]) -> Refusal | None:
    """The first thing that is wrong with patterns, or None."""
    if len(patterns) > MOST_PATTERNS:
        message = f"{_NAMED} has {len(patterns)} patterns: {MOST_PATTERNS} at most"
        return Refusal(Code.LIMIT_REACHED, message, _PATH)
    size = 0
    for at, pattern in enumerate(patterns):
        found = _size(pattern)
        if isinstance(found, str):
            return Refusal(Code.PATTERN_INVALID, f"{_NAMED}[{at}] {found}", (*_PATH, str(at)))
        size += found
        if size > MOST_INSTRUCTIONS:  # before any more is compiled: that is what takes time
            return Refusal(Code.PATTERN_INVALID, f"{_NAMED} {_too_large(size)}", _PATH)
    if patterns and (too_much := _too_much(tuple(patterns))):
        return Refusal(Code.PATTERN_INVALID, f"{_NAMED} {too_much}", _PATH)
    return None


def _size(pattern: str) -> int | str:
    """How many instructions a pattern has, or what is wrong with it."""
    if not pattern:
        return f"is empty: give 1 to {LONGEST_PATTERN} characters, or leave it out"
    if len(pattern) > LONGEST_PATTERN:
        return f"has {len(pattern)} characters: {LONGEST_PATTERN} at most"
    for piece in _PIECE.findall(pattern):
        if instead := _UNFIT.get(piece):
            return f"holds {piece}, which is not supported here: {instead}"
        if piece.startswith("("):
            return f"switches (?m) off with {shown(piece)}: ^ and $ always stand for the ends of a line or string"
    try:
        re2.compile(
            pattern, _options()
        )  # by itself first: what bounds it in the program may also complete it
        regexp = _compile(pattern)
    except (re2.error, UnicodeEncodeError) as error:
        return _said(error)
    if regexp.search(b"") and regexp.search(b"\0"):
        return "matches the empty text, and so every body: say what must not be in it"
    size: int = regexp.programsize
    return size


def _said(error: Exception) -> str:
    """What is wrong with a pattern. Where it is, only RE2 knows, so its words are there too."""
    if isinstance(error, UnicodeEncodeError):
        return "holds half a character, which is no Unicode: leave it out"
    said = error.args[0] if error.args else ""
    text = shown(said.decode(errors="replace") if isinstance(said, bytes) else str(said))
    return f'is no RE2 pattern, RE2 says "{text}": see github.com/google/re2/wiki/Syntax'


def _too_much(patterns: tuple[str, ...]) -> str | None:
    try:
        size = compiled(patterns).size
    except re2.error:
        return f"are too much for one program together: {_SIMPLER}"
    return _too_large(size) if size > MOST_INSTRUCTIONS else None


def _too_large(size: int) -> str:
    return f"make a program of {size} instructions or more, {MOST_INSTRUCTIONS} at most: {_SIMPLER}"


@lru_cache(maxsize=512)
def compiled(patterns: tuple[str, ...]) -> Program:
    """One program of all patterns. Raises re2.error for what `refuse` refuses."""
    whole = "|".join(f"(?:{pattern})" for pattern in patterns)
    regexp = _compile(whole)
    return Program(regexp, regexp.programsize, "^" in whole.replace("[^", "") or "$" in whole)


@lru_cache(maxsize=256)
def single(pattern: str) -> Program:
    """A pattern by itself, without `(?m)`. Raises ValueError for what is none, with what is wrong with it."""
    try:
        regexp = re2.compile(pattern, _options())
    except (re2.error, UnicodeEncodeError) as error:
        raise ValueError(_said(error)) from None
    return Program(regexp, regexp.programsize, anchored=False)


def _compile(pattern: str) -> Any:
    return re2.compile(f"(?m:{pattern})", _options())


def _options() -> Any:
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    options.never_capture = True
    return options


def judge(patterns: tuple[str, ...], body: Body) -> Denial | None:
    """Denies a body in which a pattern is found, or that is too large for so many instructions."""
    program = compiled(patterns)
    text = _matched(body, program.anchored)
    work = program.size * len(text)
    if work > MOST_WORK:
        return too_large(
            f"The terms' denyPatterns make a program of {program.size} instructions, which judges texts of up to "
            f"{MOST_WORK // program.size} bytes; this body makes {len(text)}."
        )
    if program.regexp.search(text) is None:
        return None
    # For the one that asks why, unless it were as much work again.
    which = _which(patterns, text) if work <= MOST_WORK // 4 else None
    named = "one of the terms' denyPatterns" if which is None else f"denyPatterns[{which}] of the terms"
    return Denial(Code.PATTERN_DENIED, f"The body holds what {named} denies.")


def longest(patterns: tuple[str, ...], size: int) -> float:
    """Microseconds that judging a body of so many bytes may take."""
    return min(compiled(patterns).size * size * 2, MOST_WORK) * 0.005


def _matched(body: Body, anchored: bool) -> bytes:
    # Where the strings stand in the raw text as they are, only ^ and $ see where they end.
    if body.plain and not anchored:
        return body.raw
    return b"%b%b" % (body.raw, _BETWEEN.join(("", *body.strings)).encode())


def _which(patterns: tuple[str, ...], text: bytes) -> int | None:
    return next((at for at, pattern in enumerate(patterns) if _compile(pattern).search(text)), None)
