"""Who may do what: DESIGN section 5, as a table."""

from itertools import product

import pytest

from app.rules.permissions import GIVEABLE, PERMISSIONS, Permission, Role, may_give, roles_with

#: Columns: OWNER ADMIN OPERATOR AUDITOR VIEWER TRUST_AUTHORITY PLATFORM.
TABLE = """
    read               + + + + + . .
    audit:read         + + . + . . .
    dispatch           + + + . . . .
    binding:write      + + + . . . .
    delegation:end     + + . . . . .
    delegation:govern  + + . . . . .
    agent:write        + + . . . . .
    upstream:write     + + . . . . .
    webhook:write      + + . . . . .
    api_key:read       + + . . . . .
    api_key:write      + . . . . . .
    delegation:offer   + . . . . . .
    delegation:accept  + . . . . . .
    trust:report       . . . . . + .
    tenant:write       . . . . . . +
"""
ROWS = {name: marks for name, *marks in map(str.split, TABLE.strip().split("\n"))}


def test_every_permission_has_its_line() -> None:
    assert set(ROWS) == set(Permission)
    assert set(PERMISSIONS) == set(Role)


@pytest.mark.parametrize(("role", "permission"), list(product(Role, Permission)))
def test_each_role_has_what_the_table_gives_it(role: Role, permission: Permission) -> None:
    assert (permission in PERMISSIONS[role]) == (ROWS[permission][list(Role).index(role)] == "+")


@pytest.mark.parametrize(("own", "wanted"), list(product(Role, Role)))
def test_nobody_gives_a_role_above_their_own_nor_one_of_the_command_lines(own: Role, wanted: Role) -> None:
    order = [Role.OWNER, Role.ADMIN, Role.OPERATOR, Role.AUDITOR, Role.VIEWER]
    allowed = own in order and wanted in order and order.index(own) <= order.index(wanted)
    assert may_give(own, wanted) == allowed


def test_a_role_that_may_give_another_has_every_permission_that_it_gives() -> None:
    for own, wanted in product(GIVEABLE, GIVEABLE):
        if may_give(own, wanted) and Permission.KEYS in PERMISSIONS[own]:
            assert PERMISSIONS[wanted] <= PERMISSIONS[own]


def test_who_lacks_a_permission_is_told_the_roles_that_have_it() -> None:
    assert roles_with(Permission.AUDIT) == "OWNER, ADMIN or AUDITOR"
    assert roles_with(Permission.WEBHOOKS) == "OWNER or ADMIN"
    assert roles_with(Permission.OFFER) == "OWNER"
