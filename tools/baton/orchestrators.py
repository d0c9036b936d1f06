"""`baton orchestrator`: the places that run attempts, switched on and off at run time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from shared import wiring
from shared.errors import InvalidRequest
from shared.models.farm import Orchestrator
from shared.services import orchestrators
from tools.baton.answers import Answer, answers, destructive
from tools.baton.pairs import pairs

file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
zone_option = click.option("--zone", "zones", multiple=True, help="Only this zone; repeatable.")
region_option = click.option(
    "--region", is_flag=True, help="NAME is a region: all of its orchestrators."
)


@click.group()
def orchestrator() -> None:
    """Places that run attempts: a scheduler with a fleet, in one region."""


@orchestrator.command("create")
@file_argument
@answers
def create_orchestrator(file: Path) -> Answer:
    """Store a new orchestrator as a YAML file describes it."""
    return _saved(
        orchestrators.create_orchestrator(
            _read(file), wiring.orchestrator_store(), wiring.catalog_store()
        )
    )


@orchestrator.command("save")
@file_argument
@answers
def save_orchestrator(file: Path) -> Answer:
    """Store an orchestrator as a YAML file describes it, or change it."""
    return _saved(
        orchestrators.save_orchestrator(
            _read(file), wiring.orchestrator_store(), wiring.catalog_store()
        )
    )


@orchestrator.command("edit")
@click.argument("orchestrator_id")
@click.option(
    "--set", "fields", multiple=True, required=True, metavar="FIELD=VALUE",
    help="A field of its file with its value in YAML, e.g. max_instances=500; repeatable.",
)  # fmt: skip
@answers
def edit_orchestrator(orchestrator_id: str, fields: tuple[str, ...]) -> Answer:
    """Change some fields of an orchestrator."""
    said = {name: _yaml(name, value) for name, value in pairs("set", fields).items()}
    changed = orchestrators.edit_orchestrator(
        orchestrator_id, said, wiring.orchestrator_store(), wiring.catalog_store()
    )
    return _shown(changed)


@orchestrator.command("show")
@click.argument("orchestrator_id")
@answers
def show_orchestrator(orchestrator_id: str) -> Answer:
    """Show an orchestrator with its zones and with what it has learnt of stock-outs."""
    return _shown(orchestrators.known_orchestrator(orchestrator_id, wiring.orchestrator_store()))


@orchestrator.command("list")
@answers
def list_orchestrators() -> Answer:
    """List all orchestrators."""
    found = wiring.orchestrator_store().orchestrators()
    return {
        "orchestrators": [
            _switches(each) | {"max_instances": each.max_instances}
            for each in sorted(found, key=lambda each: each.orchestrator_id)
        ]
    }


@orchestrator.command("on")
@click.argument("name")
@zone_option
@region_option
@answers
def switch_on(name: str, zones: tuple[str, ...], region: bool) -> Answer:
    """Let an orchestrator, some of its zones, or a whole region take work again."""
    return _switch(name, True, zones, region)


@orchestrator.command("off")
@click.argument("name")
@zone_option
@region_option
@destructive("Switch {name} {zones} off? Idle instances there go, nothing new starts there.")
@answers
def switch_off(name: str, zones: tuple[str, ...], region: bool) -> Answer:
    """Let an orchestrator, some of its zones, or a whole region take no new work; what runs there goes on."""
    return _switch(name, False, zones, region)


def _switch(name: str, is_on: bool, zones: tuple[str, ...], is_region: bool) -> Answer:
    if zones and is_region:
        raise click.UsageError("--zone and --region exclude each other")
    store = wiring.orchestrator_store()
    ids = [name]
    if is_region:
        ids = [each.orchestrator_id for each in orchestrators.in_region(name, store)]
    changed = [orchestrators.switch(each, is_on, zones=zones, orchestrators=store) for each in ids]
    # Nobody shall have to wait for the next tick to see it done.
    wiring.bus().publish("scale", [{"orchestrator_id": each} for each in ids])
    return {"orchestrators": [_switches(each) for each in changed]}


def _read(file: Path) -> Mapping[str, Any]:
    said = _yaml("file", file.read_text())
    if not isinstance(said, Mapping):
        raise InvalidRequest({"file": "must be a mapping of fields"})
    return said


def _yaml(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidRequest({name: f"is no YAML: {error}"}) from error


def _saved(saved: Orchestrator) -> Answer:
    return {"orchestrator_id": saved.orchestrator_id, "zones": dict(saved.zones)}


def _switches(found: Orchestrator) -> dict[str, Any]:
    return {
        "orchestrator_id": found.orchestrator_id,
        "scheduler": found.scheduler,
        "fleet": found.fleet,
        "region": found.region,
        "is_enabled": found.is_enabled,
        "zones": dict(found.zones),
    }


def _shown(found: Orchestrator) -> Answer:
    stock_outs = [
        {"pool": each.pool.pool_id, "reason": each.reason, "until_at": each.until}
        for each in found.stock_outs
    ]
    return orchestrators.described(found) | {"stock_outs": stock_outs}
