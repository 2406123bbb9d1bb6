"""Who may do what: one table of roles and permissions."""

from enum import StrEnum


class Role(StrEnum):
    """What an API key may do, from the most to the least. The last two come from the command line alone."""

    OWNER = "OWNER"
    ADMIN = "ADMIN"
    OPERATOR = "OPERATOR"
    AUDITOR = "AUDITOR"
    VIEWER = "VIEWER"
    TRUST_AUTHORITY = "TRUST_AUTHORITY"
    PLATFORM = "PLATFORM"


class Permission(StrEnum):
    """One thing that a caller may do; its value is what `viewer.permissions` shows."""

    READ = "read"
    AUDIT = "audit:read"
    DISPATCH = "dispatch"
    BIND = "binding:write"
    END = "delegation:end"
    GOVERN = "delegation:govern"
    AGENTS = "agent:write"
    UPSTREAMS = "upstream:write"
    WEBHOOKS = "webhook:write"
    KEYS_READ = "api_key:read"
    KEYS = "api_key:write"
    OFFER = "delegation:offer"
    ACCEPT = "delegation:accept"
    TRUST = "trust:report"
    TENANTS = "tenant:write"


P = Permission

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.OWNER: frozenset(
        {
            P.READ,
            P.AUDIT,
            P.DISPATCH,
            P.BIND,
            P.END,
            P.GOVERN,
            P.AGENTS,
            P.UPSTREAMS,
            P.WEBHOOKS,
            P.KEYS_READ,
            P.KEYS,
            P.OFFER,
            P.ACCEPT,
        }
    ),
    Role.ADMIN: frozenset(
        {P.READ, P.AUDIT, P.DISPATCH, P.BIND, P.END, P.GOVERN, P.AGENTS, P.UPSTREAMS, P.WEBHOOKS, P.KEYS_READ}
    ),
    Role.OPERATOR: frozenset({P.READ, P.DISPATCH, P.BIND}),
    Role.AUDITOR: frozenset({P.READ, P.AUDIT}),
    Role.VIEWER: frozenset({P.READ}),
    Role.TRUST_AUTHORITY: frozenset({P.TRUST}),
    Role.PLATFORM: frozenset({P.TENANTS}),
}

#: Roles that an API key may be given over GraphQL, highest first; nobody gives one above their own.
GIVEABLE = (Role.OWNER, Role.ADMIN, Role.OPERATOR, Role.AUDITOR, Role.VIEWER)


def roles_with(permission: Permission) -> str:
    """The roles that have a permission, in words: `OWNER, ADMIN or AUDITOR`."""
    *others, last = [role.value for role in Role if permission in PERMISSIONS[role]]
    return f"{', '.join(others)} or {last}" if others else last


def may_give(own: Role, wanted: Role) -> bool:
    """Whether a caller of role `own` may make or end a key of role `wanted`."""
    return own in GIVEABLE and wanted in GIVEABLE and GIVEABLE.index(own) <= GIVEABLE.index(wanted)
