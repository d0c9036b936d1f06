"""A machine has one name: what the fleet lists it under, its agent claims with, and its node registers as.

The agent's side speaks to the metadata server that the machine has; of Amazon's, where machines are states and no
processes, the test serves what its launch template and tags make the machine's own server show.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import boto3
import pytest
import requests

from agent.cloud import Identity, detect
from agent.transport import Transport
from shared.fleets.ec2_resources import Machine, template_of
from shared.fleets.gce import GceFleet
from shared.models.farm import PoolKey
from shared.ports import Fleet
from tests.agent.metadata import AwsMetadata
from tests.contracts.aws import REGION, Ec2Rig, aws_server, ec2_orchestrator
from tests.contracts.stand_ins import nobody, stand_in
from tests.contracts.test_gce_machines import MACHINE, ORCHESTRATOR
from tests.waiting import until

NAMES = ("baton-20261120-1", "baton-20261120-2")


class Site(Protocol):
    """A fleet, one of its pools, and what the agents on its machines find out about themselves."""

    fleet: Fleet
    pool: PoolKey

    def identity(self, name: str) -> Identity:
        """Ask as the agent does on the machine that the provider knows by this name."""
        ...


class GoogleSite:
    """Machines are processes with a metadata server each."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.fleet: Fleet = GceFleet(ORCHESTRATOR, endpoint=url, machine=MACHINE)
        self.pool = PoolKey("us-central1-a", "cpu-8-32", True)

    def identity(self, name: str) -> Identity:
        def host() -> str:
            machines = requests.get(f"{self._url}/machines", timeout=10).json()
            return next(
                (each["metadata_host"] or "" for each in machines if each["name"] == name), ""
            )

        return asked({"GCE_METADATA_HOST": until(host)})


class AmazonSite:
    """Machines are what Amazon's API says of them."""

    def __init__(self, url: str) -> None:
        rig = Ec2Rig(url)
        self.fleet: Fleet = rig.fleet()
        self.pool = rig.a
        self._ec2 = boto3.client("ec2", region_name=REGION, endpoint_url=url)

    def identity(self, name: str) -> Identity:
        named = [{"Name": "tag:Name", "Values": [name]}]
        ((machine,),) = (
            each["Instances"]
            for each in self._ec2.describe_instances(Filters=named)["Reservations"]
        )
        tags = {each["Key"]: each["Value"] for each in machine["Tags"]}
        metadata = AwsMetadata(
            machine["InstanceId"],
            machine["Placement"]["AvailabilityZone"],
            machine["InstanceType"],
            tags if self._shows_tags() else {},
        )
        try:
            return asked({"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.endpoint})
        finally:
            metadata.close()

    def _shows_tags(self) -> bool:
        (template,) = self._ec2.describe_launch_templates()["LaunchTemplates"]
        versions: Any = self._ec2.describe_launch_template_versions(
            LaunchTemplateId=template["LaunchTemplateId"]
        )
        options = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]["MetadataOptions"]
        return bool(options["InstanceMetadataTags"] == "enabled")


def asked(environment: dict[str, str]) -> Identity:
    transport = Transport()
    try:
        return detect(environment, transport).identity()
    finally:
        transport.close()


@contextmanager
def google(directory: Path) -> Iterator[Site]:
    pace = ("--boot-s", "0", "--operation-s", "0.05")
    with stand_in("compute", "--data", directory, "--nomad", nobody(), *pace) as url:
        yield GoogleSite(url)


@contextmanager
def amazon(_: Path) -> Iterator[Site]:
    with aws_server() as url:
        yield AmazonSite(url)


@pytest.mark.parametrize("provider", [google, amazon], ids=["google", "amazon"])
def test_an_agent_claims_with_the_name_that_its_fleet_lists(
    provider: Callable[[Path], AbstractContextManager[Site]], tmp_path: Path
) -> None:
    with provider(tmp_path) as site:
        site.fleet.grow(site.pool, NAMES)
        listed = until(lambda: [each.name for each in site.fleet.instances(site.pool)])
        assert sorted(listed) == sorted(NAMES)
        claimed = [site.identity(name) for name in listed]
    assert [each.instance for each in claimed] == listed
    assert {each.zone for each in claimed} == {site.pool.zone}


@pytest.mark.parametrize(("scheduler", "hops"), [("nomad", 1), ("kubernetes", 2)])
def test_an_agent_in_a_pod_reaches_amazons_metadata_server(scheduler: str, hops: int) -> None:
    orchestrator = replace(ec2_orchestrator(), scheduler=scheduler)
    template = template_of(orchestrator, PoolKey("us-east-1a", "m5.xlarge", True), Machine())
    options = template["LaunchTemplateData"]["MetadataOptions"]
    assert options["HttpPutResponseHopLimit"] == hops
