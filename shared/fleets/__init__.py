"""Fleets: one file per provider."""
