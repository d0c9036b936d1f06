"""What a catalogue must be like so that no client stumbles over it, whatever its version, and how two of them differ.

Clients of all versions crash, hang or hide entries over what is refused here.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared.models.account import InstanceType, Package, Provider

_GPU_KEYS = ("gpu_count", "gpu_model", "gpu_memory")
# Clients spread the keys of `gpu` over those of the type itself to make its label.
_GPU_KEY = re.compile(r"(total_)?gpu_[a-z_]+")
_NUMERIC_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")
_LISTS = ("append", "prepend")

Fault = tuple[str, str]


def faults(types: Sequence[InstanceType], packages: Sequence[Package]) -> dict[str, str]:
    """Return all that is wrong: the reason by the path of its field; nothing when the catalogue is sound."""
    found: dict[str, list[str]] = {}
    for field, reason in (*_faults_of_types(types), *_faults_of_packages(packages)):
        found.setdefault(field, []).append(reason)
    return {field: "; ".join(dict.fromkeys(reasons)) for field, reasons in found.items()}


def _faults_of_types(types: Sequence[InstanceType]) -> Iterator[Fault]:
    if not types:
        yield "instance_types", "must not be empty: clients crash on an empty menu"
    for name in _repeated(each.name for each in types):
        yield f"instance_types.{name}.name", "there are two of that name"
    for each in types:
        yield from _faults_of_name(each)
        yield from _faults_of_gpu(each)
    # An account is offered the types of one provider, so these make a menu.
    for provider in Provider:
        if menu := [each for each in types if each.provider is provider]:
            yield from _faults_of_menu(provider, menu)


def _faults_of_name(each: InstanceType) -> Iterator[Fault]:
    field = f"instance_types.{each.name}.name"
    has_dot = "." in each.name
    if each.provider is Provider.GCP and has_dot:
        yield field, "must not contain a dot: clients take the whole menu for Amazon's then"
    if each.provider is Provider.AWS and not has_dot:
        yield field, "must contain a dot: clients take the whole menu for Google's otherwise"
    if each.name.startswith("cw-"):
        yield field, "must not begin with cw-: clients hide what is preemptible then"
    if each.name.endswith("-w") and each.operating_system != "windows":
        yield field, "must not end with -w: clients take it for a Windows machine"


def _faults_of_gpu(each: InstanceType) -> Iterator[Fault]:
    if each.gpu is None:
        return
    field = f"instance_types.{each.name}.gpu"
    if missing := [key for key in _GPU_KEYS if key not in each.gpu]:
        yield field, f"is half a gpu: {', '.join(missing)} missing"
        return
    for key in each.gpu:
        if not _GPU_KEY.fullmatch(key):
            yield (
                f"{field}.{key}",
                "must begin with gpu_ or total_gpu_: it may hide a field of the type",
            )
    if type(each.gpu["gpu_count"]) is not int or each.gpu["gpu_count"] < 1:
        yield f"{field}.gpu_count", "must be a whole number of 1 or more"
    if not isinstance(each.gpu["gpu_model"], str) or not each.gpu["gpu_model"]:
        yield f"{field}.gpu_model", "must be a name"
    if type(each.gpu["gpu_memory"]) not in (int, float):
        yield f"{field}.gpu_memory", "must be a number of GB"


def _faults_of_menu(provider: Provider, menu: Sequence[InstanceType]) -> Iterator[Fault]:
    if not any(each.cores > 2 for each in menu):
        yield (
            "instance_types",
            f"at least one of {provider} must have more than 2 cores: Maya needs it",
        )
    described = Counter(each.description for each in menu)
    seen = Counter(_label(each) for each in menu)
    with_categories = any(each.categories for each in menu)
    for each in menu:
        field = f"instance_types.{each.name}"
        if described[each.description] > 1:
            yield f"{field}.description", "is another's too: clients before version 7 show only one"
        elif seen[_label(each)] > 1:
            yield field, "has the cores, memory and gpu of another: newer clients show both alike"
        if with_categories and not each.categories:
            yield f"{field}.categories", "is missing, though others have it: clients hide this type"


def _label(each: InstanceType) -> tuple[object, ...]:
    """Return what a client since version 7 makes an entry's label of."""
    gpu = each.gpu or {}
    return (each.cores, each.memory_gib, *(gpu.get(key) for key in _GPU_KEYS))


