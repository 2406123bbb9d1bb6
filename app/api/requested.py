"""From `dispatchAction`'s JSON to the parts of a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import orjson

from app.api.inputs.work import DispatchActionInput, ExplainDispatchInput
from app.rules.errors import Code, Refusal
from app.rules.paths import LONGEST
from app.rules.texts import shown


@dataclass(frozen=True, slots=True)
class Requested:
    """What is to be sent. `headers` say what the body is."""

    path_parameters: Mapping[str, str]
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)


def requested(input: DispatchActionInput | ExplainDispatchInput) -> Requested | Refusal:
    """The request that an input asks for, or what is wrong with it."""
    parameters = _parameters(input.path_parameters)
    if isinstance(parameters, Refusal):
        return parameters
    query = _query(input.query)
    if isinstance(query, Refusal):
        return query
    if input.body is None:
        return Requested(parameters, query, (), b"")
    return Requested(parameters, query, (("content-type", "application/json"),), orjson.dumps(input.body))


def _parameters(given: object) -> dict[str, str] | Refusal:
    if given is None:
        return {}
    if not isinstance(given, dict):
        return _wrong("pathParameters", "give an object with a value for each parameter of the path")
    texts = {name: _text(value) for name, value in given.items() if not isinstance(value, bool)}
    wrong = next((name for name in given if texts.get(name) is None), None)
    if wrong is not None:
        return _wrong("pathParameters", "give a string or a number", wrong)
    return {name: text for name, text in texts.items() if text is not None}


def _query(given: object) -> str | Refusal:
    if given is None:
        return ""
    if not isinstance(given, dict):
        return _wrong("query", "give an object of strings, numbers, booleans, or lists of them")
    pairs = []
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            text = _text(one)
            if one is not None and text is None:
                return _wrong("query", "give a string, a number, a boolean, or a list of them", name)
            if text is not None:
                pairs.append(f"{quote(name, safe='')}={quote(text, safe='')}")
    query = "&".join(pairs)
    return (
        query if len(query) <= LONGEST else _wrong("query", f"is over {LONGEST} characters as a query string")
    )


def _text(value: object) -> str | None:
    match value:
        case str():
            return value
        case bool() | int() | float():
            return orjson.dumps(value).decode()
    return None


def _wrong(field: str, message: str, *member: str) -> Refusal:
    path = (field, *map(shown, member))
    return Refusal(Code.INVALID, f"{'.'.join(path)}: {message}", path)
