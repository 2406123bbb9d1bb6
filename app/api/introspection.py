"""Which documents anybody may run: those about the schema alone, which is public."""

from graphql import DocumentNode, FieldNode, GraphQLError, OperationDefinitionNode, OperationType, parse

from app.api.limits import PARSE_OPTIONS

_META = ("__schema", "__type", "__typename")


def introspects_only(query: str) -> bool:
    """Whether every operation is a query for nothing but the schema. False where the document cannot be read."""
    try:
        document: DocumentNode = parse(query, **PARSE_OPTIONS)
    except GraphQLError:
        return False
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    return bool(operations) and all(_is_meta(node) for node in operations)


def _is_meta(operation: OperationDefinitionNode) -> bool:
    # A fragment at the root is not followed: the introspection queries of tools have theirs further down.
    return operation.operation is OperationType.QUERY and all(
        isinstance(selection, FieldNode) and selection.name.value in _META
        for selection in operation.selection_set.selections
    )
