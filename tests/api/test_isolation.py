"""Nobody sees across (promise 7): every root field and every id that it takes, asked by everybody who may not see it.

The matrix is the schema times the callers; what is expected of a field stands in its rows (`isolation.py`). Each pass
gives its faults as lines of text, so that one run shows all of them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Protocol

import orjson
import pytest
import pytest_asyncio
from graphql import (
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    extend_schema,
    get_named_type,
    parse,
)
from sqlalchemy import select
from typing_extensions import override

from app.api.schema import make_schema
from app.rules.errors import Code
from app.rules.ids import prefix_of
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from app.store import tables
from app.store.engine import Tx
from app.store.keys import Keys, new_id
from tests.api.isolation import (
    ADMINS,
    DELEGATE,
    EITHER,
    ROWS,
    Blind,
    Cast,
    Expected,
    Member,
    Name,
    Own,
    Refused,
    Row,
    Sees,
    prepared,
)
from tests.api.product import Tenant, World

Json = dict[str, Any]

SCHEMA = make_schema()._schema
ADD = "tests/api/isolation.py"

# ------------------------------------------------------------------ what the schema asks rows for


def naming(schema: GraphQLSchema) -> dict[str, set[str]]:
    """Each root field, and each other field that takes an id: the paths of its arguments that name something."""
    roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
    found = {}
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__"):
            for name, field in kind.fields.items():
                given = {path for each, one in field.args.items() for path in _names(each, one.type)}
                if given or kind in roots:
                    found[f"{kind.name}.{name}"] = given
    return found


def _names(name: str, given: GraphQLInputType, within: tuple[GraphQLNamedType, ...] = ()) -> Iterator[str]:
    kind = get_named_type(given)
    # A token names what it was made for.
    if kind.name == "ID" or name.endswith("Token"):
        yield name
    elif isinstance(kind, GraphQLInputObjectType) and kind not in within:
        for each, field in kind.fields.items():
            yield from (f"{name}.{path}" for path in _names(each, field.type, (*within, kind)))


def gaps(schema: GraphQLSchema, rows: Iterable[Row]) -> list[str]:
    """What has no row, and rows of what there is not."""
    rows, wanted = tuple(rows), naming(schema)
    given = {field: [row.variables(SOMEBODY) for row in rows if row.name == field] for field in wanted}
    known = {row.kind for row in rows}
    node = schema.type_map["Node"]
    assert isinstance(node, GraphQLInterfaceType)
    return [
        *(f"{field} has no row: add one to {ADD}" for field, rows in given.items() if not rows),
        *(
            f"{field}({path}) is in no row's variables: add it to one, or add a row, in {ADD}"
            for field, paths in wanted.items()
            for path in sorted(paths)
            if given[field] and not any(value_at(variables, path) for variables in given[field])
        ),
        *(
            f"Query.node has no row of kind {kind.name}: add one to {ADD}"
            for kind in schema.get_possible_types(node)
            if kind.name not in known
        ),
        *(
            f"{row.name} is no field of the schema: take its row out of {ADD}"
            for row in rows
            if row.name not in wanted
        ),
        *(
            f"{row.name}({path}) is in none of its row's variables: take it out of `told` or `also` in {ADD}"
            for row in rows
            for path in (*row.told, *row.also)
            if value_at(row.variables(SOMEBODY), path) is None
        ),
    ]


def value_at(variables: Json, path: str) -> Any:
    """What stands at a path such as `input.delegationId`; None where nothing does."""
    value: Any = variables
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def replaced(variables: Json, path: str, value: object) -> Json:
    """The same with something else at a path."""
    step, _, rest = path.partition(".")
    return {**variables, step: replaced(variables[step], rest, value) if rest else value}


KEYS = Keys(b"of no installation, for tokens that nobody knows")


def another(value: Any) -> Any:
    """Of the same form, and the name of nothing."""
    if isinstance(value, list):
        return [another(one) for one in value]
    if prefix := prefix_of(value):
        return new_id(prefix)
    if value.startswith(TokenKind.OFFER):
        return KEYS.mint(TokenKind.OFFER).text
    return f"another-{new_id('x')[-12:]}"


def somebody(name: Name) -> Member:
    """A tenant that is nowhere, with ids of its own."""
    own = Own(**{field.name: new_id(field.name[:3]) for field in fields(Own)})
    return Member(name, Tenant("", "", ""), dict.fromkeys(Role, ""), own, own)


SOMEBODY = somebody("acme").own

# ------------------------------------------------------------------ asking


@dataclass(frozen=True)
class Answer:
    """The status and every byte."""

    status: int
    content: bytes

    @property
    def document(self) -> Json:
        """The answer's JSON, or the first of a stream's."""
        first = self.content.partition(b"\ndata: ")[2].partition(b"\n")[0]
        document: Json = orjson.loads(first or self.content)
        return document

    @property
    def shown(self) -> Any:
        """What the only field of the document has."""
        data = self.document.get("data") or {}
        return next(iter(data.values()), None)

    @property
    def refusal(self) -> Refused | None:
        """The first error, or else the first userError."""
        for error in self.document.get("errors", ()):
            return Refused(Code(error["extensions"]["code"]))
        for error in (self.shown or {}).get("userErrors", ()) if isinstance(self.shown, dict) else ():
            return Refused(Code(error["code"]), tuple(error["path"] or ()))
        return None

    @override
    def __str__(self) -> str:
        return f"{self.status} {self.content.decode()[:300]}"


def fault(expected: Expected, answer: Answer, missing: Answer) -> str | None:
    """What is wrong with an answer, given that for something that does not exist."""
    match expected:
        case Blind() if answer != missing:
            return f"it tells that there is one:\n    {answer}\n    {missing}"
        case Refused() if answer.refusal != expected:
            return f"it should be refused with {expected}: {answer}"
        case Sees(shown) if answer == missing or (shown is not None and answer.shown != shown):
            return f"it should show {shown or 'something'}: {answer}"
    return None


#: Under which a request that fails as a whole says so in its status too.
GRAPHQL = "application/graphql-response+json"
EVENTS = "text/event-stream"

#: Rows, each with the name of its table.
Stored = frozenset[tuple[str, ...]]


class Gateway(Protocol):
    """What the matrix is held against."""

    async def ask(
        self, row: Row, variables: Json, member: Member | None = None, role: Role | None = None
    ) -> Answer:
        """The answer to a member's key of a role; None: without a key."""
        ...

    async def mentioning(self, ids: frozenset[str]) -> Stored:
        """All that is stored of these ids."""
        ...


