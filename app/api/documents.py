"""Documents that were valid once are neither parsed nor validated again: clients send few, and send them often.

Whether a document is valid depends on it and on the schema alone. What else is asked of an operation (its type, its
limits, its variables) depends on the request too, and is asked each time.
"""

from collections import OrderedDict
from collections.abc import Iterator

from graphql import DocumentNode
from strawberry.extensions import SchemaExtension
from typing_extensions import override

#: Characters of one document; tools' introspection queries have 1,700.
LONGEST = 4 * 1024
#: Characters of all. Parsed, a character takes some 80 bytes, and 320 at worst: 20 MB.
ROOM = 64 * 1024


class Documents:
    """Those used last, by their text."""

    def __init__(self, longest: int = LONGEST, room: int = ROOM) -> None:
        self._longest = longest
        self._left = room
        self._kept: OrderedDict[str, DocumentNode] = OrderedDict()

    def find(self, text: str) -> DocumentNode | None:
        """The document, if it is kept."""
        document = self._kept.get(text)
        if document is not None:
            self._kept.move_to_end(text)
        return document

    def keep(self, text: str, document: DocumentNode) -> None:
        """Keeps a valid document, unless it is too long, and gives up those used longest ago in its favour."""
        if text in self._kept or len(text) > self._longest:
            return
        self._kept[text] = document
        self._left -= len(text)
        while self._left < 0:
            given_up, _ = self._kept.popitem(last=False)
            self._left += len(given_up)


class KnownDocuments(SchemaExtension):
    """Takes what is known of a document; stands after whatever refuses documents, since it keeps all others."""

    def __init__(self, documents: Documents) -> None:
        super().__init__()
        self._documents = documents

    @override
    def on_parse(self) -> Iterator[None]:
        if query := self.execution_context.query:
            self.execution_context.graphql_document = self._documents.find(query)
        self._known = self.execution_context.graphql_document is not None
        yield

    @override
    def on_validate(self) -> Iterator[None]:
        context = self.execution_context
        if self._known and context.pre_execution_errors is None:
            context.pre_execution_errors = []  # Strawberry validates where this is None
        yield
        if not self._known and not context.pre_execution_errors:
            assert context.query is not None  # it was parsed: this is on_validate
            assert context.graphql_document is not None
            self._documents.keep(context.query, context.graphql_document)
