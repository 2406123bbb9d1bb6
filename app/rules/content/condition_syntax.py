"""The language of conditions: a part of CEL, read strictly and written again from what was read.

The library that evaluates gives no tree and knows no bounds: `map(x, list)` is cubic, and a list within a list's macro
holds the interpreter for seconds. So a condition is read here, and what the library compiles is written anew, in a form
that leaves nothing to its reading:

- what a condition says of a request (`request.body.total`) becomes a variable (`_0`), so that only what is asked for is
  ever converted; `has(…)` and `matches(…)` of such become variables too, and are answered by `conditions`;
- macros are `all`, `exists` and `exists_one`, over what a request holds or over a list that is written out, and none
  stands within another; it is known how long each is and what it looks at (`Loop`);
- arithmetic is between numbers, or between timestamps and durations, and what a request holds is no number by its form:
  `double(request.body.total) * 1.19` says so. Comparing needs no such thing, 12 and 12.5 compare as they should.

What is not of this language (`map`, `filter`, bytes, unsigned integers, structs, `type`) is refused, with what to say
instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

from app.rules.content import condition_kinds as kinds
from app.rules.content.condition_lexemes import (
    END,
    WORDS,
    Cursor,
    Malformed,
    Token,
    quoted,
    tokens,
    unquoted,
    use,
)
from app.rules.texts import shown

DEEPEST = 16
MOST_TERMS = 20
LONGEST_PATTERN = 200

#: What a condition sees, and of which kind it is; "" is known only when there is a request.
ROOTS = {
    "request.method": "string",
    "request.path": "string",
    "request.query": "map",
    "request.body": "",
    "request.bytes": "int",
    "request.ip": "",
    "action.scope": "string",
    "delegation.id": "string",
    "now": "timestamp",
}
_FIRST = {root.split(".")[0] for root in ROOTS}
_HOLDERS = ("request.body", "request.query")
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


class Fact(NamedTuple):
    """What a condition asks of a request: the value at a path below a root, whether it is there, whether it matches."""

    root: str
    path: tuple[str | int, ...] = ()
    has: bool = False
    pattern: str | None = None


class Loop(NamedTuple):
    """A macro: over what a fact holds or so many items, how long what it evaluates for each is, what it looks at."""

    over: Fact | int
    length: int
    facts: tuple[Fact, ...]


class Expression(NamedTuple):
    """A condition as it was read. `text` is CEL, in which the n-th fact is the variable `_n`.

    `constants` are calls in it that depend on nothing, such as `timestamp("2026-01-01T00:00:00Z")`.
    """

    text: str
    facts: tuple[Fact, ...]
    loops: tuple[Loop, ...]
    constants: tuple[str, ...]


class _Part(NamedTuple):
    """A part, written again. `fact`: it is this and nothing else. `items`: it is a list of so many, written out."""

    text: str
    kind: str = ""
    fact: Fact | None = None
    items: int | None = None
    literal: str | int | None = None


def parse(text: str) -> Expression:
    """Reads a condition. Raises Malformed."""
    reader = _Reader(tokens(text))
    if reader.token.kind == END:
        raise Malformed("is empty: leave it out, or give a condition")
    whole = reader.expression()
    if reader.token.kind != END:
        raise reader.wrong("an operator, or the end")
    if whole.kind not in ("bool", ""):
        raise Malformed(f"gives {whole.kind}: it must be true or false")
    return Expression(whole.text, tuple(reader.facts), tuple(reader.loops), tuple(reader.constants))


@dataclass
class _Reader(Cursor):
    depth: int = 0
    #: The variable of each.
    facts: dict[Fact, str] = field(default_factory=dict)
    loops: list[Loop] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    #: The variable of the macro that is being read, and the facts that the macro looks at.
    each: str | None = None
    inside: list[Fact] = field(default_factory=list)

    def listed(self, end: str, read: Callable[[], _Part]) -> list[_Part]:
        parts: list[_Part] = []
        while not self.takes(end):
            if parts:
                self.needs(",")
            parts.append(read())
        return parts

    def deeper(self, read: Callable[[], _Part]) -> _Part:
        self.depth += 1
        if self.depth > DEEPEST:
            raise Malformed(f"is nested over {DEEPEST} levels deep")
        part = read()
        self.depth -= 1
        return part

    # --- operators, the weakest first

    def expression(self) -> _Part:
        return self.deeper(self._choice)

    def _choice(self) -> _Part:
        test = self._either()
        if not self.takes("?"):
            return test
        yes = self._either()
        self.needs(":")
        no = self.expression()
        kind = yes.kind if yes.kind == no.kind else ""
        return _Part(f"({_truth(test, '?')} ? {yes.text} : {no.text})", kind)

    def _either(self) -> _Part:
        return self._joined("||", self._both)

    def _both(self) -> _Part:
        return self._joined("&&", self._relation)

    def _joined(self, sign: str, read: Callable[[], _Part]) -> _Part:
        parts = [read()]
        while self.takes(sign):
            parts.append(read())
        if len(parts) == 1:
            return parts[0]
        return _Part(f"({f' {sign} '.join(_truth(part, sign) for part in parts)})", "bool")

    def _relation(self) -> _Part:
        left = self._sum()
        sign = self.takes(*_COMPARISONS, "in")
        if sign is None:
            return left
        right = self._sum()
        if sign == "in":
            kinds.need(right.kind, sign, "list", "map")
        else:
            kinds.need_comparable(left.kind, sign, right.kind)
        return _Part(f"({left.text} {sign} {right.text})", "bool")

    def _sum(self) -> _Part:
        return self._chain(("+", "-"), self._product)

    def _product(self) -> _Part:
        return self._chain(("*", "/", "%"), self._unary)

    def _chain(self, signs: Sequence[str], read: Callable[[], _Part]) -> _Part:
        left = read()
        terms = 1
        while sign := self.takes(*signs):
            terms += 1
            if terms > MOST_TERMS:
                raise Malformed(f"has over {MOST_TERMS} terms joined by {' or '.join(signs)}")
            right = read()
            left = _Part(f"({left.text} {sign} {right.text})", kinds.result(left.kind, sign, right.kind))
        return left

    def _unary(self) -> _Part:
        sign = self.takes("!", "-")
        if sign is None:
            return self._settled(self._member())
        if sign == "-" and self.token.kind in kinds.NUMBERS:
            return _number(self.take(), "-")
        part = self.deeper(self._unary)
        if sign == "!":
            return _Part(f"(!{_truth(part, sign)})", "bool")
        if part.kind not in kinds.NUMBERS:
            raise kinds.no_number(sign)
        return _Part(f"(-{part.text})", part.kind)

    # --- values, and what is asked of them

    def _member(self) -> _Part:
        part = self._primary()
        while sign := self.takes(".", "["):
            if sign == "[":
                part = self._index(part)
                continue
            name = self.name()
            part = self._method(part, name) if self.takes("(") else self._field(part, name)
        return part

    def _field(self, part: _Part, name: str) -> _Part:
        if part.fact:
            return _further(part.fact, name)
        if part.kind:
            raise Malformed(f"asks for {name} of {part.kind}, which has no such thing")
        return _Part(f"{part.text}.{name}")

    def _index(self, part: _Part) -> _Part:
        index = self.expression()
        self.needs("]")
        if part.fact and index.literal is not None:
            return _further(part.fact, index.literal)
        kinds.need(part.kind, "[…]", "list", "map")
        return _Part(f"{self._settled(part).text}[{index.text}]")

    def _method(self, part: _Part, name: str) -> _Part:
        if name in kinds.MACROS:
            return self._macro(part, name)
        if name in ("map", "filter"):
            raise kinds.unknown(name)
        arguments = self.listed(")", self.expression)
        if name == "matches" and len(arguments) == 1:
            return self._matches(part, arguments[0])
        part = self._settled(part)
        if name in kinds.PREDICATES and len(arguments) == 1:
            kinds.need(part.kind, name, "string")
            kinds.need(arguments[0].kind, name, "string")
            return _Part(f"{part.text}.{name}({arguments[0].text})", "bool")
        if name == "size" and not arguments:
            return self._call(name, part)
        if name in kinds.DATES and not arguments:
            kinds.need_date(part.kind, name)
            return _Part(f"{part.text}.{name}()", "int")
        raise kinds.unknown(name)

    def _matches(self, part: _Part, pattern: _Part) -> _Part:
        if not part.fact or not isinstance(pattern.literal, str):
            raise Malformed(
                "asks for matches otherwise than as in request.path.matches('^/v1/'): "
                "of what a request holds, by a pattern written out"
            )
        if len(pattern.literal) > LONGEST_PATTERN:
            raise Malformed(f"has a pattern of {len(pattern.literal)} characters: {LONGEST_PATTERN} at most")
        return self._settled(_Part("", "bool", part.fact._replace(pattern=pattern.literal)))._replace(
            fact=None
        )

    def _macro(self, over: _Part, name: str) -> _Part:
        if self.each is not None:
            raise Malformed(f"has {name} within another macro: macros cannot be nested")
        if over.items is None and not (over.fact and over.fact.root in _HOLDERS):
            raise Malformed(
                f"asks for {name} of what is no part of request.body or request.query, and no list written out"
            )
        over = self._settled(over)
        each, self.inside = self.name(), []
        if each in _FIRST:
            raise Malformed(f"calls the variable of {name} {each}, which is something else already")
        self.each = each
        self.needs(",")
        test = _truth(self.expression(), name)
        self.needs(")")
        self.each = None
        self.loops.append(Loop(over.fact or over.items or 0, len(test), tuple(self.inside)))
        return _Part(f"{over.text}.{name}(each, {test})", "bool")

    def _primary(self) -> _Part:
        if self.token.kind in kinds.NUMBERS:
            return _number(self.take(), "")
        if self.token.kind == "string":
            value = unquoted(self.take())
            return _Part(quoted(value), "string", literal=value)
        if self.takes("("):
            part = self.expression()
            self.needs(")")
            return part
        if self.takes("["):
            items = self.listed("]", self.expression)
            return _Part(f"[{', '.join(item.text for item in items)}]", "list", items=len(items))
        if self.takes("{"):
            return _Part(f"{{{', '.join(pair.text for pair in self.listed('}', self._pair))}}}", "map")
        if word := self.takes(*WORDS):
            return _Part(word, WORDS[word])
        return self._named(self.name())

    def _pair(self) -> _Part:
        key = self.expression()
        self.needs(":")
        return _Part(f"{key.text}: {self.expression().text}")

    def _named(self, name: str) -> _Part:
        if self.takes("("):
            return self._has() if name == "has" else self._function(name)
        if name == self.each:
            return _Part("each")
        root = name
        if name not in ROOTS and name in _FIRST:
            self.needs(".")
            root = f"{name}.{self.name()}"
        if root not in ROOTS:
            hint = use(root) or f": it sees {', '.join(ROOTS)}"
            raise Malformed(f"asks for {shown(root)}, which is not known{hint}")
        return _Part("", ROOTS[root], Fact(root))

    def _function(self, name: str) -> _Part:
        arguments = self.listed(")", self.expression)
        if name not in kinds.FUNCTIONS or len(arguments) != 1:
            raise kinds.unknown(name)
        return self._call(name, arguments[0])

    def _call(self, name: str, part: _Part) -> _Part:
        takes, kind = kinds.FUNCTIONS[name]
        kinds.need(part.kind, name, *takes)
        text = f"{name}({part.text})"
        if part.literal is not None:
            self.constants.append(text)
        return _Part(text, kind)

    def _has(self) -> _Part:
        part = self._member()
        self.needs(")")
        if part.fact and part.fact.path and isinstance(part.fact.path[-1], str):
            return self._settled(_Part("", "bool", part.fact._replace(has=True)))._replace(fact=None)
        if part.text.startswith("each.") and part.text.replace(".", "").isidentifier():
            return _Part(f"has({part.text})", "bool")
        raise Malformed(
            "asks for has otherwise than as in has(request.body.name), has(request.query.name), has(item.name)"
        )

    def _settled(self, part: _Part) -> _Part:
        """A part that goes on no further: if it is a fact, with the fact's variable."""
        if part.fact is None:
            return part
        if self.each is not None:
            self.inside.append(part.fact)
        return part._replace(text=self.facts.setdefault(part.fact, f"_{len(self.facts)}"))


def _truth(part: _Part, sign: str) -> str:
    kinds.need_truth(part.kind, sign)
    return part.text


def _number(token: Token, sign: str) -> _Part:
    if token.kind == "double":
        value = float(sign + token.text)
        if not isfinite(value):
            raise Malformed(f"has {token.shown}, which is too large")
        return _Part(repr(value), "double")
    whole = int(sign + token.text, 16 if token.text.startswith("0x") else 10)
    if not -(2**63) <= whole < 2**63:
        raise Malformed(f"has {token.shown}, which is too large")
    return _Part(str(whole), "int", literal=whole)


def _further(fact: Fact, step: str | int) -> _Part:
    """The fact below another, as far as there is anything below it."""
    if fact.root == "request.body":
        return _Part("", "", fact._replace(path=(*fact.path, step)))
    if fact.root == "request.query" and not fact.path and isinstance(step, str):
        return _Part("", "string", fact._replace(path=(step,)))
    raise Malformed(f"asks for {shown(str(step))} of {fact.root}, which has no such thing")
