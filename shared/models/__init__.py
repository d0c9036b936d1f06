"""Frozen values: what a job, a task, an attempt, a pool and an instance are."""
