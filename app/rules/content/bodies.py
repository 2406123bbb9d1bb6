"""Bodies: read once and strictly, so that a guard judges what an upstream will read.

What readers are known to read in two ways is not read at all, and a guard denies what is not read:

- **JSON** is what is declared so (`application/json`, `text/json`, `+json`), and what begins with `{`, `[` or `"`
  however it is declared, since an upstream may look at the content alone. It is UTF-8 without a byte order mark;
  no object has a key twice, nor two keys that differ in case alone (Go reads them as one); no NaN, Infinity, lone
  surrogates; integers to 2^53-1 either way (I-JSON, RFC 7493: JavaScript reads others as their neighbours), other
  numbers 0 or of 1e-30 to 1e30; at most 32 levels, and 10,000 keys and values.
- **Other text** is UTF-8 without a byte order mark or NUL. It is matched as it stands and with its escapes undone
  (percent-encoding, character references such as `&#65;`, `\\u0041`), round by round until nothing changes; a form's
  escapes must be UTF-8. What the text's own syntax hides otherwise is not seen through: base64, CDATA, quoted-printable.
- **Everything else** is unreadable: another charset, UTF-16, binary, a Content-Type that is none.

An empty body is JSON's null. Content-Encoding is not undone: who calls this has refused it. A body has at most 128 KiB,
or 64 KiB where it is not declared to be JSON.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from html import unescape
from typing import Any, NamedTuple

import orjson

from app.rules.content.denials import Denial
from app.rules.errors import Code
from app.rules.texts import not_json

GUARDED_BYTES = 128 * 1024
#: Of what is not declared to be JSON, whose escapes are undone one by one.
GUARDED_TEXT_BYTES = 64 * 1024
DEEPEST = 32
MOST_NODES = 10_000
#: Twice is a mistake that people make, four times is none.
MOST_ROUNDS = 4

#: How each denial of a body that cannot be judged begins.
UNREADABLE = "The body cannot be judged: "

_LONGEST_TYPE = 256
_TOKEN = r"[A-Za-z0-9!#$&^_.+*'-]+"
_PARAMETER = re.compile(rf';[ \t]*(?:({_TOKEN})=({_TOKEN}|"[^"\\]*")[ \t]*)?')
_TYPE = re.compile(rf"[ \t]*({_TOKEN}/{_TOKEN})[ \t]*((?:{_PARAMETER.pattern})*)")
_CHARSETS = {"utf-8", "utf8", "us-ascii"}

_LARGEST_INTEGER = 2**53 - 1
_SMALLEST_FRACTION, _LARGEST_FRACTION = 1e-30, 1e30
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ESCAPED = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))")


class Size(NamedTuple):
    """How much there is in a body. `pairs` are of any value and a list that may be an item of the same list."""

    nodes: int
    integers: int = 0
    fractions: int = 0
    bytes: int = 0
    pairs: int = 0


class Body(NamedTuple):
    """A body that was read. `value` is None where it is not JSON.

    `strings` are JSON's keys and texts without their escapes, and other text with its escapes undone; `plain` says that
    all of them stand in `raw` as they are.
    """

    raw: bytes
    is_json: bool
    value: Any
    strings: Sequence[str]
    size: Size
    plain: bool


class _Type(NamedTuple):
    is_json: bool
    is_form: bool


EMPTY = Body(b"", is_json=True, value=None, strings=(), size=Size(1), plain=True)


def read(raw: bytes, content_type: str | None) -> Body | Denial:
    """Reads a body as the head of this module says."""
    if not raw:
        return EMPTY
    declared = _declared(content_type)
    if declared is None:
        return unreadable("its Content-Type is none, or names a charset other than UTF-8")
    most = GUARDED_BYTES if declared.is_json else GUARDED_TEXT_BYTES
    if len(raw) > most:
        what = "is declared to be JSON" if declared.is_json else "is not declared to be JSON"
        return too_large(
            f"The body has {len(raw)} bytes; where content is judged, one that {what} has {most} at most."
        )
    if raw.startswith(b"\xef\xbb\xbf"):
        return unreadable("it begins with a byte order mark")
    return _read_json(raw) if declared.is_json else _read_text(raw, declared)


def worst(size: int) -> Size:
    """How much there may be in any body of so many bytes."""
    nodes = min(size + 1, MOST_NODES)
    return Size(nodes, nodes, nodes, size, nodes * nodes)


def size_at_most(raw: bytes) -> Size:
    """How much there may be in a body, before it is read."""
    items, lists = 1 + raw.count(b","), raw.count(b"[")
    nodes = min(items + raw.count(b":") + lists + raw.count(b"{"), MOST_NODES)
    fractions = min(raw.count(b".") + raw.count(b"e") + raw.count(b"E"), nodes)
    return Size(nodes, nodes, fractions, len(raw), nodes * min(lists, items, nodes))


def longest(size: Size) -> float:
    """Microseconds that reading a body of this size may take."""
    return 10 + size.nodes * 0.3 + size.bytes * 0.4


def unreadable(why: str) -> Denial:
    """The denial of a body that cannot be judged."""
    return Denial(Code.BODY_UNREADABLE, f"{UNREADABLE}{why}.")


def too_large(detail: str) -> Denial:
    """The denial of a request that would take too long to judge."""
    return Denial(Code.REQUEST_TOO_LARGE, detail)


@lru_cache(maxsize=256)
def _declared(content_type: str | None) -> _Type | None:
    if content_type is None:
        return _Type(is_json=False, is_form=False)
    found = _TYPE.fullmatch(content_type) if len(content_type) <= _LONGEST_TYPE else None
    if found is None:
        return None
    for name, value in _PARAMETER.findall(found[2]):
        # with `charset*` too, which RFC 2231 reads as a charset
        if name.lower().startswith("charset") and value.strip('"').lower() not in _CHARSETS:
            return None
    media = found[1].lower()
    return _Type(media.endswith(("/json", "+json")), media == "application/x-www-form-urlencoded")


# --- JSON


def _read_json(raw: bytes) -> Body | Denial:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return unreadable(f"it is no JSON, {not_json(raw, error)}")
    strings: list[str] = []
    walked = _walk(value, strings)
    if isinstance(walked, str):
        return unreadable(walked)
    size, has_large = walked
    # Without escapes every quote bounds a string, and a string that was read over is missing in the count.
    plain = b"\\" not in raw
    sure = plain and raw.count(b'"') == 2 * len(strings) and not has_large
    if not sure and (fault := _read_again(raw)):
        return unreadable(fault)
    return Body(
        raw, is_json=True, value=value, strings=strings, size=size._replace(bytes=len(raw)), plain=plain
    )


def _walk(value: Any, strings: list[str]) -> tuple[Size, bool] | str:
    """Gathers the strings level by level. How much there is, keys among the nodes, and whether a number may be an integer
    that not every reader keeps exact; or what is wrong.
    """
    level, nodes, integers, fractions, lists, longest, large = [value], 0, 0, 0, 0, 0, False
    for _ in range(DEEPEST):
        nodes += len(level)
        below: list[Any] = []
        for each in level:
            kind = type(each)
            if kind is str:
                strings.append(each)
            elif kind is dict:
                if len(set(map(str.casefold, each))) != len(each):
                    return "an object has two keys that differ in case alone"
                nodes += len(each)
                strings += each
                below += each.values()
            elif kind is list:
                below += each
                lists += 1
                longest = max(longest, len(each))
            elif kind is int:
                integers += 1
                large = large or abs(each) > _LARGEST_INTEGER
            elif kind is float:
                if each and not _SMALLEST_FRACTION <= abs(each) <= _LARGEST_FRACTION:
                    return "a number in it is beyond 1e30, or below 1e-30 and not 0"
                # perhaps an integer of more digits than orjson reads
                large = large or abs(each) > _LARGEST_INTEGER
                fractions += 1
        if nodes + len(below) > MOST_NODES:
            return f"it has over {MOST_NODES} keys and values"
        if not below:
            return Size(nodes, integers, fractions, pairs=nodes * min(lists, longest)), large
        level = below
    return f"it is nested over {DEEPEST} levels deep"


class _Twofold(ValueError):
    """What one reader reads in this way and another in that."""


def _read_again(raw: bytes) -> str | None:
    """Looks for what orjson reads over: keys that are there twice, and integers that it makes doubles of."""
    try:
        _AGAIN.decode(raw.decode())
    except _Twofold as error:
        return str(error)
    except ValueError:  # more digits than Python reads
        return "a number in it has too many digits"
    return None


def _once(members: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in members}) != len(members):
        raise _Twofold("an object has the same key twice")


def _integer(digits: str) -> None:
    if abs(int(digits)) > _LARGEST_INTEGER:
        raise _Twofold("an integer in it is beyond 2^53-1: send it as a string")


_AGAIN = json.JSONDecoder(object_pairs_hook=_once, parse_int=_integer)


# --- other text


def _read_text(raw: bytes, declared: _Type) -> Body | Denial:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return unreadable("it is neither JSON nor text in UTF-8")
    if "\0" in text:
        return unreadable("it is neither JSON nor text, it holds a NUL")
    forms = _forms(text, declared)
    if isinstance(forms, Denial):
        return forms
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return Body(raw, is_json=False, value=None, strings=forms, size=Size(1), plain=not forms)
    body = _read_json(raw)
    if isinstance(body, Denial) or not forms:
        return body
    return body._replace(strings=[*body.strings, *forms], plain=False)


def _forms(text: str, declared: _Type) -> list[str] | Denial:
    """The text with its escapes undone, once, twice …; each kind by itself, for one may hide what another needs."""
    forms: list[str] = []
    for undo in _undoing(text, declared):
        before = text
        for _ in range(MOST_ROUNDS):
            try:
                after = undo(before)
            except UnicodeDecodeError:
                return unreadable("its percent-encoding is not UTF-8")
            if after == before:
                break
            forms.append(after)
            before = after
        else:
            return unreadable(f"it is escaped over {MOST_ROUNDS - 1} times")
    return forms


def _undoing(text: str, declared: _Type) -> Iterator[Callable[[str], str]]:
    if declared.is_form:
        yield _unquote_form
    elif "%" in text:
        yield partial(_unquote, errors="replace")
    if "&" in text and not declared.is_form:
        yield unescape
    if "\\" in text:
        yield _unescape


def _unquote_form(text: str) -> str:
    return _unquote(text.replace("+", " "), errors="strict")


# The standard library's takes a quarter of a second for a body of nothing but percent signs.
def _unquote(text: str, errors: str) -> str:
    return _PERCENT.sub(lambda found: bytes.fromhex(found[0].replace("%", "")).decode(errors=errors), text)


def _unescape(text: str) -> str:
    units = _ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)), text)
    # two surrogates are one character, a lone one is none
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
