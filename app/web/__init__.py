"""The outermost room: the HTTP protocol's limits, health, metrics, and the one ASGI application."""
