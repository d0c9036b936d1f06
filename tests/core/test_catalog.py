"""The catalogue: what no client may ever be given."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.core.catalog import faults
from shared.models.account import InstanceType, Package, Variable
from shared.schemas.catalog import InstanceTypeSchema, PackageSchema

STARTER = Path(__file__).parents[2] / "catalog"


def a_type(**named: Any) -> InstanceType:
    given: dict[str, Any] = {
        "name": "cpu-4-16",
        "machine_type": "n2-standard-4",
        "cores": 4,
        "memory_gib": 16,
        "operating_system": "linux",
        "description": "4 core, 16GB Mem",
        "price_micros_per_minute": 3237,
        "preemptible_micros_per_minute": 783,
    }
    return InstanceType(**given | named)


def a_package(package_id: str = "maya", **named: Any) -> Package:
    given = {"package_id": package_id, "product": package_id, "platform": "linux"}
    return Package(**given | {"major_version": "1"} | named)


def test_the_starter_catalogue_is_sound() -> None:
    types = [
        InstanceTypeSchema().load(each)
        for each in yaml.safe_load((STARTER / "instance_types.yaml").read_text())
    ]
    packages = [
        PackageSchema().load(each)
        for each in yaml.safe_load((STARTER / "packages.yaml").read_text())
    ]
    assert faults(types, packages) == []
    assert "blender" in {each.product for each in packages}


@pytest.mark.parametrize(
    ("types", "fault"),
    [
        ([], "more than 2 cores"),
        ([a_type(cores=2)], "more than 2 cores"),
        ([a_type(), a_type(description="other")], "two of that name"),
        ([a_type(), a_type(name="b")], "described as"),
        (
            [a_type(categories=({"label": "CPU", "order": 1},)), a_type(name="b", description="b")],
            "all have categories",
        ),
        ([a_type(gpu={"gpu_count": 1})], "gpu must have"),
        (
            [a_type(gpu={"gpu_count": "1", "gpu_model": "L4", "gpu_memory": "24GB"})],
            "whole number",
        ),
    ],
)
def test_instance_types_that_crash_a_client_are_found(
    types: list[InstanceType], fault: str
) -> None:
    assert any(fault in each for each in faults(types, []))


MTOA = a_package("mtoa", plugin_host_product="maya")


@pytest.mark.parametrize(
    ("packages", "fault"),
    [
        ([a_package(), a_package(major_version="2")], "two of that id"),
        ([a_package(), a_package("other", product="maya")], "product and version"),
        ([a_package(major_version="")], "needs a version"),
        ([a_package(plugins=("ghost",))], "does not exist"),
        ([a_package(plugins=("maya",))], "plugins of its own"),
        (
            [
                a_package(plugins=("mtoa",)),
                a_package("mtoa", plugin_host_product="maya", plugins=("deep",)),
                a_package("deep", plugin_host_product="mtoa"),
            ],
            "one level only",
        ),
        ([a_package(plugins=("mtoa",)), a_package("mtoa")], "plugin_host_product"),
        (
            [
                a_package(plugins=("mtoa",), environment=(Variable(name="P", value="a", merge_policy="append"),)),
                a_package(
                    "mtoa",
                    plugin_host_product="maya",
                    environment=(Variable(name="P", value="b", merge_policy="exclusive"),),
                ),
            ],
            "another way",
        ),
    ],
)  # fmt: skip
def test_packages_that_crash_a_client_are_found(packages: list[Package], fault: str) -> None:
    assert any(fault in each for each in faults([a_type()], packages))


def test_a_host_with_its_plugin_is_sound() -> None:
    assert faults([a_type()], [a_package(plugins=("mtoa",)), MTOA]) == []
