"""The deployment root: every entry point, nothing else."""

import logging

from functions.autoscale.main import autoscale
from functions.billing.main import billing
from functions.dispatch.main import dispatch
from functions.submit.main import submit

logging.basicConfig(format="%(message)s")

__all__ = ["autoscale", "billing", "dispatch", "submit"]
