"""A farm on a virtual clock: the core's own policies against modelled clouds, for a seed always the same.

Imports shared.core and shared.models only, and does no I/O outside `report`.
"""
