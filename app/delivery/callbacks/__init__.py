"""Callbacks: subscriptions that are POSTed to a router, which holds no connection for them."""
