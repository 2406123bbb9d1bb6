"""Readers of the ledger that push what they read."""