class Real:
    """The gateway that serves a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def ask(
        self, row: Row, variables: Json, member: Member | None = None, role: Role | None = None
    ) -> Answer:
        body = {"query": row.document, "variables": variables}
        if member is None or role is None:
            return await self._post(body, {})
        if row.follows and role in row.may:
            return await self._followed(body, member, role)
        return await self._post(body, {"X-API-Key": member.keys[role]}, EVENTS if row.follows else GRAPHQL)

    async def _post(self, body: Json, key: dict[str, str], media: str = GRAPHQL) -> Answer:
        answer = await self.world.http.post("/graphql", json=body, headers={"Accept": media, **key})
        return Answer(answer.status_code, answer.content)

    async def _followed(self, body: Json, member: Member, role: Role) -> Answer:
        """A stream, whole: its key is revoked when it has shown something, or had the time to."""
        key = await self.world.key(member.tenant, role)
        headers = {"X-API-Key": key, "Accept": EVENTS}
        async with self.world.http.stream("POST", "/graphql", json=body, headers=headers) as stream:
            chunks = stream.aiter_raw()
            first = asyncio.ensure_future(anext(chunks))
            await asyncio.wait([first], timeout=LOOKS)
            id = (await self.world.caller(key)).key_id
            await self.world.ask(member.keys[Role.OWNER], END_KEY, id=id)
            content = await first + b"".join([chunk async for chunk in chunks])
            return Answer(stream.status_code, content)

    async def mentioning(self, ids: frozenset[str]) -> Stored:
        return await self.world.gateway.store.read(_mentioning, ids) if ids else frozenset()


LOOKS = 0.25  # seconds, in which a stream that has nothing to show has looked into the log
END_KEY = "mutation ($id: ID!) { revokeApiKey(apiKeyId: $id) { userErrors { code } } }"


def _mentioning(tx: Tx, ids: frozenset[str]) -> Stored:
    # When something was last used, and what was refused in a minute that is over, is written down by no request.
    rows = (
        (table.name, *map(str, row))
        for table in tables.Row.metadata.sorted_tables
        if table.name not in ("scope_uses", "refusal_counts")
        for row in tx.execute(select(*(column for column in table.c if column.name != "last_used_at")))
    )
    return frozenset(row for row in rows if not ids.isdisjoint(row))


# ------------------------------------------------------------------ the matrix


@dataclass(frozen=True)
class Matrix:
    """The rows times the callers."""

    gateway: Gateway
    cast: Cast
    rows: tuple[Row, ...]
    _nothing: dict[tuple[int, Name, str], Answer] = field(default_factory=dict)

    def paths(self, row: Row) -> list[str]:
        """What in a row's variables names something."""
        variables = row.variables(SOMEBODY)
        named = sorted({*NAMING[row.name], *row.also})
        return [path for path in named if value_at(variables, path) is not None]

    def ending(self, row: Row) -> list[str]:
        """What of it differs under a delegation that has ended."""
        globex = self.cast.globex
        now, then = row.variables(globex.own), row.variables(globex.ended)
        return [path for path in self.paths(row) if value_at(now, path) != value_at(then, path)]

    def missing(self, row: Row, variables: Json, *paths: str) -> Json:
        """The same with ids that do not exist, at these paths or at all."""
        for path in paths or self.paths(row):
            variables = replaced(variables, path, another(value_at(variables, path)))
        return variables

    async def ask(self, row: Row, variables: Json, member: Member) -> Answer:
        """The answer to a member who may."""
        return await self.gateway.ask(row, variables, member, row.role)

    async def nothing(self, row: Row, path: str, member: Member | None = None) -> Answer:
        """The answer, to initech unless told, where the id at a path does not exist; asked for once."""
        member = member or self.cast.initech
        key = id(row), member.name, path
        if key not in self._nothing:
            variables = self.missing(row, row.variables(member.own), path)
            self._nothing[key] = await self.ask(row, variables, member)
        return self._nothing[key]

    def others(self, member: Member) -> list[Member]:
        """Whose ids a member tries: its counterparty's, or those of two tenants that are strangers to it."""
        return [other for other in (self.cast.acme, self.cast.globex) if other is not member]

    def theirs(self, member: Member) -> frozenset[str]:
        """All ids of these."""
        ids = frozenset[str]().union(*(other.ids for other in self.others(member)))
        return ids - {member.own.tenant}


