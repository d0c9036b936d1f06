"""What EC2 and its groups answer when they cannot, in our words."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from botocore.exceptions import ClientError

from shared import aws
from shared.aws import code_of
from shared.errors import CloudError, OutOfCapacity, OverQuota, RateLimited, Unreachable
from shared.models.farm import ProblemCode

# The provider's word -> error; everything else is a CloudError, as is LimitExceeded: it is of groups, not of machines.
# Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html, read 2026-11.
ERRORS: Mapping[str, type[CloudError]] = {
    "InsufficientInstanceCapacity": OutOfCapacity,
    "InsufficientHostCapacity": OutOfCapacity,
    "UnfulfillableCapacity": OutOfCapacity,
    "InstanceLimitExceeded": OverQuota,
    "MaxSpotInstanceCountExceeded": OverQuota,
    "VcpuLimitExceeded": OverQuota,
    "RequestLimitExceeded": RateLimited,
    "Throttling": RateLimited,
    "ThrottlingException": RateLimited,
    "ServiceUnavailable": Unreachable,
    "Unavailable": Unreachable,
}
PROBLEMS: Mapping[type[CloudError], ProblemCode] = {
    OutOfCapacity: ProblemCode.STOCK_OUT,
    OverQuota: ProblemCode.QUOTA,
}
# Activities tell in prose what happened; these parts of it stand for a word.
PROSE: Mapping[str, str] = {
    "do not have sufficient": "InsufficientInstanceCapacity",
    "no Spot capacity": "InsufficientInstanceCapacity",
    "vCPU limit": "VcpuLimitExceeded",
    "Max spot instance count exceeded": "MaxSpotInstanceCountExceeded",
}

# Auto Scaling has no code for a group or a machine that is not there: it is invalid, as other things are.
_GONE = ("ValidationError", "InvalidInstanceID.NotFound")


def problem_of(said: str) -> ProblemCode:
    """Return what an activity tells of."""
    words = [word for word in ERRORS if word in said]
    words += [word for prose, word in PROSE.items() if prose in said]
    error = ERRORS[words[0]] if words else CloudError
    return PROBLEMS.get(error, ProblemCode.OTHER)


def may_be_gone(error: ClientError) -> bool:
    """Tell whether the reason may be that a group or a machine is not there; who must be sure looks for it."""
    return code_of(error) in _GONE


def translated(doing: str) -> AbstractContextManager[None]:
    """Turn the provider's errors into ours."""
    return aws.translated(f"ec2: {doing}", ERRORS)
