"""What a request's content is judged by: each guard with its own language, and with what it may cost. `guards` asks them."""
