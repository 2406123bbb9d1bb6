"""What one document may ask for. Whatever exceeds it is refused before validation, which is dearer."""

from collections.abc import Iterator
from typing import cast

from graphql import GraphQLError, OperationDefinitionNode
from strawberry.extensions import SchemaExtension
from strawberry.types.execution import ParseOptions
from typing_extensions import override

from app.api.sizes import Measure, Size
from app.rules.errors import Code

LONGEST_DOCUMENT = 32 * 1024  # characters
MOST_TOKENS = 2_000  # comments count

#: For `graphql.parse`; it knows more options than Strawberry's type does.
PARSE_OPTIONS = cast(ParseOptions, {"max_tokens": MOST_TOKENS, "max_source_length": LONGEST_DOCUMENT})

#: Attribute of Size, what it is called, the most it may be.
LIMITS = (
    ("depth", "levels", 12),
    ("fields", "fields", 500),
    ("width", "root fields", 20),
    ("cost", "estimated cost", 20_000),
    ("weight", "bytes of text and JSON where each is at its largest", 32 * 1024 * 1024),
    # Each looks at up to 10,000 entries.
    ("searches", "searches through a log by events, time or outcome", 3),
    # The introspection queries that tools send have 15 levels and cost 350,000, whatever the schema.
    ("introspection_depth", "levels of introspection", 20),
    ("introspection_cost", "estimated cost of introspection", 500_000),
)


class Limits(SchemaExtension):
    """Refuses documents that are too complex or leave open which operation is meant."""

    @override
    def on_parse(self) -> Iterator[None]:
        self.execution_context.parse_options = PARSE_OPTIONS
        yield

    @override
    def on_validate(self) -> Iterator[None]:
        # Strawberry skips its validation where there are errors already.
        if error := self._refusal():
            self.execution_context.pre_execution_errors = [error]
        yield

    def _refusal(self) -> GraphQLError | None:
        context = self.execution_context
        document = context.graphql_document
        assert document is not None  # it was parsed: this is on_validate
        operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
        # The public `operation_name` falls back on the first operation, which may not be the one that was meant.
        if len(operations) > 1 and context._provided_operation_name is None:
            return GraphQLError(
                f"the document has {len(operations)} operations: say which one to run with operationName"
            )
        meant = next(node for node in operations if context.operation_name == (node.name and node.name.value))
        measure = Measure(context.schema._schema, document, context.variables or {})
        try:
            return _excess(measure.operation(meant))
        except RecursionError:
            return too_complex("the document nests its fragments too deeply")


def _excess(size: Size) -> GraphQLError | None:
    for attribute, what, most in LIMITS:
        if (asked := getattr(size, attribute)) > most:
            shown = f"{asked:,}" if asked < 10**12 else "more than 10^12"
            return too_complex(f"the operation has {shown} {what}: {most:,} at most; ask for less at a time")
    return None


def too_complex(message: str) -> GraphQLError:
    """The error of a document that asks for too much."""
    return GraphQLError(message, extensions={"code": Code.QUERY_TOO_COMPLEX})
