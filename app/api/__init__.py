"""GraphQL over HTTP, SSE and WebSocket: types wrap rows, mutations call flows, everything is bounded."""
