"""Conditions as a row of tokens, and CEL's literals as they are read and written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.rules.texts import shown

LONGEST = 1_000
END = "the end"
#: Literals that are words, and their kinds.
WORDS = {"true": "bool", "false": "bool", "null": "null"}
#: What other languages write, and CEL's for it.
_INSTEAD = {"=": "==", "&": "&&", "|": "||", "and": "&&", "or": "||", "not": "!"}

_TOKENS = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\r\n]*)
    |(?P<double>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
    |(?P<int>0x[0-9a-fA-F]+|[0-9]+)
    |(?P<string>"(?!"")(?:[^"\\\r\n]|\\.)*"|'(?!'')(?:[^'\\\r\n]|\\.)*'|[rR](?:"(?!"")[^"\r\n]*"|'(?!'')[^'\r\n]*'))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:[xX]([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-3][0-7]{2})|(.))")
_ESCAPES = dict(zip("abfnrtv\\?\"'`", "\a\b\f\n\r\t\v\\?\"'`", strict=True))


class Malformed(ValueError):
    """What is wrong with a condition, as it follows on its name, and what would be right."""


class Token(NamedTuple):
    """A piece of a condition: its kind is int, double, string, name, sign or END."""

    kind: str
    text: str
    at: int

    @property
    def shown(self) -> str:
        """How a message names it."""
        return END if self.kind == END else f"{shown(self.text)} at character {self.at + 1}"


def tokens(text: str) -> list[Token]:
    """Reads a condition's tokens; the last one is its end. Raises Malformed."""
    if len(text) > LONGEST:
        raise Malformed(f"has {len(text)} characters: {LONGEST} at most")
    found, at = [], 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None or match.lastgroup is None:
            raise Malformed(
                f"has {text[at]!r} at character {at + 1}, which begins nothing that is known{use(text[at])}"
            )
        token, at = Token(match.lastgroup, match[0], at), match.end()
        if token.kind in ("int", "double") and re.match(r"[\w.]", text[at : at + 1]):
            raise Malformed(f"has the number {token.shown}, which goes on with {text[at]!r}")
        if token.kind != "space":
            found.append(token)
    return [*found, Token(END, "", len(text))]


@dataclass
class Cursor:
    """A place in a row of tokens, from which the next ones are taken. What is not there as needed raises Malformed."""

    tokens: Sequence[Token]
    at: int = 0

    @property
    def token(self) -> Token:
        """The next token."""
        return self.tokens[self.at]

    def take(self) -> Token:
        """Takes the next token, whatever it is; never at the end."""
        self.at += 1
        return self.tokens[self.at - 1]

    def takes(self, *texts: str) -> str | None:
        """Takes the next token if it is one of these signs or words."""
        token = self.token
        return self.take().text if token.kind in ("sign", "name") and token.text in texts else None

    def needs(self, text: str) -> None:
        """Takes this sign."""
        if not self.takes(text):
            raise self.wrong(text)

    def name(self) -> str:
        """Takes a name."""
        if self.token.kind != "name" or self.token.text in (*WORDS, "in"):
            raise self.wrong("a name")
        return self.take().text

    def wrong(self, wanted: str) -> Malformed:
        """What to say where something else should stand."""
        return Malformed(f"has {self.token.shown}, where {wanted} should stand{use(self.token.text)}")


def use(text: str) -> str:
    """The hint, after a message, for what other languages write."""
    return f": use {_INSTEAD[text.lower()]}" if text.lower() in _INSTEAD else ""


def unquoted(token: Token) -> str:
    """What a string literal stands for. Raises Malformed."""
    raw, text = token.text[0] in "rR", token.text.lstrip("rR")[1:-1]
    if raw:
        return text
    value = _ESCAPE.sub(_unescaped, text)
    if any("\ud800" <= each <= "\udfff" for each in value):
        raise Malformed(f"has half a character in {token.shown}")
    return value


def _unescaped(found: re.Match[str]) -> str:
    hexadecimal = found[1] or found[2] or found[3]
    code = int(hexadecimal, 16) if hexadecimal else int(found[4], 8) if found[4] else None
    if code is not None and code <= 0x10FFFF:
        return chr(code)
    if found[5] in _ESCAPES:
        return _ESCAPES[found[5]]
    raise Malformed(f"has the escape {found[0]}, which CEL does not have: a backslash itself is written \\\\")


def quoted(value: str) -> str:
    """A string literal that stands for this, in one spelling."""
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(each: str) -> str:
    if each in '\\"':
        return f"\\{each}"
    return each if each.isprintable() and each.isascii() else f"\\U{ord(each):08x}"