NAMING = naming(SCHEMA)
Faults = AsyncIterator[str]
Pass = Callable[[Matrix], Faults]
#: The present ids of a member, or those of what has ended.
Which = Callable[[Member], Own]


async def without_a_key(matrix: Matrix) -> Faults:
    """Every field answers UNAUTHENTICATED, in the same bytes whatever the ids."""
    answers: dict[Answer, str] = {}
    for row in matrix.rows:
        own = row.variables(matrix.cast.acme.own)
        for variables in (own, matrix.missing(row, own)):
            answers.setdefault(await matrix.gateway.ask(row, variables), row.name)
    for answer, name in answers.items():
        if len(answers) > 1 or answer.refusal != Refused(Code.UNAUTHENTICATED):
            yield f"{name} without a key: {answer}"


async def as_a_lower_role(matrix: Matrix) -> Faults:
    """FORBIDDEN, in the same bytes whether or not the ids exist, and nothing is changed."""
    ids = matrix.cast.acme.ids | matrix.cast.globex.ids
    before = await matrix.gateway.mentioning(ids)
    for row in matrix.rows:
        if role := _lower(row):
            member = matrix.cast[(row.by or DELEGATE)[0]]
            own = row.variables(member.own)
            asked = (own, matrix.missing(row, own)) if matrix.paths(row) else (own,)
            answers = {await matrix.gateway.ask(row, variables, member, role) for variables in asked}
            if [answer.refusal for answer in answers] != [Refused(Code.FORBIDDEN)]:
                yield f"{row.name} as {role}: {' and '.join(map(str, answers))}"
    if changed := before ^ await matrix.gateway.mentioning(ids):
        yield f"roles that may not changed {sorted(changed)}"


def _lower(row: Row) -> Role | None:
    """VIEWER, or, where that may, the next role that may not. `test_product_permissions` has them all."""
    return next((role for role in (Role.VIEWER, *Role) if role not in row.may), None)


async def with_ids_of_others(matrix: Matrix) -> Faults:
    """A foreign id answers as one that does not exist, or as the row says; whatever is asked, the others keep theirs."""
    for row in matrix.rows:
        for caller in matrix.cast.members if row.beforehand else ():
            await matrix.ask(row, row.variables(caller.own), caller)
        for caller in matrix.cast.members:
            lines = _asked_for(matrix, row, caller) if matrix.paths(row) else _listed(matrix, row, caller)
            async for line in _kept(matrix, row, caller, lines):
                yield f"{row.name} as {caller.name}: {line}"


