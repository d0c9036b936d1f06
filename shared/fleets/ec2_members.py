"""The machines of an Auto Scaling group, as EC2 and the group tell of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.models.farm import FleetInstance, PoolKey, named_at

# How old a machine is that may get a name which it was launched without: a name just written shows in the listing a
# little later, and a machine waits five minutes for its own.
ADOPTED_FROM, ADOPTED_UNTIL = timedelta(seconds=20), timedelta(minutes=4)


@dataclass(frozen=True)
class Member:
    """A machine of a group, with Amazon's id."""

    instance_id: str
    listed: FleetInstance

    def is_adoptable(self, now: datetime) -> bool:
        """Tell whether it was launched without a name and waits for one."""
        each = self.listed
        age = now - each.created_at
        is_staying = not (each.is_retiring or each.is_stopped)
        return each.name == self.instance_id and is_staying and ADOPTED_FROM <= age < ADOPTED_UNTIL


def member_of(
    pool: PoolKey, instance_id: str, lifecycle: str, known: Mapping[str, Any] | None
) -> Member:
    """Return a machine as we list it; EC2 forgets an hour after its end what it was (`known` is None)."""
    tags = {tag["Key"]: tag["Value"] for tag in known.get("Tags", ())} if known else {}
    status = known["State"]["Name"] if known else "terminated"
    name = tags.get("Name", instance_id)
    try:
        created_at = named_at(name)
    except ValueError:  # it has no name of ours
        created_at = known["LaunchTime"] if known else datetime.fromtimestamp(0, UTC)
    is_over = status in ("terminated", "stopped")
    is_leaving = lifecycle.startswith(("Terminat", "Detach"))
    return Member(
        instance_id,
        FleetInstance(
            name=name,
            pool=pool,
            created_at=created_at,
            is_retiring=is_leaving or status in ("shutting-down", "stopping"),
            is_stopped=is_over and not is_leaving,
        ),
    )
