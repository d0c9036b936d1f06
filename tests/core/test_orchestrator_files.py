"""What an orchestrator's file may say, and whose machines it then has."""

from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.models.account import Provider
from shared.models.farm import Orchestrator
from shared.schemas.catalog import OrchestratorSchema
from shared.schemas.loading import load
from shared.services.orchestrators import described

BATCH: dict[str, Any] = {
    "orchestrator_id": "aws1",
    "scheduler": "batch",
    "scheduler_address": "",
    "fleet": "managed",
    "project": "123456789012",
    "region": "us-east-1",
    "zones": {"us-east-1": True},
}


def loaded(**fields: Any) -> Orchestrator:
    found: Orchestrator = load(OrchestratorSchema(), BATCH | fields)
    return found


def test_aws_batch_without_an_address_is_at_amazons_own() -> None:
    assert loaded().scheduler_address == ""


@pytest.mark.parametrize(
    ("scheduler", "address"),
    [("nomad", ""), ("kubernetes", ""), ("batch", "nowhere"), ("nomad", "ftp://127.0.0.1")],
)
def test_any_other_address_is_a_url(scheduler: str, address: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        loaded(scheduler=scheduler, scheduler_address=address, max_instances=-1)
    assert set(refused.value.fields) == {"scheduler_address", "max_instances"}
    assert loaded(scheduler=scheduler, scheduler_address="http://127.0.0.1:4646").zones


@pytest.mark.parametrize(
    ("scheduler", "fleet", "said", "provider"),
    [
        ("batch", "managed", {}, Provider.AWS),
        ("nomad", "ec2", {}, Provider.AWS),
        ("nomad", "gce", {}, Provider.GCP),
        ("kubernetes", "managed", {}, Provider.GCP),
        ("kubernetes", "managed", {"provider": "aws"}, Provider.AWS),
        ("kubernetes", "managed", {"provider": ""}, Provider.GCP),
    ],
)
def test_whose_machines_it_has_follows_from_the_fleet_unless_the_file_says_it(
    scheduler: str, fleet: str, said: dict[str, str], provider: Provider
) -> None:
    address = "http://127.0.0.1:1"
    found = loaded(scheduler=scheduler, fleet=fleet, scheduler_address=address, **said)
    assert found.provider is provider
    assert load(OrchestratorSchema(), described(found)) == found


def test_a_provider_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        loaded(provider="azure")
    assert set(refused.value.fields) == {"provider"}