async def _listed(matrix: Matrix, row: Row, caller: Member) -> Faults:
    answer = await matrix.ask(row, row.variables(caller.own), caller)
    if seen := [id for id in matrix.theirs(caller) - caller.ids if id.encode() in answer.content]:
        yield f"it shows {seen}, which is not theirs"


async def _asked_for(matrix: Matrix, row: Row, caller: Member) -> Faults:
    for path in matrix.paths(row):
        if path not in row.told:
            async for line in _compared(matrix, row, path, caller, attrgetter("own")):
                yield line


async def _compared(matrix: Matrix, row: Row, path: str, caller: Member, which: Which) -> Faults:
    own = row.variables(caller.own)
    foreign = {}
    for victim in matrix.others(caller):
        theirs, expected = value_at(row.variables(which(victim)), path), _expected(row, caller, victim)
        shared = theirs == value_at(own, path) and caller.name in (row.by or EITHER)
        performed = isinstance(expected, Sees) and row.changes  # later
        if not performed and not (shared and isinstance(expected, Blind)):
            foreign[str(theirs)] = victim, theirs, expected
    if not foreign:
        return
    missing = await matrix.nothing(row, path, caller)
    if caller.name not in EITHER and not _is_unknown(row, missing):
        yield f"{path}: what does not exist should answer with {row.unknown}: {missing}"
    for victim, theirs, expected in foreign.values():
        answer = await matrix.ask(row, replaced(own, path, theirs), caller)
        if line := fault(expected, answer, missing):
            yield f"{path} of {victim.name}: {line}"


def _expected(row: Row, caller: Member, victim: Member) -> Expected:
    counterparty = caller.name in EITHER and victim.name in row.by
    return row.counterparty if counterparty else Blind()


def _is_unknown(row: Row, answer: Answer) -> bool:
    return (answer.refusal and answer.refusal.code) in row.unknown


async def _kept(matrix: Matrix, row: Row, caller: Member, faults: Faults) -> Faults:
    """The same faults, and one more where something of the others was changed, such as the head of a ledger."""
    recorded = row.recorded and caller.name in DELEGATE
    theirs = matrix.theirs(caller) if row.changes and not recorded else frozenset()
    before = await matrix.gateway.mentioning(theirs)
    async for line in faults:
        yield line
    if changed := before ^ await matrix.gateway.mentioning(theirs):
        yield f"it changes what is not theirs, or writes in a ledger that is not theirs: {sorted(changed)}"


async def under_an_ended_delegation(matrix: Matrix) -> Faults:
    """Its parties read it, and change nothing more; to everybody else it is nothing, as before."""
    for row in matrix.rows:
        if not matrix.ending(row):
            continue
        for name in row.by:
            async for line in _over(matrix, row, matrix.cast[name]):
                yield f"{row.name} as {name}, ended: {line}"
        initech = matrix.cast.initech
        async for line in _kept(matrix, row, initech, _over_for(matrix, row, initech)):
            yield f"{row.name} as initech, ended: {line}"


async def _over(matrix: Matrix, row: Row, party: Member) -> Faults:
    missing = await matrix.nothing(row, matrix.ending(row)[0])
    answer = await matrix.ask(row, row.variables(party.ended), party)
    if row.ended is None and row.changes:
        yield f"the row should say what becomes of it: {answer}"
    if row.ended is None and answer.refusal:
        yield f"it should still be read: {answer}"
    if line := fault(row.ended or Sees(), answer, missing):
        yield line


async def _over_for(matrix: Matrix, row: Row, stranger: Member) -> Faults:
    for path in matrix.ending(row):
        async for line in _compared(matrix, row, path, stranger, attrgetter("ended")):
            yield line


async def by_whom_it_is_meant_for(matrix: Matrix) -> Faults:
    """It does what it is for: a document that fails for everybody would be the same for everybody, too."""
    for row in matrix.rows:
        for name in row.by:
            async for line in _performed(matrix, row, matrix.cast[name], again=name != row.by[0]):
                yield f"{row.name} as {name}: {line}"


async def _performed(matrix: Matrix, row: Row, member: Member, *, again: bool) -> Faults:
    missing = [await matrix.nothing(row, path) for path in matrix.paths(row) if path not in row.also]
    answer = await matrix.ask(row, row.variables(member.own), member)
    if row.succeeds and answer.refusal:
        yield f"it should succeed: {answer}"
    if answer in missing:
        yield f"it cannot be told from what does not exist: {answer}"
    seen = again and row.changes and isinstance(row.counterparty, Sees)
    if seen and (line := fault(row.counterparty, answer, missing[0])):
        yield line
    if not (missing or row.changes or any(id.encode() in answer.content for id in member.ids)):
        yield f"it should show something of its own: {answer}"


