"""Too much is refused before it costs anything: by each limit, in linear time, whatever the document is."""

import sys
from collections.abc import Callable
from types import FrameType

import httpx2
import pytest
import strawberry
from graphql import build_schema, get_introspection_query, parse
from graphql.language import OperationDefinitionNode
from strawberry.extensions import QueryDepthLimiter

from app.api.sizes import Measure, Size
from tests.api.test_http import code, post

SDL = build_schema(
    """
    interface Node { id: ID! }
    type Agent implements Node { id: ID! name: String! tags: [String!]! owner: Agent! agents(first: Int, last: Int): AgentConnection! }
    type AgentEdge { cursor: String! node: Agent! }
    type AgentConnection { edges: [AgentEdge!]! nodes: [Agent!]! totalCount: Int! }
    type Query { agent: Agent agents(first: Int, last: Int): AgentConnection! nodes(ids: [ID!]!): [Node]! all: [Agent!]! }
    """
)


@strawberry.type(name="Query")
class Bare:
    hello: str


def size(query: str, **variables: object) -> Size:
    document = parse(query)
    [operation] = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    return Measure(SDL, document, variables).operation(operation)


def chain(levels: int) -> str:
    """Each fragment spreads the next one twice: 2^levels fields in some 40 bytes a level."""
    links = [f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(levels)]
    return "{ ...F0 } " + " ".join(links) + f" fragment F{levels} on Query {{ __typename }}"


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("{ agent { id name } }", 3),
        ("{ agent { tags } }", 2),
        ("{ agents { nodes { id } } }", 1 + 20 * 2),
        ("{ agents(first: 7) { nodes { id } } }", 1 + 7 * 2),
        ("{ agents(last: 7) { edges { node { id } } } }", 1 + 7 * 3),
        ("{ agents(first: 0) { nodes { id } } }", 1),
        ("{ agents(first: -9) { nodes { id } } agent { id } }", 1 + 2),
        ("{ agents(first: null) { nodes { id } } }", 1 + 20 * 2),
        ("{ agents(first: 3) { nodes { agents(first: 5) { nodes { id } } } } }", 1 + 3 * (1 + 1 + 5 * 2)),
        ("{ all { id } }", 1 + 20),
        ('{ nodes(ids: ["a", "b"]) { id } }', 1 + 2),
        ("{ ...F ... on Query { ...F } } fragment F on Query { agents(first: 2) { nodes { id } } }", 2 * 5),
        ("{ nothing(first: 9) { id } }", 2),
        ("query ($n: Int = 4) { agents(first: $n) { nodes { id } } }", 1 + 4 * 2),
    ],
)
def test_a_list_costs_what_it_may_return(query: str, cost: int) -> None:
    assert size(query).cost == cost


@pytest.mark.parametrize(
    ("value", "cost"),
    [
        (6, 1 + 6 * 2),
        (6.0, 1 + 6 * 2),
        (None, 1 + 20 * 2),
        (-6, 1),
        (True, 1 + 2),
        ("6", 1 + 20 * 2),
        (10**30, 2 * 10**6 + 1),
    ],
)
def test_variables_count_as_literals_do(value: object, cost: int) -> None:
    assert size("query ($n: Int = 4) { agents(first: $n) { nodes { id } } }", n=value).cost == cost


