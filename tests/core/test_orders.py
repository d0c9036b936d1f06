"""What a whole job obeys, and what it is like afterwards."""

from typing import Any

import pytest

from shared.core.lifecycle import FENCES
from shared.core.orders import JOB_COMMANDS, Phase, edited, obeyed, phase_of, reviewed
from shared.core.progress import ordered
from shared.errors import InvalidTransition
from shared.models.account import InstanceType
from shared.models.job import (
    Command,
    Fence,
    Job,
    JobStatus,
    Order,
    Sync,
    SyncState,
    Upload,
    UploadState,
)
from shared.models.submission import JobEdit
from shared.models.task import WaitingFor
from tests.builders import a_job, at

JOBS: dict[Phase, Job] = {
    Phase.UNDER_WAY: a_job(),
    Phase.BEING_KILLED: ordered(a_job(), Command.KILL, Fence.KILLED),
    Phase.ENDED: a_job(status=JobStatus.FAILED, ended_at=at(9)),
}
HELD = a_job(
    command=Command.HOLD,
    command_seq=3,
    orders=(Order(seq=3, command=Command.HOLD),),
    standard_micros_per_minute=4000,
)
FAILED_SYNC = Sync(state=SyncState.FAILED, done_count=1, total_count=3, reason="gone")


def a_machine(**named: Any) -> InstanceType:
    given: dict[str, Any] = {
        "name": "cpu-8-32",
        "machine_type": "n2-standard-8",
        "cores": 8,
        "memory_gib": 32,
        "operating_system": "linux",
        "description": "8 core",
        "price_micros_per_minute": 6000,
        "preemptible_micros_per_minute": 2000,
    }
    return InstanceType(**given | named)


def carried_out(job: Job, order: Command) -> Job:
    match order:
        case Command.REVIEWED:
            return reviewed(job, "ines", at(20))
        case Command.EDIT:
            return edited(job, JobEdit(priority=9), None)
        case _:
            return obeyed(job, order)


@pytest.mark.parametrize("phase", Phase)
def test_a_job_of_each_phase_is_taken_for_one(phase: Phase) -> None:
    assert phase_of(JOBS[phase]) is phase


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("order", Command)
def test_a_job_obeys_what_the_table_says_and_nothing_else(phase: Phase, order: Command) -> None:
    job = JOBS[phase]
    if order is Command.RETRY_SYNC and phase is Phase.UNDER_WAY:
        job = a_job(sync=FAILED_SYNC)
    if order is Command.RELEASE and phase is Phase.UNDER_WAY:
        job = a_job(scouts_pending=True)
    has_work = JOB_COMMANDS.get((phase, order))
    if has_work is None:
        with pytest.raises(InvalidTransition):
            carried_out(job, order)
    else:
        assert (carried_out(job, order) != job) is has_work


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("order", sorted(set(Command) - {Command.RELEASE}))
def test_saying_a_command_twice_leaves_what_saying_it_once_does(
    phase: Phase, order: Command
) -> None:
    job = JOBS[phase]
    if JOB_COMMANDS.get((phase, order)) is None or order is Command.RETRY_SYNC:
        return
    once = carried_out(job, order)
    twice = carried_out(once, order)
    assert (twice.fence, twice.status, twice.priority) == (once.fence, once.status, once.priority)
    assert (twice.reviewed_at, twice.sync) == (once.reviewed_at, once.sync)


def test_only_commands_with_a_fence_move_it() -> None:
    job = a_job(fence=Fence.HELD, sync=FAILED_SYNC)
    for order in Command:
        if order is Command.REVIEWED or order is Command.RELEASE:
            continue
        assert carried_out(job, order).fence is FENCES.get(order, Fence.HELD)


@pytest.mark.parametrize("order", [Command.RETRY, Command.RETRY_ALL, Command.RETRY_SYNC])
def test_inputs_that_failed_are_made_ready_once_more(order: Command) -> None:
    job = obeyed(a_job(sync=FAILED_SYNC, status=JobStatus.SYNC_FAILED), order)
    assert job.sync == Sync(state=SyncState.PENDING, total_count=3)
    assert (job.status, job.waiting_for) == (JobStatus.SYNC_PENDING, WaitingFor.SYNC)


def test_an_upload_that_failed_waits_for_a_daemon_once_more() -> None:
    failed = Upload(state=UploadState.FAILED, file_count=2, tries=5, reason="gone")
    waiting = Sync(state=SyncState.PENDING, total_count=2)
    job = obeyed(a_job(upload=failed, sync=waiting), Command.RETRY_SYNC)
    assert job.upload == Upload(state=UploadState.WAITING, file_count=2)
    assert job.status is JobStatus.UPLOAD_PENDING


def test_inputs_that_are_ready_are_not_made_ready_again() -> None:
    with pytest.raises(InvalidTransition, match="ready"):
        obeyed(a_job(), Command.RETRY_SYNC)


