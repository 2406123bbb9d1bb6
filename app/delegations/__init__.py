"""The agreement between two tenants: offered, accepted or declined, bound to agents, and ended."""
