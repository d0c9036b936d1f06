"""The deployment root: every entry point, nothing else."""

from functions.autoscale.main import autoscale
from functions.billing.main import billing
from functions.dispatch.main import dispatch
from functions.submit.main import submit

__all__ = ["autoscale", "billing", "dispatch", "submit"]