def test_a_variable_list_of_ids_counts_its_ids() -> None:
    assert size("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=["a"] * 30).cost == 31


@pytest.mark.parametrize(
    ("query", "variables", "searches"),
    [
        ('{ log(filter: {events: ["x"]}) }', {}, 1),
        ('{ log(filter: {since: "x", until: "y", outcome: Z}) }', {}, 1),
        ('{ log(filter: {delegationId: "x"}) }', {}, 0),
        ('{ log(filter: {delegationId: "x", events: ["x"]}) }', {}, 1),
        ('{ log(filter: {pairId: "x", events: ["x"]}) }', {}, 0),
        ('{ log(filter: {dispatchId: "x", events: ["x"]}) }', {}, 0),
        ('{ log(filter: {pairId: null, events: ["x"]}) }', {}, 1),
        ("{ log(filter: {events: null}) }", {}, 0),
        ("{ log }", {}, 0),
        ("query ($f: F) { log(filter: $f) }", {"f": {"events": ["x"], "pairId": None}}, 1),
        ("query ($f: F) { log(filter: $f) }", {"f": {"events": None, "pairId": "x"}}, 0),
        ("query ($f: F) { log(filter: $f) }", {"f": "x"}, 0),
        ("query ($f: F) { log(filter: $f) }", {}, 0),
        ("query ($f: F = {outcome: Z}) { log(filter: $f) }", {}, 1),
        ("query ($f: F = {outcome: Z}) { log(filter: $f) }", {"f": None}, 0),
        ("query ($e: [E]) { log(filter: {events: $e}) }", {"e": ["x"]}, 1),
        ("query ($e: [E]) { log(filter: {events: $e}) }", {"e": None}, 0),
        ("query ($e: [E]) { log(filter: {events: $e}) }", {}, 0),
        ('query ($e: [E] = ["x"]) { log(filter: {events: $e}) }', {}, 1),
        ('query ($p: ID) { log(filter: {events: ["x"], pairId: $p}) }', {}, 1),
        ('query ($p: ID = null) { log(filter: {events: ["x"], pairId: $p}) }', {}, 1),
        ('{ agents { nodes { log(events: ["x"]) } } }', {}, 1),
        ('{ a: log(events: ["x"]) ...F ...F } fragment F on Query { log(events: ["x"]) }', {}, 3),
    ],
)
def test_a_search_through_a_log_counts_wherever_it_is(
    query: str, variables: dict[str, object], searches: int
) -> None:
    assert size(query, **variables).searches == searches


@pytest.mark.parametrize(
    ("query", "weight"),
    [
        ("{ agent { id name } }", 0),
        ("{ agent { configuration } }", 65_536),
        ("{ agents(first: 7) { nodes { configuration metadata } } }", 7 * (65_536 + 16_384)),
        ("{ agents(first: 7) { nodes { ...F ...F } } } fragment F on Agent { a: metadata }", 14 * 16_384),
        ("{ agents(first: 0) { nodes { configuration } } }", 0),
        ("{ dispatchAction { body text } }", 0),
        ("{ dispatchAction { body text more: text } }", 2**24),
        ("{ dispatchAction { body } agent { metadata } }", 16_384),
        ("{ __schema { types { description } } }", 0),
    ],
)
def test_what_may_be_large_weighs_that_much(query: str, weight: int) -> None:
    assert size(query).weight == weight


def test_depth_and_fields_count_what_fragments_hide() -> None:
    measured = size(
        "{ agent { ...F } agents { ...C } } fragment F on Agent { owner { owner { id } } } fragment C on AgentConnection { totalCount }"
    )
    assert (measured.depth, measured.fields, measured.width) == (4, 6, 2)


@pytest.mark.parametrize(
    "query",
    [
        "{ ...F } fragment F on Query { agent { id } ...F }",
        "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A agent { id } }",
        "{ ...Nowhere }",
        "{ ...F } fragment F on Nothing { a { b } }",
        "{ ... on Nothing { a } }",
        "mutation { a { b } }",
        "{ agent }",
        "{ agents(first: $none) { nodes { id } } }",
        'query ($n: Int = "x") { agents(first: $n) { nodes { id } } }',
    ],
)
def test_a_document_that_is_not_valid_is_measured_all_the_same(query: str) -> None:
    assert size(query).fields < 10


def nested(levels: int) -> str:
    return "{ thing " + "{ child " * (levels - 2) + "{ id }" + " }" * (levels - 1)


@pytest.mark.parametrize(
    ("within", "beyond", "message"),
    [
        (nested(12), nested(13), "the operation has 13 levels: 12 at most; ask for less at a time"),
        (
            "{ thing { " + "id " * 499 + "} }",
            "{ thing { " + "id " * 500 + "} }",
            "the operation has 501 fields: 500 at most; ask for less at a time",
        ),
        (
            "{ " + " ".join(f"a{n}: hello" for n in range(20)) + " }",
            "{ " + " ".join(f"a{n}: hello" for n in range(21)) + " }",
            "the operation has 21 root fields: 20 at most; ask for less at a time",
        ),
        (
            "{ things(first: 90) { nodes { things(first: 100) { nodes { id } } } } }",
            "{ things(first: 100) { nodes { things(first: 100) { nodes { id } } } } }",
            "the operation has 20,201 estimated cost: 20,000 at most; ask for less at a time",
        ),
        (
            "{ thing { id } } #" + "x" * 32_000,
            "{ thing { id } } #" + "x" * 33_000,
            "Syntax Error: Source contains more than 32768 code points. Parsing aborted.",
        ),
        (
            "query (" + "$a: Int " * 490 + ") { hello }",
            "query (" + "$a: Int " * 600 + ") { hello }",
            "Syntax Error: Document contains more than 2000 tokens. Parsing aborted.",
        ),
        (
            "{ __schema { types { fields { type { name } } } } }",
            "{ __schema { types { fields { args { type { fields { args { name } } } } } } } }",
            "the operation has 3,376,422 estimated cost of introspection: 500,000 at most; ask for less at a time",
        ),
        (
            '{ __type(name: "Thing") { ' + "ofType { " * 18 + "name " + "} " * 19 + "}",
            '{ __type(name: "Thing") { ' + "ofType { " * 19 + "name " + "} " * 20 + "}",
            "the operation has 21 levels of introspection: 20 at most; ask for less at a time",
        ),
    ],
    ids=["depth", "fields", "roots", "cost", "length", "tokens", "introspection cost", "introspection depth"],
)
def test_each_limit_holds_at_its_edge(http: httpx2.Client, within: str, beyond: str, message: str) -> None:
    for error in post(http, within).json().get("errors", ()):
        assert error["extensions"]["code"] != "QUERY_TOO_COMPLEX"
    refused = post(http, beyond)
    assert code(refused) == "QUERY_TOO_COMPLEX"
    assert refused.json()["errors"][0]["message"] == message


@pytest.mark.parametrize(
    "query",
    [
        "{" * 900,
        "{ " + "... { " * 300 + "__typename" + " }" * 301,
        "{ ...F0 } "
        + " ".join(f"fragment F{n} on Query {{ ... {{ ...F{n + 1} }} }}" for n in range(150))
        + " fragment F150 on Query { hello }",
        "{ echo(input: {json: " + "[" * 500 + "]" * 500 + "}) { scope } }",
        "query ($a: " + "[" * 900 + "Int" + "]" * 900 + ") { hello }",
    ],
)
def test_a_document_that_nests_without_end_is_refused_and_not_crashed_on(
    http: httpx2.Client, query: str
) -> None:
    assert code(post(http, query)) in {"QUERY_TOO_COMPLEX", "BAD_USER_INPUT"}


def test_fragments_that_nest_deeper_than_pythons_stack_are_too_complex(http: httpx2.Client) -> None:
    def fragment(name: str, inside: str) -> str:
        return f"fragment {name} on Query {{ " + "... { " * 190 + inside + " }" * 191

    query = "{ ...A } " + fragment("A", "...B") + fragment("B", "...C") + fragment("C", "hello")
    assert code(post(http, query)) == "QUERY_TOO_COMPLEX"


@pytest.mark.parametrize("options", [{}, {"input_value_deprecation": True, "specified_by_url": True}])
def test_the_introspection_queries_of_tools_pass(http: httpx2.Client, options: dict[str, bool]) -> None:
    query = get_introspection_query(**options)
    answered = post(http, query, headers={})
    assert answered.json()["data"]["__schema"]["queryType"]["name"] == "Query"
    measured = size(query)
    assert (measured.cost, measured.depth) == (0, 0)


def test_a_chain_of_fragments_takes_linear_time(http: httpx2.Client) -> None:
    document = parse(chain(60))
    [operation] = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    assert calls(lambda: Measure(SDL, document, {}).operation(operation)) < 30 * 60
    refused = post(http, chain(60))
    assert code(refused) == "QUERY_TOO_COMPLEX"
    assert "more than 10^12" in refused.json()["errors"][0]["message"]


def test_strawberrys_own_limiter_takes_twice_as_long_for_each_level() -> None:
    # The variant that fails: at 60 levels it would not end.
    limited = strawberry.Schema(Bare, extensions=[lambda: QueryDepthLimiter(max_depth=12)])

    def run(levels: int) -> int:
        assert limited.execute_sync(chain(levels)).errors is None
        return calls(lambda: limited.execute_sync(chain(levels)))

    assert run(12) - run(11) > 1.8 * (run(11) - run(10))


def calls(work: Callable[[], object]) -> int:
    """How many Python functions the work called: its time, on a machine however busy."""
    counted = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal counted
        counted += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return counted
