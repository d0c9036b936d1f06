"""One emulated machine: a process that boots, joins the scheduler and runs what it is given."""
