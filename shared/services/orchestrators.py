"""Orchestrators as operators see them: described, edited and switched at run time, and what was decided for a pool."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.models.farm import KeptDecision, Orchestrator, PoolKey, PoolState
from shared.ports import CatalogStore, OrchestratorStore
from shared.schemas.catalog import OrchestratorSchema
from shared.schemas.loading import load


def create_orchestrator(
    said: Mapping[str, Any], orchestrators: OrchestratorStore, catalog: CatalogStore
) -> Orchestrator:
    """Store a new orchestrator. Raises: InvalidRequest; Conflict when it exists."""
    asked = _checked(said, catalog)
    if _before(asked.orchestrator_id, orchestrators) is not None:
        raise Conflict(f"orchestrator {asked.orchestrator_id} exists already")
    orchestrators.save_orchestrator(asked)
    return asked


def save_orchestrator(
    said: Mapping[str, Any], orchestrators: OrchestratorStore, catalog: CatalogStore
) -> Orchestrator:
    """Store an orchestrator, or change it; what it has learnt of stock-outs stays. Raises: InvalidRequest."""
    asked = _checked(said, catalog)
    if _before(asked.orchestrator_id, orchestrators) is None:
        orchestrators.save_orchestrator(asked)
        return asked
    return orchestrators.change_orchestrator(
        asked.orchestrator_id, lambda before: _with_learnt(asked, before)
    )


def edit_orchestrator(
    orchestrator_id: str,
    fields: Mapping[str, Any],
    orchestrators: OrchestratorStore,
    catalog: CatalogStore,
) -> Orchestrator:
    """Change some fields of an orchestrator, as its file would name them. Raises: NotFound; InvalidRequest."""
    if fields.get("orchestrator_id", orchestrator_id) != orchestrator_id:
        raise InvalidRequest({"orchestrator_id": "cannot be changed"})

    def change(before: Orchestrator) -> Orchestrator:
        return _with_learnt(_checked(described(before) | dict(fields), catalog), before)

    return _changed(orchestrator_id, change, orchestrators)


def described(orchestrator: Orchestrator) -> dict[str, Any]:
    """Return an orchestrator as its file describes it: without what it has learnt."""
    known = OrchestratorSchema().fields
    found = {name: value for name, value in asdict(orchestrator).items() if name in known}
    return found | {"instance_types": list(orchestrator.instance_types)}


def switch(
    orchestrator_id: str,
    is_on: bool,
    *,
    zones: Collection[str],
    orchestrators: OrchestratorStore,
) -> Orchestrator:
    """Switch some zones of an orchestrator on or off, all of the orchestrator when none is named.

    Raises: NotFound.
    """

    def change(before: Orchestrator) -> Orchestrator:
        if unknown := sorted(set(zones) - set(before.zones)):
            raise NotFound(f"orchestrator {orchestrator_id} has no zone {', '.join(unknown)}")
        if not zones:
            return replace(before, is_enabled=is_on)
        return replace(before, zones={**before.zones, **dict.fromkeys(zones, is_on)})

    return _changed(orchestrator_id, change, orchestrators)


def in_region(region: str, orchestrators: OrchestratorStore) -> list[Orchestrator]:
    """Return the orchestrators of a region, by id. Raises: NotFound when there is none."""
    found = [each for each in orchestrators.orchestrators() if each.region == region]
    if not found:
        raise NotFound(f"there is no orchestrator in region {region}")
    return sorted(found, key=lambda each: each.orchestrator_id)


def pools(orchestrator_id: str, orchestrators: OrchestratorStore) -> list[PoolState]:
    """Return the pools of an orchestrator, of all when none is named. Raises: NotFound."""
    if orchestrator_id:
        return orchestrators.pools(
            known_orchestrator(orchestrator_id, orchestrators).orchestrator_id
        )
    ids = sorted(each.orchestrator_id for each in orchestrators.orchestrators())
    return [pool for each in ids for pool in orchestrators.pools(each)]


def find_pool(pool_id: str, orchestrator_id: str, orchestrators: OrchestratorStore) -> PoolState:
    """Return a pool by its name. Raises: InvalidRequest; NotFound; Conflict when several orchestrators have it."""
    try:
        key = PoolKey.parse(pool_id)
    except ValueError as error:
        raise InvalidRequest(
            {"pool": "must be ZONE:INSTANCE_TYPE:p or ZONE:INSTANCE_TYPE:s"}
        ) from error
    found = [each for each in pools(orchestrator_id, orchestrators) if each.pool == key]
    if not found:
        raise NotFound(f"there is no pool {pool_id}")
    if len(found) > 1:
        names = ", ".join(each.orchestrator_id for each in found)
        raise Conflict(f"several orchestrators have a pool {pool_id}: {names}")
    return found[0]


def explain_pool(
    pool: PoolState, limit: int, orchestrators: OrchestratorStore
) -> list[KeptDecision]:
    """Return what was decided for a pool lately, newest first."""
    return orchestrators.decisions(pool.orchestrator_id, pool.pool, limit)


def known_orchestrator(orchestrator_id: str, orchestrators: OrchestratorStore) -> Orchestrator:
    """Return an orchestrator. Raises: NotFound, in words."""
    found = _before(orchestrator_id, orchestrators)
    if found is None:
        raise NotFound(f"there is no orchestrator {orchestrator_id}")
    return found


def _changed(
    orchestrator_id: str,
    change: Callable[[Orchestrator], Orchestrator],
    orchestrators: OrchestratorStore,
) -> Orchestrator:
    known_orchestrator(orchestrator_id, orchestrators)
    return orchestrators.change_orchestrator(orchestrator_id, change)


def _before(orchestrator_id: str, orchestrators: OrchestratorStore) -> Orchestrator | None:
    try:
        return orchestrators.orchestrator(orchestrator_id)
    except NotFound:
        return None


def _checked(said: Mapping[str, Any], catalog: CatalogStore) -> Orchestrator:
    asked: Orchestrator = load(OrchestratorSchema(), said)
    known = {each.name for each in catalog.instance_types()}
    if unknown := sorted(set(asked.instance_types) - known):
        raise InvalidRequest({"instance_types": f"unknown: {', '.join(unknown)}"})
    return asked


def _with_learnt(asked: Orchestrator, before: Orchestrator) -> Orchestrator:
    """What no file says, it has learnt."""
    learnt = {
        name: value
        for name, value in vars(before).items()
        if name not in OrchestratorSchema().fields
    }
    return replace(asked, **learnt)
