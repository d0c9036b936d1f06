"""Two people administer an account at the same moment: neither takes back what the other did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from shared import wiring
from shared.errors import NotFound, Unauthenticated
from shared.models.account import Principal, Project, Role, User
from shared.services.members import (
    add_member,
    remove_user,
    set_projects,
    set_role,
    set_user_active,
)
from tests.services.farm import Farm

KAI = User(user_id="kai", email="kai@otter.example", role=Role.OWNER, projects=("reef",))
INES = User(user_id="ines", email="ines@otter.example", role=Role.OWNER)


def nothing() -> None:
    return None


@dataclass
class SignIns:
    """A sign-in service that takes a while, in which a colleague does something."""

    meanwhile: Callable[[], object] = nothing

    def _wait(self) -> None:
        meanwhile, self.meanwhile = self.meanwhile, nothing
        meanwhile()

    def verify(self, id_token: str) -> Principal:
        raise Unauthenticated(id_token)

    def save_user(
        self,
        account_id: str,
        email: str,
        role: Role,
        projects: Sequence[str],
        password: str | None,
    ) -> str:
        self._wait()
        return email.partition("@")[0]

    def set_active(self, user_id: str, is_active: bool) -> None:
        self._wait()

    def delete_user(self, user_id: str) -> None:
        return


@pytest.fixture(name="account_id")
def account_fixture(farm: Farm) -> str:
    """An account with two owners and three projects."""
    for user in (KAI, INES):
        wiring.account_store().save_user(farm.account_id, user)
    for name in ("reef", "kelp", "tide"):
        wiring.account_store().save_project(farm.account_id, Project(name=name))
    return farm.account_id


def test_who_is_given_another_role_while_being_switched_off_stays_off(account_id: str) -> None:
    accounts = wiring.account_store()

    def switch_off() -> None:
        set_user_active(account_id, "kai", False, accounts=accounts, identity=SignIns())

    set_role(account_id, "kai", Role.USER, accounts, SignIns(switch_off))
    user = accounts.user(account_id, "kai")
    assert (user.is_active, user.role) == (False, Role.USER)


def test_who_is_switched_off_while_being_given_another_role_keeps_that(account_id: str) -> None:
    accounts = wiring.account_store()

    def demote() -> None:
        set_role(account_id, "kai", Role.USER, accounts, SignIns())

    set_user_active(account_id, "kai", False, accounts=accounts, identity=SignIns(demote))
    user = accounts.user(account_id, "kai")
    assert (user.is_active, user.role) == (False, Role.USER)


def test_who_is_let_into_two_projects_at_once_may_use_both(account_id: str) -> None:
    accounts = wiring.account_store()

    def add_another() -> None:
        add_member(account_id, "tide", "kai", accounts, SignIns())

    add_member(account_id, "kelp", "kai", accounts, SignIns(add_another))
    assert set(accounts.user(account_id, "kai").projects) == {"reef", "kelp", "tide"}


def test_who_is_removed_while_being_given_something_does_not_come_back(account_id: str) -> None:
    accounts = wiring.account_store()

    def remove() -> None:
        remove_user(account_id, "kai", now=wiring.now(), accounts=accounts, identity=SignIns())

    with pytest.raises(NotFound):
        set_projects(account_id, "kai", ["kelp"], accounts, SignIns(remove))
    assert [user.user_id for user in accounts.users(account_id)] == ["ines"]
