"""The environment of a render."""

from dataclasses import replace

from shared.core.environment import conflicts, merge_environment
from shared.models.account import Package, Variable

SYSTEM = "/usr/local/bin:/usr/bin:/bin"


def a_package(
    package_id: str, *variables: tuple[str, str, str], plugin_host_product: str = ""
) -> Package:
    return Package(
        package_id=package_id,
        product=package_id,
        platform="linux",
        plugin_host_product=plugin_host_product,
        environment=tuple(Variable(name=n, value=v, merge_policy=p) for n, v, p in variables),
    )


def test_an_empty_path_of_the_client_does_not_hide_the_packages_path() -> None:
    blender = a_package("blender", ("PATH", "/opt/blender", "append"))
    assert merge_environment([blender], {"PATH": ""})["PATH"] == f"/opt/blender:{SYSTEM}"


def test_a_packages_own_folder_is_on_the_path() -> None:
    blender = replace(a_package("blender"), path="/opt/blender")
    assert merge_environment([blender], {"PATH": ""})["PATH"] == f"/opt/blender:{SYSTEM}"


def test_a_path_that_a_package_sets_alone_is_still_a_list() -> None:
    odd = a_package("odd", ("PATH", "/opt/odd", "exclusive"))
    assert merge_environment([odd], {})["PATH"] == f"/opt/odd:{SYSTEM}"
    assert merge_environment([odd], {"PATH": "/mine"})["PATH"] == f"/mine:/opt/odd:{SYSTEM}"


def test_a_variable_that_one_package_sets_and_another_adds_to_is_a_conflict() -> None:
    one = a_package("one", ("A", "1", "append"), ("B", "1", "exclusive"), ("C", "1", "append"))
    two = a_package("two", ("A", "2", "exclusive"), ("B", "2", "exclusive"), ("C", "2", "prepend"))
    assert conflicts([one, two]) == ["A"]
    assert conflicts([one]) == conflicts([]) == []


def test_a_path_always_keeps_the_systems_programs() -> None:
    assert merge_environment([], {})["PATH"] == SYSTEM
    assert merge_environment([], {"PATH": "/opt/x:/usr/bin"})["PATH"] == (
        "/opt/x:/usr/bin:/usr/local/bin:/bin"
    )


def test_what_the_client_has_merged_already_is_not_there_twice() -> None:
    maya = a_package("maya", ("PATH", "/opt/maya/bin", "append"))
    merged = merge_environment([maya], {"PATH": "/mine:/opt/maya/bin"})
    assert merged["PATH"] == f"/mine:/opt/maya/bin:{SYSTEM}"


def test_a_single_value_of_the_client_wins() -> None:
    package = a_package("maya", ("LICENSE", "a", "exclusive"), ("ONLY", "here", "exclusive"))
    merged = merge_environment([package], {"LICENSE": "b"})
    assert (merged["LICENSE"], merged["ONLY"]) == ("b", "here")


def test_plugins_come_after_their_host_and_prepend_goes_first() -> None:
    host = a_package("zeta", ("PLUGINS", "/host", "append"))
    plugin = a_package("alpha", ("PLUGINS", "/plugin", "append"), plugin_host_product="zeta")
    eager = a_package("beta", ("PLUGINS", "/first", "prepend"), plugin_host_product="zeta")
    assert merge_environment([plugin, eager, host], {})["PLUGINS"] == "/first:/host:/plugin"


def test_the_order_in_which_packages_are_named_does_not_matter() -> None:
    packages = [a_package(name, ("P", f"/{name}", "append")) for name in ("a", "b", "c")]
    assert merge_environment(packages, {}) == merge_environment(packages[::-1], {})
