"""The farm that the tests of the services share."""

from tests.services.farm import farm_fixture, new_farm_fixture
from tests.services.rig import rig_fixture

__all__ = ["farm_fixture", "new_farm_fixture", "rig_fixture"]
