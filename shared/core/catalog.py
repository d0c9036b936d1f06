"""What a catalogue must be like so that no client stumbles over it, whatever its version."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from shared.models.account import InstanceType, Package

_GPU_KEYS = ("gpu_count", "gpu_model", "gpu_memory")


def faults(types: Sequence[InstanceType], packages: Sequence[Package]) -> list[str]:
    """Return everything that is wrong, in words; nothing when the catalogue is sound."""
    return [*_faults_of_types(types), *_faults_of_packages(packages)]


def _faults_of_types(types: Sequence[InstanceType]) -> Iterator[str]:
    if not any(each.cores > 2 for each in types):
        yield "instance types: at least one must have more than 2 cores"
    for name in _repeated(each.name for each in types):
        yield f"instance type {name}: there are two of that name"
    for description in _repeated(each.description for each in types):
        yield f"instance types: two are described as {description!r}"
    with_categories = [each.name for each in types if each.categories]
    if with_categories and len(with_categories) < len(types):
        yield "instance types: either all have categories or none has"
    for each in types:
        if each.gpu is not None and any(key not in each.gpu for key in _GPU_KEYS):
            yield f"instance type {each.name}: gpu must have {', '.join(_GPU_KEYS)}"
        if each.gpu is not None and type(each.gpu.get("gpu_count")) is not int:
            yield f"instance type {each.name}: gpu_count must be a whole number"


def _faults_of_packages(packages: Sequence[Package]) -> Iterator[str]:
    known = {each.package_id: each for each in packages}
    for package_id in _repeated(each.package_id for each in packages):
        yield f"package {package_id}: there are two of that id"
    for name in _repeated(f"{each.product} {'.'.join(_version(each))}" for each in packages):
        yield f"package {name}: there are two of that product and version"
    for each in packages:
        yield from _faults_of_package(each, [known[i] for i in each.plugins if i in known])
        for package_id in each.plugins:
            if package_id not in known:
                yield f"package {each.package_id}: its plugin {package_id} does not exist"


def _faults_of_package(package: Package, plugins: Iterable[Package]) -> Iterator[str]:
    if not any(_version(package)):
        yield f"package {package.package_id}: needs a version"
    policies = {each.name: each.merge_policy for each in package.environment}
    for plugin in plugins:
        pair = f"package {package.package_id}: its plugin {plugin.package_id}"
        if plugin.plugins:
            yield f"{pair} has plugins of its own; clients follow one level only"
        if plugin.plugin_host_product != package.product:
            yield f"{pair} must have {package.product} as its plugin_host_product"
        for variable in plugin.environment:
            if policies.get(variable.name, variable.merge_policy) != variable.merge_policy:
                yield f"{pair} merges {variable.name} in another way"


def _version(package: Package) -> list[str]:
    parts = (
        package.major_version,
        package.minor_version,
        package.release_version,
        package.build_version,
    )
    return [part for part in parts if part]


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
