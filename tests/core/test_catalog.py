"""The catalogue: what no client may ever be given, and how two catalogues differ."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.core.catalog import difference, faults, listed_variables
from shared.errors import InvalidRequest
from shared.models.account import InstanceType, Package, Provider, Variable
from shared.services.catalog import sound_catalog

SHIPPED = Path(__file__).parents[2] / "catalog"
L4: Mapping[str, object] = {"gpu_count": 1, "gpu_model": "NVIDIA L4", "gpu_memory": 24}
CPU = ({"label": "CPU", "order": 1},)


def a_type(**named: Any) -> InstanceType:
    given: dict[str, Any] = {
        "name": "cpu-4-16",
        "machine_type": "n2-standard-4",
        "cores": 4,
        "memory_gib": 16,
        "operating_system": "linux",
        "description": f"{named.get('cores', 4)} core, {named.get('memory_gib', 16)}GB Mem",
        "price_micros_per_minute": 3237,
        "preemptible_micros_per_minute": 783,
    }
    return InstanceType(**given | named)


def a_package(package_id: str = "maya", **named: Any) -> Package:
    given = {"package_id": package_id, "product": package_id, "platform": "linux"}
    return Package(**given | {"major_version": "1"} | named)


def appended(name: str) -> tuple[Variable, ...]:
    return (Variable(name=name, value="a", merge_policy="append"),)


def exclusive(name: str) -> tuple[Variable, ...]:
    return (Variable(name=name, value="b", merge_policy="exclusive"),)


def written(file: str) -> Any:
    return yaml.safe_load((SHIPPED / file).read_text())


def written_type(**changed: Any) -> dict[str, Any]:
    said: dict[str, Any] = dict(written("instance_types.yaml")[5])
    return {key: value for key, value in (said | changed).items() if value != "absent"}


def written_package(**changed: Any) -> dict[str, Any]:
    said = {"package_id": "clarisse-5", "product": "clarisse", "platform": "linux"}
    return said | {"major_version": "5", "environment": []} | changed


B = {"name": "cpu-8-32", "cores": 8, "memory_gib": 32}


@pytest.mark.parametrize(
    ("types", "field", "reason"),
    [
        pytest.param([], "instance_types", "must not be empty", id="an empty menu"),
        pytest.param(
            [a_type(cores=2)], "instance_types", "more than 2 cores", id="nothing large enough for Maya"
        ),
        pytest.param(
            [a_type(), a_type(name="m5.large", cores=2, provider=Provider.AWS)],
            "instance_types", "aws must have more than 2 cores", id="for each provider by itself",
        ),
        pytest.param(
            [a_type(), a_type(cores=8)], "instance_types.cpu-4-16.name", "two of that name", id="names"
        ),
        pytest.param(
            [a_type(), a_type(**B, description="4 core, 16GB Mem")],
            "instance_types.cpu-8-32.description", "is another's too", id="descriptions",
        ),
        pytest.param(
            [a_type(), a_type(name="fast", description="4 fast cores")],
            "instance_types.fast", "show both alike", id="labels of newer clients",
        ),
        pytest.param(
            [a_type(categories=CPU), a_type(**B)],
            "instance_types.cpu-8-32.categories", "hide this type", id="categories on some",
        ),
        pytest.param(
            [a_type(gpu={"gpu_count": 1})],
            "instance_types.cpu-4-16.gpu", "half a gpu: gpu_model, gpu_memory", id="half a gpu",
        ),
        pytest.param([a_type(gpu={})], "instance_types.cpu-4-16.gpu", "half a gpu", id="an empty gpu"),
        pytest.param(
            [a_type(gpu={**L4, "gpu_count": "1"})],
            "instance_types.cpu-4-16.gpu.gpu_count", "whole number", id="a gpu count in words",
        ),
        pytest.param(
            [a_type(gpu={**L4, "gpu_count": True})],
            "instance_types.cpu-4-16.gpu.gpu_count", "whole number", id="a gpu count that is none",
        ),
        pytest.param(
            [a_type(gpu={**L4, "gpu_memory": "24GB"})],
            "instance_types.cpu-4-16.gpu.gpu_memory", "number of GB", id="gpu memory in words",
        ),
        pytest.param(
            [a_type(gpu={**L4, "gpu_model": None})],
            "instance_types.cpu-4-16.gpu.gpu_model", "must be a name", id="a nameless gpu",
        ),
        pytest.param(
            [a_type(gpu={**L4, "memory": 24})],
            "instance_types.cpu-4-16.gpu.memory", "may hide a field", id="a gpu that hides the memory",
        ),
        pytest.param(
            [a_type(name="n2.4")], "instance_types.n2.4.name", "Amazon's", id="a dot in Google's name"
        ),
        pytest.param(
            [a_type(name="m5-xlarge", provider=Provider.AWS)],
            "instance_types.m5-xlarge.name", "Google's", id="no dot in Amazon's name",
        ),
        pytest.param(
            [a_type(name="cw-4")], "instance_types.cw-4.name", "must not begin", id="another provider's"
        ),
        pytest.param(
            [a_type(name="cpu-4-w")], "instance_types.cpu-4-w.name", "Windows", id="a Windows name"
        ),
    ],
)  # fmt: skip
def test_instance_types_that_crash_or_mislead_a_client_are_refused_by_name(
    types: list[InstanceType], field: str, reason: str
) -> None:
    assert reason in faults(types, [])[field]


MTOA = a_package("mtoa", plugin_host_product="maya")


@pytest.mark.parametrize(
    ("packages", "field", "reason"),
    [
        pytest.param(
            [a_package(), a_package(major_version="2")], "packages.maya.package_id", "two of that id", id="ids"
        ),
        pytest.param(
            [a_package(), a_package("other", product="maya")],
            "packages.other", "product, version and platform of maya", id="hosts that look alike",
        ),
        pytest.param(
            [a_package(plugins=("mtoa", "copy")), MTOA, replace(MTOA, package_id="copy")],
            "packages.mtoa", "product, version and platform of copy", id="plugins that look alike",
        ),
        pytest.param(
            [a_package(major_version="")], "packages.maya.major_version", "needs a version", id="no version"
        ),
        pytest.param(
            [a_package("nuke", major_version="15", minor_version="1v5")],
            "packages.nuke.major_version", "must be numbers", id="Nuke's version in words",
        ),
        pytest.param(
            [a_package(plugins=("ghost",))], "packages.maya.plugins", "ghost does not exist", id="unknown plugin"
        ),
        pytest.param(
            [a_package(plugins=("maya",))], "packages.maya.plugins", "the package itself", id="its own plugin"
        ),
        pytest.param(
            [a_package(plugins=("mtoa", "mtoa")), MTOA], "packages.maya.plugins", "twice", id="a plugin twice"
        ),
        pytest.param(
            [a_package(plugins=("a",)), a_package("a", plugins=("maya",), plugin_host_product="maya")],
            "packages.maya.plugins", "one level only", id="a cycle",
        ),
        pytest.param(
            [
                a_package(plugins=("mtoa",)),
                replace(MTOA, plugins=("deep",)),
                a_package("deep", plugin_host_product="mtoa"),
            ],
            "packages.maya.plugins", "one level only", id="a plugin of a plugin",
        ),
        pytest.param(
            [a_package(plugins=("mtoa",)), a_package("mtoa")],
            "packages.maya.plugins", "plugin_host_product", id="a plugin of another host",
        ),
        pytest.param(
            [a_package(plugins=("mtoa",), environment=appended("P")), replace(MTOA, environment=exclusive("P"))],
            "packages.mtoa.environment.P", "exclusive here and otherwise in package maya", id="host and plugin",
        ),
        pytest.param(
            [
                a_package(plugins=("mtoa", "yeti")),
                replace(MTOA, environment=exclusive("P")),
                a_package("yeti", plugin_host_product="maya", environment=appended("P")),
            ],
            "packages.yeti.environment.P", "append here and otherwise in package mtoa", id="two plugins of a host",
        ),
        pytest.param(
            [a_package(environment=appended("P") + exclusive("P"))],
            "packages.maya.environment.P", "exclusive here", id="a package with itself",
        ),
    ],
)  # fmt: skip
def test_packages_that_crash_a_client_are_refused_by_name(
    packages: list[Package], field: str, reason: str
) -> None:
    assert reason in faults([a_type()], packages)[field]


def test_plugins_of_different_hosts_may_look_alike_and_one_plugin_may_serve_two() -> None:
    hosts = [
        a_package("maya-1", product="maya", plugins=("mtoa-1", "yeti")),
        a_package("maya-2", product="maya", major_version="2", plugins=("mtoa-2", "yeti")),
    ]
    plugins = [
        a_package("mtoa-1", product="mtoa", plugin_host_product="maya"),
        a_package("mtoa-2", product="mtoa", plugin_host_product="maya"),
        a_package("yeti", plugin_host_product="maya"),
    ]
    assert faults([a_type(), a_type(**B)], hosts + plugins) == {}


def test_every_fault_is_told_at_once() -> None:
    found = faults([a_type(name="n2.4", gpu={})], [a_package(plugins=("ghost",))])
    assert set(found) == {"instance_types.n2.4.name", "instance_types.n2.4.gpu", "packages.maya.plugins"}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        pytest.param({"memory_gib": "16"}, "memory_gib", id="memory as text among numbers"),
        pytest.param({"memory_gib": 0}, "memory_gib", id="no memory"),
        pytest.param({"memory_gib": float("nan")}, "memory_gib", id="memory that is no number"),
        pytest.param({"cores": "4"}, "cores", id="cores as text"),
        pytest.param({"cores": 2.5}, "cores", id="half a core"),
        pytest.param({"operating_system": "Linux"}, "operating_system", id="a capital letter"),
        pytest.param({"operating_system": "windows"}, "operating_system", id="a second system"),
        pytest.param({"description": "absent"}, "description", id="no description"),
        pytest.param({"name": "cpu 4"}, "name", id="a space in a name"),
        pytest.param({"provider": "azure"}, "provider", id="an unknown provider"),
        pytest.param({"categories": [{"label": "CPU"}]}, "categories.0.order", id="no order"),
        pytest.param({"categories": None}, "categories", id="null categories"),
        pytest.param({"colour": "red"}, "colour", id="an unknown field"),
    ],
)
def test_an_instance_type_written_wrongly_is_refused_by_its_name_and_field(
    changed: dict[str, Any], field: str
) -> None:
    said = written_type(**changed)
    with pytest.raises(InvalidRequest) as refused:
        sound_catalog([said], [])
    assert list(refused.value.fields) == [f"instance_types.{said['name']}.{field}"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        pytest.param({"major_version": 5}, "major_version", id="a version as number"),
        pytest.param({"minor_version": "0 SP1"}, "minor_version", id="a space in a version"),
        pytest.param({"product": "isotropix clarisse"}, "product", id="a space in a product"),
        pytest.param({"product": "isotropix/clarisse"}, "product", id="a slash in a product"),
        pytest.param({"platform": "Linux"}, "platform", id="a capital letter"),
        pytest.param({"platform": "windows"}, "platform", id="a second system"),
        pytest.param({"licence": "Arnold 7"}, "licence", id="a licence in words"),
        pytest.param({"licence": None}, "licence", id="a null licence"),
        pytest.param({"plugins": None}, "plugins", id="null plugins"),
        pytest.param({"environment": None}, "environment", id="null environment"),
        pytest.param(
            {"environment": [{"name": "A", "value": 1, "merge_policy": "exclusive"}]},
            "environment.0.value",
            id="a number as a value",
        ),
        pytest.param(
            {"environment": [{"name": "A", "value": "1", "merge_policy": "prepend"}]},
            "environment.0.merge_policy",
            id="a policy that old clients do not know",
        ),
        pytest.param(
            {"environment": [{"name": "A", "value": "1"}]},
            "environment.0.merge_policy",
            id="no policy",
        ),
    ],
)
def test_a_package_written_wrongly_is_refused_by_its_id_and_field(
    changed: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sound_catalog([written_type()], [written_package(**changed)])
    assert list(refused.value.fields) == [f"packages.clarisse-5.{field}"]


def test_a_package_that_says_nothing_of_its_environment_has_an_empty_one() -> None:
    said = written_package()
    del said["environment"]
    _, (package,) = sound_catalog([written_type()], [said])
    assert (package.environment, package.plugins) == ((), ())


def test_a_package_takes_a_licence_only_if_it_says_so() -> None:
    said = [written_package(), written_package(package_id="rs", product="rs", licence="redshift")]
    _, packages = sound_catalog([written_type()], said)
    assert [each.licence for each in packages] == ["", "redshift"]


@pytest.mark.parametrize("said", [None, "text", {"name": "cpu"}])
def test_a_file_that_is_no_list_is_refused(said: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sound_catalog(said, [])
    assert "instance_types" in refused.value.fields


def test_an_entry_that_is_no_object_is_refused_by_its_place() -> None:
    with pytest.raises(InvalidRequest) as refused:
        sound_catalog([written_type(), "cpu"], [])  # type: ignore[list-item]
    assert list(refused.value.fields) == ["instance_types.1"]


def shipped() -> tuple[list[InstanceType], list[Package]]:
    return sound_catalog(written("instance_types.yaml"), written("packages.yaml"))


def test_what_is_shipped_is_sound_and_reaches_from_1_core_to_160() -> None:
    types, _ = shipped()
    google = [each for each in types if each.provider is Provider.GCP]
    amazon = [each for each in types if each.provider is Provider.AWS]
    assert {each.cores for each in google} >= {1, 2, 4, 8, 16, 32, 64, 96, 128, 160}
    assert {each.cores for each in amazon} >= {1, 2, 4, 8, 16, 32, 64, 96, 128}
    for each in types:
        assert each.preemptible_micros_per_minute < each.price_micros_per_minute


def test_what_is_shipped_of_amazons_is_of_the_nitro_system_so_that_machines_learn_their_name() -> (
    None
):
    types, _ = shipped()
    xen = ("c3.", "c4.", "d2.", "f1.", "g3", "i2.", "i3.", "m4.", "p2.", "p3.", "r4.", "t2.", "x1")
    assert not [each.name for each in types if each.machine_type.startswith(xen)]


def test_what_is_shipped_has_the_usual_gpus() -> None:
    types, _ = shipped()
    models = {str(each.gpu["gpu_model"]) for each in types if each.gpu}
    assert models == {f"NVIDIA {name}" for name in ("L4", "A100", "T4", "A10G")}


def test_what_is_shipped_has_every_product_that_plugins_look_for() -> None:
    _, packages = shipped()
    hosts = {each.product for each in packages if not each.plugin_host_product}
    assert hosts == {"maya-io", "nuke", "katana", "clarisse", "houdini", "blender"}
    inside_maya = {each.product for each in packages if each.plugin_host_product == "maya-io"}
    assert inside_maya == {"arnold-maya", "v-ray-maya", "redshift-maya", "renderman-maya", "yeti"}
    assert "redshift-blender" in {each.product for each in packages}
    listed = {plugin for each in packages for plugin in each.plugins}
    assert listed == {each.package_id for each in packages if each.plugin_host_product}


def test_a_difference_tells_what_comes_goes_and_changes() -> None:
    before = ([a_type(), a_type(**B)], [a_package()])
    after = ([a_type(price_micros_per_minute=4000), a_type(name="new")], [a_package(), MTOA])
    told = difference(before, after)
    assert told.added == ("instance_types.new", "packages.mtoa")
    assert told.removed == ("instance_types.cpu-8-32",)
    assert told.changed == {"instance_types.cpu-4-16": {"price_micros_per_minute": (3237, 4000)}}


def test_a_catalogue_does_not_differ_from_itself_in_another_order() -> None:
    types, packages = shipped()
    told = difference((types, packages), (types[::-1], packages[::-1]))
    assert (told.added, told.removed, told.changed) == ((), (), {})


def test_lists_are_the_variables_that_packages_add_to() -> None:
    packages = [a_package(environment=appended("PATH") + exclusive("HFS"))]
    assert listed_variables(packages) == {"PATH"}