#: In this order: the last changes the world.
PASSES: tuple[Pass, ...] = (
    without_a_key,
    as_a_lower_role,
    with_ids_of_others,
    under_an_ended_delegation,
    by_whom_it_is_meant_for,
)


@pytest.fixture
def webhook_schedule() -> tuple[float, ...]:
    """Nothing is attempted of itself: an attempt changes rows, and nobody asked for it."""
    return (3600.0, 3600.0)


@pytest_asyncio.fixture
async def matrix(world: World) -> Matrix:
    # Without the rows of fields that are still to come.
    rows = tuple(row for row in ROWS if row.name in NAMING)
    return Matrix(Real(world), await prepared(world), rows)


def test_each_root_field_and_each_id_has_a_row() -> None:
    assert not gaps(SCHEMA, ROWS), "\n" + "\n".join(gaps(SCHEMA, ROWS))


async def test_nobody_sees_across(matrix: Matrix) -> None:
    """All passes in one world, for a world is dear."""
    faults = [line for each in PASSES async for line in each(matrix)]
    assert not faults, "\n" + "\n".join(faults)


# ------------------------------------------------------------------ and it finds what is wrong


def new_gaps(schema: GraphQLSchema, rows: Iterable[Row]) -> list[str]:
    """Those that the product does not have as it is."""
    old = gaps(SCHEMA, ROWS)
    return [gap for gap in gaps(schema, rows) if gap not in old]


@pytest.mark.parametrize(
    ("grown", "wanted"),
    [
        ("extend type Query { secret: String }", "Query.secret has no row"),
        ("extend type Mutation { leak(id: ID!): String }", "Mutation.leak has no row"),
        ("extend type Subscription { secrets: String }", "Subscription.secrets has no row"),
        ("extend type Agent { friend(id: ID!): Agent }", "Agent.friend has no row"),
        ("extend input RevokeDelegationInput { also: [ID!] }", "Mutation.revokeDelegation(input.also) is in"),
        ("extend input AuditFilter { agentId: ID }", "Query.auditLog(filter.agentId) is in"),
        (
            "extend input UpdateAgentInput { of: Of } input Of { upstreamId: ID!, next: Of }",
            "Mutation.updateAgent(input.of.upstreamId) is in",
        ),
        ("type Secret implements Node { id: ID! }", "Query.node has no row of kind Secret"),
    ],
)
def test_what_the_schema_gains_without_a_row_is_found(grown: str, wanted: str) -> None:
    [gap] = new_gaps(extend_schema(SCHEMA, parse(grown)), ROWS)
    assert gap.startswith(wanted)
    assert ADD in gap


def test_a_row_of_no_field_or_of_no_argument_is_found() -> None:
    assert new_gaps(SCHEMA, (*ROWS, Row("Query.nothing", ""), Row("Query.viewer", "", told={"id": ""}))) == [
        f"Query.nothing is no field of the schema: take its row out of {ADD}",
        f"Query.viewer(id) is in none of its row's variables: take it out of `told` or `also` in {ADD}",
    ]


@dataclass(frozen=True)
class Asked:
    """What a gateway is asked for: by whom, and whether it is theirs, somebody else's or nobody's."""

    row: Row
    id: str
    member: Member | None
    may: bool
    whose: str | None

    @property
    def foreign(self) -> bool:
        return self.member is not None and self.whose not in (None, self.member.name)


Breach = Callable[[Asked], Answer | None]


class Pretended:
    """A gateway of two fields that keeps every promise but the one that is broken."""

    def __init__(self, cast: Cast, breach: Breach, *, writes: bool = False) -> None:
        self.cast = cast
        self.breach = breach
        self.writes = writes
        self.written: list[tuple[str, ...]] = []

    async def ask(
        self, row: Row, variables: Json, member: Member | None = None, role: Role | None = None
    ) -> Answer:
        id: str = variables["id"] if "id" in variables else variables["input"]["agentId"]
        whose = next((each.name for each in self.cast.members if id in each.ids), None)
        asked = Asked(row, id, member, role in row.may, whose)
        if self.writes and asked.foreign:
            self.written.append((id, str(len(self.written))))
        return self.breach(asked) or self._rightly(asked)

    def _rightly(self, asked: Asked) -> Answer:
        if asked.member is None:
            return _error(Code.UNAUTHENTICATED)
        if not asked.may:
            return _error(Code.FORBIDDEN)
        if asked.whose == asked.member.name:
            return _data({"userErrors": []} if asked.row.changes else {"name": "x"})
        unknown = {"code": "NOT_FOUND", "path": ["agentId"]}
        return _data({"userErrors": [unknown]} if asked.row.changes else None)

    async def mentioning(self, ids: frozenset[str]) -> Stored:
        return frozenset(row for row in self.written if row[0] in ids)