def _faults_of_packages(packages: Sequence[Package]) -> Iterator[Fault]:
    known = {each.package_id: each for each in packages}
    for package_id in _repeated(each.package_id for each in packages):
        yield f"packages.{package_id}.package_id", "there are two of that id"
    yield from _faults_of_titles(each for each in packages if not each.plugin_host_product)
    for each in packages:
        field = f"packages.{each.package_id}"
        if not each.version:
            yield f"{field}.major_version", "is missing: a package needs a version"
        elif each.product == "nuke" and not _NUMERIC_VERSION.fullmatch(each.version):
            yield f"{field}.major_version", "must be numbers: Nuke's plugin sorts them as such"
        yield from _faults_of_plugins(each, known)
    yield from _faults_of_policies(packages)


def _faults_of_plugins(host: Package, known: Mapping[str, Package]) -> Iterator[Fault]:
    field = f"packages.{host.package_id}.plugins"
    for package_id in _repeated(host.plugins):
        yield field, f"{package_id} is there twice"
    for package_id in dict.fromkeys(host.plugins):
        plugin = known.get(package_id)
        if plugin is None:
            yield field, f"{package_id} does not exist"
        elif package_id == host.package_id:
            yield field, "names the package itself: clients never end then"
        elif plugin.plugins:
            yield field, f"{package_id} has plugins of its own: clients follow one level only"
        elif plugin.plugin_host_product != host.product:
            yield field, f"{package_id} must have {host.product} as its plugin_host_product"
    yield from _faults_of_titles(known[each] for each in set(host.plugins) if each in known)


def _faults_of_titles(siblings: Iterable[Package]) -> Iterator[Fault]:
    """Packages side by side are told apart by product, version and platform alone."""
    titled: dict[tuple[str, str, str], str] = {}
    for each in sorted(siblings, key=lambda each: each.package_id):
        title = (each.product, each.version, each.platform)
        first = titled.setdefault(title, each.package_id)
        if first != each.package_id:
            yield f"packages.{each.package_id}", f"has product, version and platform of {first}"


def _faults_of_policies(packages: Iterable[Package]) -> Iterator[Fault]:
    """A client raises where one variable is a list in one package and exclusive in another that is chosen with it."""
    first: dict[str, tuple[bool, str]] = {}
    for each in packages:
        for variable in each.environment:
            is_list = variable.merge_policy in _LISTS
            was_list, where = first.setdefault(variable.name, (is_list, each.package_id))
            if was_list is not is_list:
                field = f"packages.{each.package_id}.environment.{variable.name}"
                yield field, f"is {variable.merge_policy} here and otherwise in package {where}"


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def listed_variables(packages: Iterable[Package]) -> set[str]:
    """Return the names of the variables that packages merge as lists."""
    return {
        variable.name
        for package in packages
        for variable in package.environment
        if variable.merge_policy in _LISTS
    }


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What a new catalogue changes; entries are `instance_types.NAME` and `packages.ID`.

    Shapes: sorted; `changed` maps an entry to its fields that differ, each with the value before and after.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, Mapping[str, tuple[Any, Any]]]


def difference(
    before: tuple[Iterable[InstanceType], Iterable[Package]],
    after: tuple[Iterable[InstanceType], Iterable[Package]],
) -> Difference:
    """Tell how two catalogues differ."""
    old, new = _entries(*before), _entries(*after)
    changes = {
        name: {
            field: (old[name][field], value)
            for field, value in new[name].items()
            if old[name][field] != value
        }
        for name in sorted(old.keys() & new.keys())
    }
    return Difference(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed={name: fields for name, fields in changes.items() if fields},
    )


def _entries(
    types: Iterable[InstanceType], packages: Iterable[Package]
) -> dict[str, dict[str, Any]]:
    return {f"instance_types.{each.name}": asdict(each) for each in types} | {
        f"packages.{each.package_id}": asdict(each) for each in packages
    }