def test_inputs_on_their_way_are_left_alone() -> None:
    job = a_job(sync=Sync(state=SyncState.SYNCING, done_count=1, total_count=3))
    assert obeyed(job, Command.RETRY_SYNC) == job


def test_the_first_who_looked_at_a_job_is_noted_until_it_is_retried() -> None:
    job = reviewed(JOBS[Phase.ENDED], "ines", at(10))
    assert (job.reviewed_by, job.reviewed_at) == ("ines", at(10))
    assert reviewed(job, "kai", at(20)) == job
    again = obeyed(job, Command.RETRY_FAILED)
    assert (again.reviewed_by, again.reviewed_at) == ("", None)


def test_another_machine_brings_its_size_and_its_price() -> None:
    job = edited(a_job(is_preemptible=True), JobEdit(instance_type="cpu-8-32"), a_machine())
    assert (job.instance_type, job.cores, job.memory_mib) == ("cpu-8-32", 8, 30_720)
    assert job.price_micros_per_minute == 2000
    kept = edited(job, JobEdit(is_preemptible=False), a_machine())
    assert (kept.instance_type, kept.price_micros_per_minute) == ("cpu-8-32", 6000)


def test_another_machine_brings_what_its_tasks_may_go_to() -> None:
    offered = [a_machine(), a_machine(name="cpu-8-64", memory_gib=64)]
    job = edited(a_job(), JobEdit(instance_type="cpu-8-32"), a_machine(), offered)
    assert [each.instance_type for each in job.larger] == ["cpu-8-64"]
    assert job.standard_micros_per_minute == 6000
    assert edited(job, JobEdit(priority=9), None).larger == job.larger


def test_what_is_done_about_each_cause_can_be_edited_by_itself() -> None:
    before = a_job(preempted_retries=3, standard_micros_per_minute=4000)
    job = edited(before, JobEdit(standard_after=2), None)
    policy = (job.preempted_retries, job.standard_after, job.out_of_memory_retries)
    assert policy == (3, 2, 2)
    job = edited(job, JobEdit(out_of_memory_retries=0, preempted_retries=5), None)
    policy = (job.preempted_retries, job.standard_after, job.out_of_memory_retries)
    assert policy == (5, 2, 0)


def test_a_job_keeps_the_price_of_its_submission_while_it_keeps_its_machine() -> None:
    same = JobEdit(instance_type="cpu-4-16", is_preemptible=True, priority=7)
    job = edited(a_job(), same, a_machine(name="cpu-4-16"))
    assert job.price_micros_per_minute == a_job().price_micros_per_minute


@pytest.mark.parametrize(
    ("edit", "is_taken_back"),
    [
        (JobEdit(priority=7), True),
        (JobEdit(instance_type="cpu-8-32"), True),
        (JobEdit(is_preemptible=False), True),
        (JobEdit(standard_after=1), False),
        (JobEdit(out_of_memory_retries=0), False),
        (JobEdit(out_of_memory_retries=0, priority=7), True),
        (JobEdit(preempted_retries=4), False),
        (JobEdit(max_instances=3), False),
        (JobEdit(priority=5), False),
    ],
)
def test_what_waits_at_the_scheduler_is_taken_back_only_if_it_would_be_another(
    edit: JobEdit, is_taken_back: bool
) -> None:
    job = edited(HELD, edit, a_machine())
    first, *edits = job.orders
    assert (job.command, first) == (Command.HOLD, HELD.orders[0])
    assert [each.seq for each in edits if not each.is_for_ladder] == ([4] if is_taken_back else [])
    assert {each.command for each in edits} <= {Command.EDIT}
    assert job.command_seq == job.orders[-1].seq == 3 + len(edits)


@pytest.mark.parametrize("edit", [JobEdit(standard_after=1), JobEdit(out_of_memory_retries=0)])
def test_an_edit_of_the_ladder_alone_is_told_from_one_that_reaches_every_task(
    edit: JobEdit,
) -> None:
    job = edited(HELD, edit, None)
    of_ladder = Order(seq=4, command=Command.EDIT, is_for_ladder=True)
    assert (job.command_seq, job.orders) == (4, (*HELD.orders, of_ladder))
    assert edited(job, edit, None) == job


def test_standard_machines_whose_price_nobody_knows_are_not_promised() -> None:
    unpriced = a_job()
    with pytest.raises(InvalidTransition, match="standard_after needs the price"):
        edited(unpriced, JobEdit(standard_after=1), None)
    assert edited(unpriced, JobEdit(standard_after=0), None) == unpriced
    other = JobEdit(standard_after=1, instance_type="cpu-8-32")
    assert edited(unpriced, other, a_machine()).standard_micros_per_minute == 6000


def test_nothing_of_an_ended_job_is_taken_back() -> None:
    job = edited(JOBS[Phase.ENDED], JobEdit(priority=9), None)
    assert (job.priority, job.command_seq, job.is_ended) == (9, 0, True)
