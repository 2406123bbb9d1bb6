"""The schema is the contract's: nothing else under its names, nothing missing but what is listed, all described."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    print_ast,
)

from app.api.schema import print_sdl

HERE = Path(__file__).parent
PRODUCT = build_schema(print_sdl())
CONTRACT = build_schema((HERE / "contract.graphql").read_text())

#: What is not delivered yet, as `Type` or `Type.field`. It shrinks with every delivery.
NOT_YET = frozenset((HERE / "not_yet.txt").read_text().split())

Fields = GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType


def test_the_printed_schema_is_current() -> None:
    assert (HERE.parents[1] / "schema.graphql").read_text() == print_sdl() + "\n", (
        "run: .venv/bin/crossgrant schema > schema.graphql"
    )


def test_nothing_of_the_contract_is_missing_but_what_is_listed() -> None:
    assert set(_names(CONTRACT)) - set(_names(PRODUCT)) == NOT_YET | {
        name for name in _names(CONTRACT) if name.partition(".")[0] in NOT_YET
    }


#: What the contract does not have, beside the list of codes.
ADDED = {
    "Action.requestSchema",  # whoever may define one has to see which one there is
    "Terms.inForceAt",  # from when on a proposal is what is agreed
    # an action is asked for as `dispatchAction` asks for it
    *("ExplainDispatchInput.actionId", "ExplainDispatchInput.pathParameters", "ExplainDispatchInput.query"),
}


def test_nothing_is_added_but_the_list_of_codes_and_what_is_listed() -> None:
    added = set(_names(PRODUCT)) - set(_names(CONTRACT))
    assert {name for name in added if name.partition(".")[0] != "ErrorCode"} == ADDED


def test_what_both_have_is_the_same() -> None:
    contract = dict(_shapes(CONTRACT))
    assert {name: shape for name, shape in _shapes(PRODUCT) if contract.get(name, shape) != shape} == {}


@pytest.mark.parametrize("name", sorted(name for name in PRODUCT.type_map if not name.startswith("__")))
def test_all_of_a_type_is_described(name: str) -> None:
    bare = [place for place, text in _descriptions(PRODUCT.type_map[name]) if not (text or "").strip()]
    assert bare == []


def _kinds(schema: GraphQLSchema) -> Iterator[GraphQLNamedType]:
    yield from (kind for name, kind in schema.type_map.items() if not name.startswith("__"))


def _names(schema: GraphQLSchema) -> Iterator[str]:
    for kind in _kinds(schema):
        yield kind.name
        if isinstance(kind, Fields):
            yield from (f"{kind.name}.{field}" for field in kind.fields)
        if isinstance(kind, GraphQLEnumType):
            yield from (f"{kind.name}.{value}" for value in kind.values)


def _shapes(schema: GraphQLSchema) -> Iterator[tuple[str, object]]:
    for kind in _kinds(schema):
        interfaces = getattr(kind, "interfaces", ())
        yield kind.name, (type(kind).__mro__[-2].__name__, sorted(one.name for one in interfaces))
        if isinstance(kind, Fields):
            for name, field in kind.fields.items():
                yield f"{kind.name}.{name}", _shape(field)


def _shape(field: GraphQLField | GraphQLInputField) -> object:
    if isinstance(field, GraphQLInputField):
        return _given(field)
    return str(field.type), {name: _given(one) for name, one in field.args.items()}


def _given(one: GraphQLArgument | GraphQLInputField) -> tuple[str, str | None]:
    default = one.ast_node.default_value if one.ast_node else None
    return str(one.type), print_ast(default) if default else None


def _descriptions(kind: GraphQLNamedType) -> Iterator[tuple[str, str | None]]:
    yield kind.name, kind.description
    if isinstance(kind, GraphQLEnumType):
        yield from ((name, value.description) for name, value in kind.values.items())
    if isinstance(kind, Fields):
        for name, field in kind.fields.items():
            yield name, field.description
            for argument, one in getattr(field, "args", {}).items():
                yield f"{name}({argument})", one.description
