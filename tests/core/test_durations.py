"""What an attempt is believed to take."""

from datetime import timedelta

from shared.core import census
from shared.core.durations import expected, left, prior
from shared.models.farm import Placement, Shape, Stage
from tests.core.farm import NOW, OTHER_SHAPE, SHAPE


def test_a_job_of_which_nothing_is_known_is_not_guessed_at() -> None:
    assert expected([], [], None) is None
    assert expected([], [500.0], None) is None
    assert prior([]) is None


def test_its_own_ended_attempts_say_it_and_other_jobs_nothing_any_more() -> None:
    assert expected([10.0, 20.0, 90.0], [], 500.0) == 20.0


def test_before_the_first_has_ended_the_accounts_other_jobs_say_it() -> None:
    assert expected([], [], prior([10.0, 30.0, 20.0])) == 20.0


def test_what_runs_longer_than_was_believed_is_believed() -> None:
    assert expected([], [5.0, 70.0, 80.0], 20.0) == 70.0
    assert expected([20.0], [5.0], None) == 20.0


def test_a_long_attempt_is_never_counted_on_to_end_within_a_boot_and_a_short_one_is() -> None:
    assert min(left(3600.0, elapsed) for elapsed in range(0, 7200, 60)) > 300
    assert left(20.0, 15.0) == 7.0
    assert left(20.0, 30.0) == 12.0


def an_attempt(job: str, stage: Stage, took_s: float = 0, shape: Shape = SHAPE) -> Placement:
    started_at = NOW - timedelta(seconds=took_s) if stage is not Stage.WAITING else None
    ended_at = NOW if stage is Stage.ENDED else None
    return Placement(
        attempt_id=f"{job}-0001-1",
        shape=shape,
        stage=stage,
        started_at=started_at,
        ended_at=ended_at,
    )


def test_a_new_job_is_taken_for_one_like_the_accounts_others_on_such_machines() -> None:
    seen = [
        an_attempt("studio-00001", Stage.ENDED, 10),
        an_attempt("studio-00002", Stage.ENDED, 30),
        an_attempt("studio-00003", Stage.ENDED, 500, OTHER_SHAPE),
        an_attempt("rival-00001", Stage.ENDED, 900),
        an_attempt("studio-00009", Stage.WAITING),
        an_attempt("new-00001", Stage.WAITING),
    ]
    found = census.expected_seconds(seen, NOW)
    assert found["studio-00009"] == 20.0
    assert "new-00001" not in found