def _data(shown: object) -> Answer:
    return Answer(200, orjson.dumps({"data": {"field": shown}}))


def _error(code: Code, message: str = "") -> Answer:
    return Answer(200, orjson.dumps({"errors": [{"message": message, "extensions": {"code": code}}]}))


THING = _data({"name": "x"})
NOTHING = _data(None)


async def faults_of(breach: Breach, *, writes: bool = False) -> dict[Pass, list[str]]:
    """What each pass finds in a gateway with a breach."""
    cast = Cast(somebody("acme"), somebody("globex"), somebody("initech"))
    rows = (
        Row("Query.agent", "", lambda own: {"id": own.agent}, may=ADMINS),
        Row(
            "Mutation.updateAgent",
            "",
            lambda own: {"input": {"agentId": own.agent}},
            may=ADMINS,
            unknown=(Code.NOT_FOUND,),
        ),
    )
    matrix = Matrix(Pretended(cast, breach, writes=writes), cast, rows)
    found = {each: [line async for line in each(matrix)] for each in PASSES}
    return {each: lines for each, lines in found.items() if lines}


async def test_a_gateway_that_keeps_its_promises_has_no_faults() -> None:
    assert await faults_of(lambda asked: None) == {}


#: What a gateway may do wrong, and the pass that must find it.
BREACHES: dict[str, tuple[Breach, Pass]] = {
    "answers without a key": (lambda asked: None if asked.member else NOTHING, without_a_key),
    "tells without a key which id it was": (
        lambda asked: None if asked.member else _error(Code.UNAUTHENTICATED, asked.id),
        without_a_key,
    ),
    "tells without a key which field it was": (
        lambda asked: None if asked.member else _error(Code.UNAUTHENTICATED, asked.row.name),
        without_a_key,
    ),
    "looks first and asks for the permission afterwards": (
        lambda asked: None if asked.may or asked.whose or not asked.member else NOTHING,
        as_a_lower_role,
    ),
    "asks for no permission": (
        lambda asked: THING if asked.member and not asked.may else None,
        as_a_lower_role,
    ),
    "shows what is foreign": (
        lambda asked: THING if asked.foreign and asked.may else None,
        with_ids_of_others,
    ),
    "forbids what is foreign": (
        lambda asked: _error(Code.FORBIDDEN) if asked.foreign else None,
        with_ids_of_others,
    ),
    "tells by the status": (
        lambda asked: Answer(404, NOTHING.content) if asked.foreign and asked.may else None,
        with_ids_of_others,
    ),
    "tells by a space": (
        lambda asked: Answer(200, NOTHING.content + b" ") if asked.foreign and asked.may else None,
        with_ids_of_others,
    ),
    "shows nothing to anybody": (
        lambda asked: NOTHING if asked.member and asked.may else None,
        by_whom_it_is_meant_for,
    ),
}


@pytest.mark.parametrize("name", BREACHES)
async def test_a_gateway_that_breaks_a_promise_is_found(name: str) -> None:
    breach, found_by = BREACHES[name]
    assert found_by in await faults_of(breach)


async def test_a_gateway_that_writes_for_a_stranger_is_found() -> None:
    found = await faults_of(lambda asked: None, writes=True)
    assert [line.partition(":")[0] for line in found[with_ids_of_others]] == [
        f"Mutation.updateAgent as {name}" for name in ("acme", "globex", "initech")
    ]


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (Blind(), THING),
        (Blind(), Answer(404, NOTHING.content)),
        (Sees(), NOTHING),
        (Sees({"name": "y"}), THING),
        (Refused(Code.WRONG_STATE), NOTHING),
        (Refused(Code.WRONG_STATE), _error(Code.FORBIDDEN)),
        (Refused(Code.NOT_FOUND), _data({"userErrors": [{"code": "NOT_FOUND", "path": ["agentId"]}]})),
    ],
)
def test_what_is_not_as_a_row_says_is_a_fault(expected: Expected, answer: Answer) -> None:
    assert fault(expected, answer, missing=NOTHING)
