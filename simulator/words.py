"""What the report says around its tables."""

INTRODUCTION = """# The simulator's report

Written by `python -m simulator report`; do not edit. A virtual clock, seeded chance, and the product's own
functions: admission (`turns`), placement (`choose`), what was learnt of durations (`expected`), breakers
(`learnt`) and scaling (`plan`). A cloud creates 9.6 machines a second; each boots for (42 s + a log-normal
of median 21 s) x the weather of the run; its first attempt starts 8 s after it was placed. A machine is paid by
the started minute, from its creation to its deletion.

**Bounds.** Makespan, strict: no attempt starts before the shortest boot, none ends sooner than it takes, and
machines come no faster than they are created, up to the limit of instances. Instance-minutes, Pareto: the work,
and one usual boot for each of the fewest machines that can do it in the time that was taken, as if tasks could
be cut into pieces and all machines came at once. The tighter bound has whole tasks, of which no two share a
machine that has not the time for both, and machines that come one after the other. All in exact time, not in
started minutes. In the traces the makespan is the sum over the jobs, jobs that overlap may share machines, and
what preemptions took is work too.

Baton's settings: a tick a minute, and at once when something starts to wait or a machine gets free; a look at
the farm takes one second; an idle machine leaves at the next look when nothing waits or is held back by a
limit."""

SPARE_TEXT = """## Spare instances

The last frame starts when the slowest boot is over. Baton starts `spare_percent` more instances than wanted (10
by default), so that the slowest boots go unused: a few spares take most of the tail away, more buy little.

No setting reaches 1.20 and 1.10 at once when the bound may cut tasks into pieces, and by all we know no policy can.
On this job each machine has time for one frame, so 500 boots are paid where that bound pays for about 350. The
last two columns are what the same machines come to when not a second is lost: each is gone the moment its frame
ends, and all that still boot when the last frame has started are gone at that very moment. Only how long a boot
will take is not known before. That meets 1.20 from 8 % of spares on, and then it takes 1.103. Against the tighter
bound, of whole frames, Baton's runs stay well within 1.10. Paying by started minutes adds half a minute for each
machine, whatever the policy.

| spare | makespan / bound | minutes / bound | minutes / tighter bound | paid / bound | peak \
| nothing lost: makespan | nothing lost: minutes |
|---|---|---|---|---|---|---|---|"""
