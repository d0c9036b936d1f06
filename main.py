"""The deployment root: every entry point, nothing else."""

import gc
import logging

import functions_framework

from functions.autoscale.main import autoscale
from functions.billing.main import billing
from functions.dispatch.main import dispatch
from functions.submit.main import submit
from shared.http import refuse_unrouted

logging.basicConfig(format="%(message)s")
# What was imported stays: looking through it again and again for garbage took a tenth of the processor time.
gc.freeze()
gc.set_threshold(20_000, 20, 20)
functions_framework.errorhandler(404)(refuse_unrouted)

__all__ = ["autoscale", "billing", "dispatch", "submit"]
