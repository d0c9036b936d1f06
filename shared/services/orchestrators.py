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
    asked = _in_its_region(asked, orchestrators)
    orchestrators.save_orchestrator(asked)
    return asked


def save_orchestrator(
    said: Mapping[str, Any], orchestrators: OrchestratorStore, catalog: CatalogStore
) -> Orchestrator:
    """Store an orchestrator, or change it; what it has learnt, and what operators have switched, stays.

    Its own switch is another one only where the file names it. Raises: InvalidRequest.
    """
    asked = _checked(said, catalog)
    if _before(asked.orchestrator_id, orchestrators) is None:
        asked = _in_its_region(asked, orchestrators)
        orchestrators.save_orchestrator(asked)
        return asked

    def change(before: Orchestrator) -> Orchestrator:
        is_enabled = asked.is_enabled if "is_enabled" in said else before.is_enabled
        zones = {zone: before.zones.get(zone, is_on) for zone, is_on in asked.zones.items()}
        switched = replace(asked, is_enabled=is_enabled, zones=zones)
        return _with_learnt(switched, before, orchestrators)

    return orchestrators.change_orchestrator(asked.orchestrator_id, change)


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
        asked = _checked(described(before) | dict(fields), catalog)
        return _with_learnt(asked, before, orchestrators)

    return _changed(orchestrator_id, change, orchestrators)


def described(orchestrator: Orchestrator) -> dict[str, Any]:
    """Return an orchestrator as its file describes it: without what it has learnt."""
    known = OrchestratorSchema().fields
    found = {
        known[name].data_key or name: value
        for name, value in asdict(orchestrator).items()
        if name in known
    }
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


def switch_region(region: str, is_on: bool, orchestrators: OrchestratorStore) -> list[Orchestrator]:
    """Switch a whole region on or off; each orchestrator's own switch stays as it is.

    Raises: NotFound when no orchestrator is there.
    """
    found = sorted(_in_region(region, orchestrators), key=lambda each: each.orchestrator_id)
    if not found:
        raise NotFound(f"there is no orchestrator in region {region}")
    return [
        orchestrators.change_orchestrator(
            each.orchestrator_id, lambda before: replace(before, is_region_enabled=is_on)
        )
        for each in found
    ]


def switch_pool(
    pool_id: str, is_on: bool | None, orchestrator_id: str, orchestrators: OrchestratorStore
) -> Orchestrator:
    """Switch a pool on or off, or, with None, leave it to its breaker; it need not have machines yet.

    Raises: InvalidRequest; NotFound; Conflict when several orchestrators could have it.
    """
    key = _pool_key(pool_id)
    found = [
        each
        for each in _all_or_one(orchestrator_id, orchestrators)
        if key.zone in each.zones and (orchestrator_id or each.offers(key.instance_type))
    ]
    name = _only_one(pool_id, [each.orchestrator_id for each in found])

    def change(before: Orchestrator) -> Orchestrator:
        others = {pool: said for pool, said in before.pool_switches.items() if pool != key.pool_id}
        mine = {} if is_on is None else {key.pool_id: is_on}
        return replace(before, pool_switches=others | mine)

    return orchestrators.change_orchestrator(name, change)


def pools(orchestrator_id: str, orchestrators: OrchestratorStore) -> list[PoolState]:
    """Return the pools of an orchestrator, of all when none is named. Raises: NotFound."""
    result = []
    for each in _all_or_one(orchestrator_id, orchestrators):
        # Of two of a pool, the quota's and its own, the one that has not closed, or holds it back for longer.
        latest = sorted(each.breakers, key=lambda found: (found.closed_at is None, found.until))
        breakers = {found.pool: found for found in latest if not found.is_of_unused}
        result += [
            replace(
                state,
                switch=each.pool_switches.get(state.pool.pool_id),
                breaker=breakers.get(state.pool),
            )
            for state in orchestrators.pools(each.orchestrator_id)
        ]
    return result


def find_pool(pool_id: str, orchestrator_id: str, orchestrators: OrchestratorStore) -> PoolState:
    """Return a pool by its name. Raises: InvalidRequest; NotFound; Conflict when several orchestrators have it."""
    key = _pool_key(pool_id)
    found = {
        each.orchestrator_id: each
        for each in pools(orchestrator_id, orchestrators)
        if each.pool == key
    }
    return found[_only_one(pool_id, list(found))]


def _pool_key(pool_id: str) -> PoolKey:
    try:
        return PoolKey.parse(pool_id)
    except ValueError as error:
        raise InvalidRequest(
            {"pool": "must be ZONE:INSTANCE_TYPE:p or ZONE:INSTANCE_TYPE:s"}
        ) from error


def _only_one(pool_id: str, orchestrator_ids: list[str]) -> str:
    if not orchestrator_ids:
        raise NotFound(f"there is no pool {pool_id}")
    if len(orchestrator_ids) > 1:
        names = ", ".join(orchestrator_ids)
        raise Conflict(f"several orchestrators have a pool {pool_id}: {names}")
    return orchestrator_ids[0]


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


def _all_or_one(orchestrator_id: str, orchestrators: OrchestratorStore) -> list[Orchestrator]:
    """Return the orchestrator that is named, all by id when none is. Raises: NotFound."""
    if orchestrator_id:
        return [known_orchestrator(orchestrator_id, orchestrators)]
    return sorted(orchestrators.orchestrators(), key=lambda each: each.orchestrator_id)


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


def _with_learnt(
    asked: Orchestrator, before: Orchestrator, orchestrators: OrchestratorStore
) -> Orchestrator:
    """What no file says, it has learnt, or operators have switched."""
    learnt = {
        name: value
        for name, value in vars(before).items()
        if name not in OrchestratorSchema().fields
    }
    after = replace(asked, **learnt)
    return after if after.region == before.region else _in_its_region(after, orchestrators)


def _in_its_region(asked: Orchestrator, orchestrators: OrchestratorStore) -> Orchestrator:
    """Return an orchestrator with the switch of the region to which it comes."""
    others = [
        each
        for each in _in_region(asked.region, orchestrators)
        if each.orchestrator_id != asked.orchestrator_id
    ]
    return replace(asked, is_region_enabled=all(each.is_region_enabled for each in others))


def _in_region(region: str, orchestrators: OrchestratorStore) -> list[Orchestrator]:
    return [each for each in orchestrators.orchestrators() if each.region == region]
