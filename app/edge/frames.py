"""What the endpoints and our server's WebSockets agree on beyond ASGI."""

#: Among the scope's extensions: `websocket.send` takes `texts`, many messages in UTF-8, and writes them at once.
TEXTS = "crossgrant.texts"
