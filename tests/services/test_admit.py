"""Who may start next, and that nobody waits without a reason."""

from tests.services.farm import Farm


def test_tasks_start(farm: Farm) -> None:
    ref = farm.submit(3)
    assert farm.placed(ref) == ["000-1", "001-1", "002-1"]
    farm.run(ref)
    farm.deliver()
    assert farm.findings(ref) == []
