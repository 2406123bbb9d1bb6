"""A tenant's append-only log: the only record of events, which audit pages, subscriptions and webhooks read."""
