"""How big an operation is, before anything of it runs.

Each fragment is measured once, however often it is spread, so the time is linear in the document. Strawberry's
limiters walk every spread again and double with each level of a chain of fragments.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLField,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NamedTypeNode,
    NullValueNode,
    ObjectFieldNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)

from app.api.context import MOST_ANSWERED
from app.api.scalars import LARGEST_JSON
from app.delegations.parts import TERMS_SHOWN
from app.delegations.usage import HISTORY
from app.inventory.agents import MOST_TAGS
from app.rules import scopes
from app.rules.content.condition_lexemes import LONGEST as LONGEST_CONDITION
from app.rules.content.patterns import LONGEST_PATTERN, MOST_PATTERNS
from app.rules.content.schemas import LARGEST_SCHEMA
from app.rules.limits import LARGEST_METADATA, MOST_NETWORKS
from app.rules.texts import LONGEST_NAME, LONGEST_TEXT

#: What a page or list counts as where nobody says how long it is: a connection's default page.
PAGE = 20
#: No page is longer; enough to be refused at any level, and arithmetic stays small.
_ENDLESS = 1_000_000

_INTROSPECTION = ("__schema", "__type")

#: Arguments, and members of `filter`, for which the store looks at entry after entry of a log; and those that leave
#: it few to look at.
_SEARCHED = frozenset({"events", "since", "until", "outcome"})
_FEW = frozenset({"dispatchId", "pairId"})

_PER_CHARACTER = 4  # bytes in UTF-8, at most
#: The fields that may be large, in bytes.
_WEIGHTS = {
    "configuration": LARGEST_JSON,
    "metadata": LARGEST_METADATA,
    "details": 16 * 1024,  # a reason and a few lists
    "tags": MOST_TAGS * LONGEST_NAME * _PER_CHARACTER,
    "scopes": scopes.MOST * scopes.LONGEST,
    "requestSchema": LARGEST_SCHEMA,
    "condition": LONGEST_CONDITION,
    "denyPatterns": MOST_PATTERNS * LONGEST_PATTERN * _PER_CHARACTER,
    "ipAllowlist": MOST_NETWORKS * 46,
    "description": LONGEST_TEXT * _PER_CHARACTER,
    "endReason": LONGEST_TEXT * _PER_CHARACTER,
    "body": MOST_ANSWERED,
    "text": MOST_ANSWERED,
}
#: Lists that are longer than a page where nobody says how long, and two that are much shorter as a rule: what they show
#: is counted once more as it is shown (`Context.show`).
_LENGTHS = {"termsHistory": TERMS_SHOWN, "usageHistory": HISTORY, "webhookEndpoints": 5, "attempts": 3}
#: What upstreams answered has a budget of its own, which `body` and `text` fit in once; not what repeats them.
_BUDGETED = {"dispatchAction": 2 * MOST_ANSWERED}


@dataclass(frozen=True, slots=True)
class Size:
    """Of a selection, fragments expanded.

    `width` counts its own fields, `fields` all below as well. `depth` and `cost` leave introspection out, which
    has its own: answering it costs nothing but the fields that it prints. `searches` are fields whose filter looks
    through a log; within a list, one search is made for all of it. `weight` is the bytes of what may be large, at
    its largest.
    """

    width: int = 0
    fields: int = 0
    depth: int = 0
    cost: int = 0
    introspection_depth: int = 0
    introspection_cost: int = 0
    searches: int = 0
    weight: int = 0

    def __add__(self, other: "Size") -> "Size":
        """Both side by side."""
        return Size(
            self.width + other.width,
            self.fields + other.fields,
            max(self.depth, other.depth),
            self.cost + other.cost,
            max(self.introspection_depth, other.introspection_depth),
            self.introspection_cost + other.introspection_cost,
            self.searches + other.searches,
            self.weight + other.weight,
        )

    def below(self, times: int, searches: int, weight: int) -> "Size":
        """A field that has this selection `times` over; it makes so many searches and has this weight of its own."""
        return Size(
            1,
            1 + self.fields,
            1 + self.depth,
            1 + times * self.cost,
            searches=self.searches + searches,
            weight=max(0, times * self.weight + weight),
        )

    def introspected(self) -> "Size":
        """The same field, counted as introspection."""
        return Size(1, self.fields, 0, 0, self.depth, self.cost)


class Measure:
    """Measures one operation of one request. Raises RecursionError for a document that nests without end.

    Fragments that are unknown or spread themselves count as nothing: validation refuses them.
    """

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, object]
    ) -> None:
        self._schema = schema
        self._variables = variables
        self._defaults: dict[str, ValueNode] = {}
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._measured: dict[str, Size] = {}

    def operation(self, node: OperationDefinitionNode) -> Size:
        """The size of a whole operation."""
        self._defaults = {
            definition.variable.name.value: definition.default_value
            for definition in node.variable_definitions or ()
            if definition.default_value is not None
        }
        return self._selections(node.selection_set, self._schema.get_root_type(node.operation))

    def _selections(self, node: SelectionSetNode | None, parent: GraphQLCompositeType | None) -> Size:
        size = Size()
        for selection in node.selections if node else ():
            size += self._selection(selection, parent)
        return size

    def _selection(self, node: SelectionNode, parent: GraphQLCompositeType | None) -> Size:
        match node:
            case FieldNode():
                return self._field(node, parent)
            case InlineFragmentNode():
                narrowed = self._type(node.type_condition) if node.type_condition else parent
                return self._selections(node.selection_set, narrowed)
            case FragmentSpreadNode():
                return self._fragment(node.name.value)
        return Size()

    def _fragment(self, name: str) -> Size:
        if name not in self._measured and (node := self._fragments.get(name)):
            self._measured[name] = Size()  # where it spreads itself, it ends
            self._measured[name] = self._selections(node.selection_set, self._type(node.type_condition))
        return self._measured.get(name, Size())

    def _field(self, node: FieldNode, parent: GraphQLCompositeType | None) -> Size:
        field = self._schema.get_field(parent, node.name.value) if parent else None
        named = get_named_type(field.type) if field else None
        selection = self._selections(node.selection_set, named if is_composite_type(named) else None)
        name = node.name.value
        weight = _WEIGHTS.get(name, 0) - _BUDGETED.get(name, 0)
        size = selection.below(self._times(node, field, parent), int(self._searches(node)), weight)
        return size.introspected() if name in _INTROSPECTION else size

    def _type(self, node: NamedTypeNode) -> GraphQLCompositeType | None:
        found = self._schema.get_type(node.name.value)
        return found if is_composite_type(found) else None

    def _times(self, node: FieldNode, field: GraphQLField | None, parent: GraphQLCompositeType | None) -> int:
        if field is None or (parent and parent.name.endswith("Connection")):
            return 1  # `edges` and `nodes` are the page that their connection has counted
        is_connection = get_named_type(field.type).name.endswith("Connection")
        if not is_connection and not is_list_type(get_nullable_type(field.type)):
            return 1
        asked = [
            self._length(one.value)
            for one in node.arguments or ()
            if one.name.value in ("first", "last", "ids")
        ]
        return max(asked, default=_LENGTHS.get(node.name.value, PAGE))

    def _searches(self, node: FieldNode) -> bool:
        if node.name.value == "usageHistory":  # which has an index for it
            return False
        given = self._names(node.arguments or ())
        for one in node.arguments or ():
            if one.name.value == "filter":
                given |= self._members(one.value)
        return bool(given & _SEARCHED) and not given & _FEW

    def _members(self, node: ValueNode | None) -> set[str]:
        """The members of an object that are not null."""
        match node:
            case ObjectValueNode(fields=fields):
                return self._names(fields)
            case VariableNode(name=name) if name.value in self._variables:
                value = self._variables[name.value]
                return {key for key in value if value[key] is not None} if isinstance(value, dict) else set()
            case VariableNode(name=name):
                return self._members(self._defaults.get(name.value))
        return set()

    def _names(self, given: Iterable[ArgumentNode | ObjectFieldNode]) -> set[str]:
        return {one.name.value for one in given if not self._is_null(one.value)}

    def _is_null(self, node: ValueNode | None) -> bool:
        match node:
            case VariableNode(name=name) if name.value in self._variables:
                return self._variables[name.value] is None
            case VariableNode(name=name):
                return self._is_null(self._defaults.get(name.value))
        return node is None or isinstance(node, NullValueNode)

    def _length(self, node: ValueNode) -> int:
        match node:
            case IntValueNode(value=digits):
                return _clamped(int(digits)) if len(digits) < 10 else _ENDLESS
            case ListValueNode(values=values):
                return len(values)
            case VariableNode():
                return self._variable(node.name.value)
            case NullValueNode():
                return PAGE
        return 1

    def _variable(self, name: str) -> int:
        match self._variables.get(name):
            case bool():
                return 1
            case int(length) | float(length):  # 100.0 is an Int too
                return _clamped(int(length))
            case list(values):
                return len(values)
        default = None if name in self._variables else self._defaults.get(name)
        return PAGE if default is None or isinstance(default, VariableNode) else self._length(default)


def _clamped(length: int) -> int:
    # A negative page is refused when it runs, but must not make room for its neighbours before.
    return max(0, min(length, _ENDLESS))
