"""`baton catalog`: the instance types and the software that clients are offered."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import yaml

from shared import wiring
from shared.core.catalog import Difference
from shared.errors import InvalidRequest, NotFound
from shared.services import catalog as catalogs
from tools.baton.answers import Answer, answers

folder_argument = click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path)
)


@click.group()
def catalog() -> None:
    """Instance types and software: what every account may ask for."""


@catalog.command("load")
@folder_argument
@answers
def load_catalog(folder: Path) -> Answer:
    """Replace the catalogue by instance_types.yaml and packages.yaml of a folder, if they are sound.

    Jobs that wait for an instance type that is offered no more keep it. `diff` tells beforehand what would change.
    """
    types, packages = _read(folder, "instance_types"), _read(folder, "packages")
    changed = catalogs.load_catalog(types, packages, wiring.catalog_store())
    counts = {"instance_types": len(types), "packages": len(packages)}
    return counts | _difference(changed)


@catalog.command("diff")
@folder_argument
@answers
def diff_catalog(folder: Path) -> Answer:
    """Show what loading a folder would change; nothing is stored."""
    types, packages = _read(folder, "instance_types"), _read(folder, "packages")
    return _difference(catalogs.compare_catalog(types, packages, wiring.catalog_store()))


@catalog.command("show")
@click.option("--instance-type", "name", help="All of this instance type.")
@click.option("--package", "package_id", help="All of this package.")
@answers
def show_catalog(name: str | None, package_id: str | None) -> Answer:
    """Show the catalogue, or one entry of it."""
    types, packages = wiring.catalog_store().instance_types(), wiring.catalog_store().packages()
    if name and package_id:
        raise click.UsageError("--instance-type and --package exclude each other")
    if name:
        return _only([asdict(each) for each in types if each.name == name], "instance type", name)
    if package_id:
        wanted = [asdict(each) for each in packages if each.package_id == package_id]
        return _only(wanted, "package", package_id)
    return {
        "instance_types": [
            {
                "name": each.name,
                "provider": each.provider.value,
                "machine_type": each.machine_type,
                "cores": each.cores,
                "memory_gib": each.memory_gib,
                "price_micros_per_minute": each.price_micros_per_minute,
                "preemptible_micros_per_minute": each.preemptible_micros_per_minute,
            }
            for each in types
        ],
        "packages": [
            {
                "package_id": each.package_id,
                "product": each.product,
                "version": each.version,
                "host": f"{each.plugin_host_product} {each.plugin_host_version}".strip(),
            }
            for each in packages
        ],
    }


def _read(folder: Path, name: str) -> Any:
    """Return what a file of the catalogue says. Raises: InvalidRequest naming the file."""
    path = folder / f"{name}.yaml"
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidRequest({path.name: error.strerror}) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRequest({path.name: f"is no YAML: {error}"}) from error


def _difference(found: Difference) -> dict[str, Any]:
    return {
        "added": list(found.added),
        "removed": list(found.removed),
        "changed": [
            {"entry": entry, "field": field, "before": before, "after": after}
            for entry, fields in found.changed.items()
            for field, (before, after) in fields.items()
        ],
    }


def _only(found: list[dict[str, Any]], what: str, name: str) -> Answer:
    if not found:
        raise NotFound(f"there is no {what} {name}")
    return found[0]
