"""The deployment root: every entry point, nothing else."""

import gc
import logging

from functions.autoscale.main import autoscale
from functions.billing.main import billing
from functions.dispatch.main import dispatch
from functions.submit.main import submit

logging.basicConfig(format="%(message)s")
# What was imported stays: looking through it again and again for garbage took a twentieth of the time.
gc.freeze()
gc.set_threshold(20_000, 20, 20)

__all__ = ["autoscale", "billing", "dispatch", "submit"]
