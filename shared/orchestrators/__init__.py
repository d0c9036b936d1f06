"""Schedulers: one file per provider."""
