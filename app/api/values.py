"""Values are checked as GraphQL says, and a wrong one is told in our words: its place, and what would be right.

Of a literal GraphQL's own rule leaves out the place; of a variable it names it, and then speaks of Python. What was
given is not repeated: a credential may stand in it, or beside it.
"""

import re
from collections.abc import Iterator, Mapping

from graphql import (
    SKIP,
    ArgumentNode,
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLNamedType,
    ValueNode,
    ValuesOfCorrectTypeRule,
    VariableDefinitionNode,
    VisitorAction,
    specified_rules,
)
from graphql.utilities import validate_input_literal
from strawberry.extensions import SchemaExtension
from typing_extensions import override

from app.rules.texts import shown

Types = Mapping[str, GraphQLNamedType]

_PLACED = re.compile(
    r"(?:Variable '(\$\w+)'|Argument '(\w+)') has invalid (?:default )?value(?: at ([\w.\[\]]+))?: (.*)",
    re.DOTALL,
)
_TYPE = "value of type '(?P<type>[^']+)'"
_NON_NULL = "non-null type '(?P<type>[^']+)!'"
_VARIABLE = r"Expected variable '(?P<variable>\$\w+)' provided to "
#: What GraphQL finds, and how it is said; the first that begins its message counts.
_SAID = tuple(
    (re.compile(found, re.DOTALL), said)
    for found, said in (
        (rf"Expected {_TYPE} to include required field '(?P<field>\w+)'", "{place}.{field} is missing: give {wanted}"),
        (rf"Expected {_TYPE} not to include unknown field '(?P<field>.*?)'(?:\.(?P<meant> Did you mean .+\?) Found)?",
            "{place}.{field} is no field of {type}.{meant}"),
        (rf"Expected {_TYPE} to be an object", "{place} must be an object, {type}"),
        (rf"Expected value of {_NON_NULL} not to be None", "{place} must not be null: give {type}"),
        (rf"Expected a value of {_NON_NULL} to be provided", "{place} is missing: give {type}"),
        (rf"{_VARIABLE}{_NON_NULL} not to be None", "{place}: {variable} must not be null: give {type}"),
        (rf"{_VARIABLE}type '(?P<type>[^']+)!' to provide", "{place}: {variable} is missing: give {type}"),
        ("Int cannot represent", "{place} must be a whole number from -2147483648 to 2147483647"),
        ("String cannot represent", "{place} must be a string"),
        ("Boolean cannot represent", "{place} must be true or false"),
        ("ID cannot represent", "{place} must be an id, a string"),
        (r"Value '.*' does not exist in '(?P<type>\w+)' enum", "{place} must be one of {wanted}"),
        (r"Enum '(?P<type>\w+)' cannot represent non-enum value: \"", "{place} must be one of {wanted}, without quotes"),
        (r"Enum '(?P<type>\w+)' cannot represent", "{place} must be one of {wanted}"),
        (rf"Expected {_TYPE}", "{place} is no {type}"),
    )
)  # fmt: skip


def placed(message: str, types: Types) -> str:
    """What GraphQL says of a value, in our words, where it says whose value it is; anything else as it is."""
    found = _PLACED.match(message)
    if found is None:
        return message
    variable, argument, path, fault = found.groups()
    return told(f"{variable or argument}{path or ''}", fault, types)


def told(place: str, fault: str, types: Types) -> str:
    """What GraphQL says of the value at a place, in our words. What a scalar of ours says, it says itself."""
    for found, said in _SAID:
        if match := found.match(fault):
            named = {name: shown(text) for name, text in match.groupdict(" Leave it out.").items()}
            return said.format(place=place, wanted=_wanted(types.get(named.get("type", "")), named), **named)
    return f"{place}: {fault}"


def _wanted(kind: GraphQLNamedType | None, named: Mapping[str, str]) -> str:
    """The values of an enum, or the type of an input's field."""
    if isinstance(kind, GraphQLEnumType):
        return ", ".join(kind.values)
    if isinstance(kind, GraphQLInputObjectType) and named.get("field") in kind.fields:
        return str(kind.fields[named["field"]].type).removesuffix("!")
    return "a value"


class PlacedValuesRule(ValuesOfCorrectTypeRule):
    """`input.constraints.ipAllowlist[0]: …`, and the line and column."""

    _place = ""

    def enter_argument(self, node: ArgumentNode, *_: object) -> None:
        """Values up to the next one are its."""
        self._place = node.name.value

    def enter_variable_definition(self, node: VariableDefinitionNode, *_: object) -> None:
        """Its default value."""
        self._place = f"${node.variable.name.value}"

    @override
    def is_valid_value_node(self, node: ValueNode, input_type: GraphQLInputType | None) -> VisitorAction:
        def report(error: GraphQLError, path: list[str | int]) -> None:
            steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
            place = self._place + "".join(steps)
            said = told(place, error.message, self.context.schema.type_map)
            self.report_error(GraphQLError(said, error.nodes or node))

        if input_type:
            validate_input_literal(node, input_type, report)
        return SKIP


RULES = tuple(PlacedValuesRule if rule is ValuesOfCorrectTypeRule else rule for rule in specified_rules)


class PlacedValues(SchemaExtension):
    """Validates with `RULES`."""

    @override
    def on_validate(self) -> Iterator[None]:
        self.execution_context.validation_rules = RULES
        yield
