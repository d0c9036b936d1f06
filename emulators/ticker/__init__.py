"""Cloud Scheduler on one machine: calls the schedules of deploy/functions.yaml at their local intervals."""
