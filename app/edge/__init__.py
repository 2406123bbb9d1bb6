"""What every ASGI endpoint shares: bounded bodies, problem answers, the client's address, methods, headers."""
