"""What goes with what in a condition.

A kind is CEL's type as far as the form of a part shows it, and "" where only a request does. What the library would
not compute for any request, or only for some by chance, is refused when a condition is agreed on.
"""

from app.rules.content.condition_lexemes import Malformed
from app.rules.texts import shown

MACROS = ("all", "exists", "exists_one")
PREDICATES = ("contains", "startsWith", "endsWith")
NUMBERS = ("int", "double")
#: By name: what kinds each takes, and what it gives.
FUNCTIONS = {
    "size": (("string", "list", "map"), "int"),
    "int": (("int", "double", "string"), "int"),
    "double": (("int", "double", "string"), "double"),
    "string": (("int", "double", "string", "timestamp", "duration"), "string"),
    "timestamp": (("string", "timestamp"), "timestamp"),
    "duration": (("string", "duration"), "duration"),
}
#: Methods without arguments that give an int, and of what.
DATES = {
    **dict.fromkeys(("getHours", "getMinutes", "getSeconds", "getMilliseconds"), ("timestamp", "duration")),
    **dict.fromkeys(("getFullYear", "getMonth", "getDate", "getDayOfMonth"), ("timestamp",)),
    **dict.fromkeys(("getDayOfWeek", "getDayOfYear"), ("timestamp",)),
}

#: What a text has to be like to have a value.
_TEXTS = {
    "int": 'an integer of 64 bits, as in int("42")',
    "double": 'a number, as in double("1.5")',
    "timestamp": 'an RFC 3339 instant with an offset, as in timestamp("2026-12-31T00:00:00Z")',
    "duration": 'numbers with h, m, s, ms, us or ns, as in duration("1h30m")',
}
_ARITHMETIC = {
    **{(kind, sign, kind): kind for kind in NUMBERS for sign in "+-*/"},
    ("int", "%", "int"): "int",
    ("timestamp", "+", "duration"): "timestamp",
    ("duration", "+", "duration"): "duration",
    ("timestamp", "-", "timestamp"): "duration",
    ("timestamp", "-", "duration"): "timestamp",
    ("duration", "-", "duration"): "duration",
}
_INSTEAD = {
    "map": "compare the items with all, exists or exists_one",
    "filter": "use exists or exists_one",
    "has": "write has(request.body.name)",
    "not": "use !",
}


def need_truth(kind: str, sign: str) -> None:
    """Raises Malformed for what cannot be true or false."""
    if kind not in ("bool", ""):
        raise Malformed(f"has {kind} at {sign}, where something true or false should stand")


def need(kind: str, name: str, *kinds: str) -> None:
    """Raises Malformed for what is none of these kinds."""
    if kind not in (*kinds, ""):
        raise Malformed(f"uses {name} with {kind}: it is for {' or '.join(kinds)}")


def no_number(sign: str) -> Malformed:
    """What to say where something should be a number by its form."""
    return Malformed(f"has {sign} beside what is no number by its form: put int(…) or double(…) around it")


def need_date(kind: str, name: str) -> None:
    """Raises Malformed for what is no timestamp by its form, nor a duration where that would do."""
    if kind not in DATES[name]:
        raise Malformed(f"asks for {name} of what is no {' or '.join(DATES[name])}: use now, or timestamp(…)")


def need_comparable(left: str, sign: str, right: str) -> None:
    """Raises Malformed for a comparison that is the same for every request."""
    if "" in (left, right) or (sign in ("==", "!=") and "null" in (left, right)):
        return
    ordered = sign in ("==", "!=") or left not in ("list", "map", "null")
    if not ordered or not (left == right or (left in NUMBERS and right in NUMBERS)):
        raise Malformed(f"compares {left} with {right} by {sign}, which says nothing of a request")


def result(left: str, sign: str, right: str) -> str:
    """The kind of a sum or product. Raises Malformed where there may be none."""
    if kind := _ARITHMETIC.get((left, sign, right)):
        return kind
    if left in NUMBERS and right in NUMBERS:
        raise Malformed(
            f"has {sign} between {left} and {right}: write 2.0 for 2, or double(…) around the int"
        )
    raise no_number(sign)


def unknown(name: str) -> Malformed:
    """What to say of a call that is none."""
    known = ", ".join((*MACROS, *PREDICATES, "matches", "has", *FUNCTIONS, *DATES))
    return Malformed(
        f"calls {shown(name)} in a way that is not known: {_INSTEAD.get(name, f'there are {known}')}"
    )


def without_value(call: str) -> Malformed:
    """What to say of a call that depends on nothing and has no value, such as `duration("1d")`."""
    takes = _TEXTS.get(call.partition("(")[0], "something else")
    return Malformed(f"has {shown(call)}, which has no value: give {takes}")
