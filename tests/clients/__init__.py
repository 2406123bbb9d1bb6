"""Other people's clients, as they come from npm, against the gateway."""
