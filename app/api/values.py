"""Literals in a document are checked as GraphQL says, and a wrong one is told by its place.

GraphQL's own rule says what is wrong with a scalar and leaves out where; for variables it names the path.
"""

from collections.abc import Iterator

from graphql import (
    SKIP,
    ArgumentNode,
    GraphQLError,
    GraphQLInputType,
    ValueNode,
    ValuesOfCorrectTypeRule,
    VariableDefinitionNode,
    VisitorAction,
    specified_rules,
)
from graphql.utilities import validate_input_literal
from strawberry.extensions import SchemaExtension
from typing_extensions import override


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
            self.report_error(GraphQLError(f"{place}: {error.message}", error.nodes or node))

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
