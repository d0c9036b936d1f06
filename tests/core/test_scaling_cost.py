"""What plan() and choose() decide costs no more than the linear program says it must."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from shared.core.placement import choose
from shared.models.farm import Breaker, Instance, Orchestrator, PoolKey, Shape
from tests.core.farm import NOW, OTHER_SHAPE, SHAPE, S, an_orchestrator, decide, grown, some, wants

ZONES = ("z-a", "z-b", "z-c", "z-d")
SHAPES = (SHAPE, OTHER_SHAPE, Shape(SHAPE.instance_type, False))
KEYS = [PoolKey(zone, *shape) for shape in SHAPES for zone in ZONES]

_prices = st.fixed_dictionaries({key: st.integers(1, 10_000) for key in KEYS})
_sizes = st.fixed_dictionaries({key: st.integers(0, 12) for key in KEYS})
_waiting = st.fixed_dictionaries({shape: st.integers(0, 80) for shape in SHAPES})


@st.composite
def _orchestrators(draw: st.DrawFn) -> Orchestrator:
    paused = draw(st.sets(st.sampled_from(KEYS), max_size=5))
    until = NOW + timedelta(minutes=1)
    return an_orchestrator(
        zones={zone: draw(st.booleans()) for zone in ZONES},
        max_per_pool=draw(st.integers(5, 60)),
        max_instances=draw(st.integers(50, 400)),
        max_grow_per_tick=draw(st.integers(10, 300)),
        max_per_type=draw(
            st.dictionaries(st.sampled_from([SHAPE[0], OTHER_SHAPE[0]]), st.integers(0, 150))
        ),
        breakers=tuple(Breaker(pool=key, until=until, cause="stock_out") for key in paused),
    )


def least_cost(
    orchestrator: Orchestrator,
    waiting: dict[Shape, int],
    there: dict[PoolKey, int],
    prices: dict[PoolKey, int],
    served: dict[Shape, int],
) -> tuple[int, float]:
    """Return how many can be started at most, and what so many of each shape as were started cost at the least."""
    paused = {each.pool for each in orchestrator.breakers}
    open_ = [key for key in KEYS if key.zone in orchestrator.enabled_zones and key not in paused]
    if not open_:
        return 0, 0.0
    most = [(0, max(orchestrator.max_per_pool - there[key], 0)) for key in open_]
    of_shape = [[float(Shape(*key[1:]) == shape) for key in open_] for shape in SHAPES]
    quotas = [
        ([float(key.instance_type == name) for key in open_], quota - _size(there, name))
        for name, quota in orchestrator.max_per_type.items()
    ]
    room = orchestrator.max_instances - sum(there.values())
    upper = [
        *zip(of_shape, (waiting[shape] for shape in SHAPES), strict=True),
        *((row, max(left, 0)) for row, left in quotas),
        ([1.0] * len(open_), max(min(room, orchestrator.max_grow_per_tick), 0)),
    ]
    rows, limits = [row for row, _ in upper], [limit for _, limit in upper]
    number = linprog([-1.0] * len(open_), A_ub=rows, b_ub=limits, bounds=most, method="highs")
    cost = linprog(
        [float(prices[key]) for key in open_],
        A_ub=rows,
        b_ub=limits,
        A_eq=of_shape,
        b_eq=[served[shape] for shape in SHAPES],
        bounds=most,
        method="highs",
    )
    assert number.fun is not None
    assert cost.fun is not None, "what was started is not allowed"
    return round(-number.fun), float(cost.fun)


def _size(there: dict[PoolKey, int], name: str) -> int:
    return sum(count for key, count in there.items() if key.instance_type == name)


@given(_orchestrators(), _waiting, _sizes, _prices)
@settings(max_examples=100, deadline=None)
def test_growth_serves_as_many_as_the_linear_program_and_costs_as_little(
    orchestrator: Orchestrator,
    waiting: dict[Shape, int],
    there: dict[PoolKey, int],
    prices: dict[PoolKey, int],
) -> None:
    instances: list[Instance] = [
        each for key, count in there.items() for each in some(count, S.BUSY, key, free_in_s=None)
    ]
    backlog = [wants(count, shape) for shape, count in waiting.items()]
    added = grown(decide(orchestrator, backlog, instances, prices=prices))
    served = {
        shape: sum(count for key, count in added.items() if Shape(*key[1:]) == shape)
        for shape in SHAPES
    }
    number, cost = least_cost(orchestrator, waiting, there, prices, served)
    assert sum(added.values()) == number
    assert sum(prices[key] * count for key, count in added.items()) <= 1.0001 * cost


@given(
    st.lists(
        st.dictionaries(st.sampled_from(ZONES), st.integers(1, 10_000), min_size=1),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=50, deadline=None)
def test_a_job_is_placed_where_the_linear_program_places_it(offers: list[dict[str, int]]) -> None:
    orchestrators = [
        an_orchestrator(
            orchestrator_id=f"o{index}", zones={f"o{index}-{zone}": True for zone in offer}
        )
        for index, offer in enumerate(offers)
    ]
    prices = {
        PoolKey(f"o{index}-{zone}", *SHAPE): price
        for index, offer in enumerate(offers)
        for zone, price in offer.items()
    }
    choice = choose(orchestrators, SHAPE, holds_data={}, data_bytes=0, prices=prices, now=NOW)
    cheapest = [
        min(price for key, price in prices.items() if key.zone in each.zones)
        for each in orchestrators
    ]
    optimum = linprog(
        [float(price) for price in cheapest],
        A_eq=[[1.0] * len(cheapest)],
        b_eq=[1.0],
        bounds=(0, 1),
        method="highs",
    )
    chosen = next(
        i for i, each in enumerate(orchestrators) if each.orchestrator_id == choice.orchestrator_id
    )
    assert cheapest[chosen] == pytest.approx(optimum.fun, rel=1e-9)
