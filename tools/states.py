"""Write docs/states.md from the tables of shared/core: `python -m tools.states > docs/states.md`."""

from collections.abc import Iterable, Sequence

from shared.core.lifecycle import COMMANDS, ENDS, FENCES, LOST_RETRIES, UNCLAIMED_ATTEMPTS
from shared.core.orders import JOB_COMMANDS, Phase
from shared.core.outstanding import MOST_ORDERS
from shared.core.recovery import MOST_MEMORY
from shared.core.unserved import PATIENCE, PROBE_COUNT
from shared.models.job import Command, JobStatus
from shared.models.task import Outcome, TaskStatus, WaitingFor

MEANINGS = {
    TaskStatus.HOLDING: "held by somebody, or until the scouts have succeeded",
    TaskStatus.PENDING: "waits for its turn, or for a machine; `waiting_for` says which",
    TaskStatus.RUNNING: "an agent has claimed its attempt",
    TaskStatus.SUCCESS: "its frames are in the store",
    TaskStatus.DOWNLOADED: "its frames arrived at the artist's",
    TaskStatus.FAILED: "its command failed, or it ran out of memory or was lost once too often",
    TaskStatus.PREEMPTED: "preempted more often than the job retries",
    TaskStatus.KILLED: "ended by a command",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def commands() -> str:
    """Return what each command makes of each status; a dash where it does not apply."""
    orders = [order for order in Command if any(order is each for _, each in COMMANDS)]
    head = ["status", *(f"`{order}`" for order in orders)]
    rows = [
        [f"**{status}**", *(COMMANDS.get((status, order), "–") for order in orders)]
        for status in TaskStatus
    ]
    return table(head, rows)


def job_commands() -> str:
    """Return which commands a whole job obeys, by how far it is."""
    words = {True: "yes", False: "is so already", None: "–"}
    head = ["command", *(f"{phase}" for phase in Phase)]
    rows = [
        [f"`{order}`", *(words[JOB_COMMANDS.get((phase, order))] for phase in Phase)]
        for order in Command
    ]
    return table(head, rows)


def page() -> str:
    """Return the whole page."""
    retried = {
        Outcome.PREEMPTED: "as often as the job's `autoretry_policy` says: a new attempt",
        Outcome.OUT_OF_MEMORY: "as often as the job's `autoretry_policy` says, "
        "on the next larger instance type if there is one: a new attempt",
        Outcome.LOST: f"{LOST_RETRIES} times, whatever the job says: a new attempt",
    }
    ends = [[f"`{o}`", retried.get(o, "no"), ENDS[o]] for o in Outcome]
    return f"""# States

Generated from the tables in `shared/core/lifecycle.py` by `python -m tools.states`; a test keeps it true.

## Tasks

{table(["status", "meaning"], [[f"**{status}**", MEANINGS[status]] for status in TaskStatus])}

```
            claim            success              downloaded
  pending ---------> running ---------> success ------------> downloaded
   ^  |  ^              |  |
   |  |  |   retry left |  +--> failed, preempted, killed
   |  |  +--------------+
   |  | hold, kill
   |  v
  holding (unhold, or all scouts have succeeded) --> pending
```

A claim moves a pending task to running, if the token's attempt is the present one and the job's fence is open. An
attempt that was placed and came to nothing before any claim is withdrawn; after {UNCLAIMED_ATTEMPTS} of
those in a row the task fails. What people take back is none of them, and after a retry they are counted anew.

### How an attempt ends

{table(["outcome", "tried again", "otherwise the task is"], ends)}

Each cause is counted by itself, for scouts as for other tasks; what was withdrawn before any claim counts for none of
them. While the job is killed nothing is tried again, and what does not succeed is killed. While it is held, what is
tried again holds.

A task that was preempted or lost avoids the zone where that happened last, as long as another has room: it is started
elsewhere, and where no machine is free or booting for it the next one boots elsewhere. Once as many of its preemptible
attempts were lost as the job's `standard_after` says, it runs on standard machines. One that ran out of memory goes to
the next larger instance type of its orchestrator, at most as many steps as it may be tried again and at most
{MOST_MEMORY} times the memory of the job's own.

When people retry a task that has ended, every cause is counted anew from its next attempt on, and what was learnt
stays: the task goes on beyond the memory that was ever too little, with as many further steps as the policy says
(none where it says 0: then it keeps the job's own type), and once on standard machines it stays there. The cap is
what it was. A task that waits or runs keeps its counts.

### What people may order

For a single task a command that does not apply is refused, by name, while the others named with it follow; on a whole
job it passes over such tasks. `release` is ordered by the server when all scouts have succeeded. What was ordered
already is so: saying it again changes nothing. `edit` takes back what waits at the scheduler as another machine or with
another priority; one of nothing but the ladder's policy only what lost a machine or ran out of memory before.

Commands on a whole job reach its tasks in the order in which they were given, each of them, however late a page
learns of them: tasks end as if every one had been carried out everywhere before the next was given. Only a hold that
was lifted in the meantime takes nothing back from the scheduler. At most {MOST_ORDERS} are on their way at once, and
one that repeats the last is none more; another one is refused until pages have caught up, but never a `kill` or the
`release`. What single tasks are told comes after what their job was told.

{commands()}

### What a whole job obeys

{job_commands()}

`retry_sync` makes inputs ready once more where that failed, as `retry` and `retry_all` do; where they are ready it is
refused. `reviewed` notes who looked first at what came of the job; a retry forgets it. `edit` changes priority,
instance type, price class, `max_instances` and what is done about preemption and want of memory: what runs goes on as
it is, a lower `max_instances` stops nothing, and an attempt that was placed for the machine of before can no longer be
claimed. `retry_sync`, `reviewed` and `edit` are for whole jobs only.

### What a command on a whole job means for claims, at once

{table(["command", "fence"], [[f"`{order}`", fence] for order, fence in FENCES.items()])}

Other commands leave the fence as it is.

## Jobs

{", ".join(f"`{status}`" for status in JobStatus)}.
The status follows from the counts of the tasks: ended jobs are `failed` if any task failed, else `killed`, `preempted`,
`success` or (all of them) `downloaded`; others are `running` if any task runs, then what the inputs' way says
(`upload_pending`, `uploading`, `sync_pending`, `syncing`; `sync_failed` if it came to nothing), then `pending` if
any task is, and `holding` if only held tasks are left. A killed job says so at once and has ended when all its tasks
have.

## Why something waits

{", ".join(f"`{reason}`" for reason in WaitingFor)}: always exactly one, with a sentence.

A task that is at the scheduler waits for what its shape waits for there; the others wait for what holds back the job.
That is a limit (`limit`, `budget`, `licence`) only while it would help to lift it: where nothing of the job runs and no
machine can be had for all that it has placed (`zone_off`, `quota`, `stock_out`), the job says that instead, and no
limit is told of a job that has nothing left to place. What waits of a held job waits for `hold`, once its inputs are
ready.

### Where no machine can be had

Attempts that wait count against every limit as those that run do. Once the machine that a job asks for could not be had
for {PATIENCE.seconds // 60} minutes, the job may have as many waiting as run, and {PROBE_COUNT} at least: its probes.
What waits beside them for that machine is taken back, the last tasks first, as soon as a limit holds back another job
of the account; that counts neither as unclaimed nor as lost. When a machine is there again the probes run, and the job
gets its full share. One that merely boots changes nothing yet.
"""


if __name__ == "__main__":
    print(page(), end="")
