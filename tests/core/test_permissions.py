"""Who may do what."""

import pytest

from shared.core.permissions import ALLOWED, Action, check
from shared.errors import Forbidden
from shared.models.account import Principal, Role


def a_principal(role: Role) -> Principal:
    return Principal(account_id="acme", user_id="ines", role=role)


def test_every_role_may_do_what_the_roles_below_it_may() -> None:
    assert ALLOWED[Role.USER] <= ALLOWED[Role.ADMINISTRATOR] <= ALLOWED[Role.OWNER]
    assert set(ALLOWED) == set(Role)


def test_only_an_owner_manages_users() -> None:
    check(a_principal(Role.OWNER), Action.MANAGE_USERS)
    for role in (Role.ADMINISTRATOR, Role.USER):
        with pytest.raises(Forbidden, match="manage users"):
            check(a_principal(role), Action.MANAGE_USERS)


def test_a_plain_user_does_not_read_the_bills() -> None:
    check(a_principal(Role.ADMINISTRATOR), Action.READ_BILLING)
    with pytest.raises(Forbidden, match="read billing"):
        check(a_principal(Role.USER), Action.READ_BILLING)
