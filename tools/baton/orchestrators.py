"""`baton orchestrator`: the places that run attempts, switched on and off at run time."""

from collections.abc import Iterable, Mapping
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
            read_fields(file), wiring.orchestrator_store(), wiring.catalog_store()
        )
    )


@orchestrator.command("save")
@file_argument
@answers
def save_orchestrator(file: Path) -> Answer:
    """Store an orchestrator as a YAML file describes it, or change it.

    The zones that it has stay as they are switched, and it does too unless the file names is_enabled.
    """
    return _saved(
        orchestrators.save_orchestrator(
            read_fields(file), wiring.orchestrator_store(), wiring.catalog_store()
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
    """Show an orchestrator with its switches, and with what it has learnt of its pools."""
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
    if is_region:
        changed = orchestrators.switch_region(name, is_on, store)
    else:
        changed = [orchestrators.switch(name, is_on, zones=zones, orchestrators=store)]
    ask_for_ticks(changed)
    return {"orchestrators": [_switches(each) for each in changed]}


def ask_for_ticks(changed: Iterable[Orchestrator]) -> None:
    """Nobody shall have to wait for the next tick to see it done."""
    wiring.bus().publish("scale", [{"orchestrator_id": each.orchestrator_id} for each in changed])


def read_fields(file: Path) -> Mapping[str, Any]:
    """Return the fields that a YAML file names. Raises: InvalidRequest."""
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
        "is_region_enabled": found.is_region_enabled,
        "zones": dict(found.zones),
    }


def _shown(found: Orchestrator) -> Answer:
    now = wiring.now()
    breakers = [
        {
            "pool": each.pool.pool_id,
            "state": each.state(now).value,
            "cause": each.cause,
            "until_at": each.until,
            "pause_s": each.pause_s,
        }
        for each in found.breakers
    ]
    strikes = [
        {"pool": each.pool.pool_id, "instance": each.instance, "cause": each.cause, "at": each.at}
        for each in found.strikes
    ]
    return orchestrators.described(found) | {
        "provider": found.provider,
        "is_region_enabled": found.is_region_enabled,
        "pool_switches": dict(found.pool_switches),
        "breakers": breakers,
        "strikes": strikes,
    }
