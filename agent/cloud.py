"""Which cloud this machine is in, who it is there, and whether it is about to be taken away."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from agent.ending import Ending
from agent.transport import Transport

_VENDOR = Path("/sys/class/dmi/id/sys_vendor")


class Identity(NamedTuple):
    """This machine, in its provider's words."""

    instance: str
    zone: str
    machine_type: str


class Cloud(Protocol):
    """The metadata server of one provider."""

    def identity(self) -> Identity:
        """Say who we are. Raises: Unfit when the metadata server does not tell."""
        ...

    def is_preempted(self) -> bool:
        """Tell whether the provider takes this machine back; answers within a second, False when it cannot know."""
        ...

    def watch(self, ending: Ending) -> None:
        """Wait for the provider's notice, then request the end. Runs in a thread of its own, as long as the process."""
        ...


def detect(environ: Mapping[str, str], transport: Transport) -> Cloud:
    """Return this machine's cloud, without asking the network: by its firmware, unless the environment says."""
    has_gce_address = "GCE_METADATA_HOST" in environ
    if not has_gce_address and ("AWS_EC2_METADATA_SERVICE_ENDPOINT" in environ or _is_amazon()):
        from agent.aws import DEFAULT_ENDPOINT, Ec2

        return Ec2(environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", DEFAULT_ENDPOINT), transport)
    from agent.gcp import DEFAULT_HOST, Gce

    return Gce(environ.get("GCE_METADATA_HOST", DEFAULT_HOST), transport)


def _is_amazon() -> bool:
    try:
        return _VENDOR.read_text().startswith("Amazon")
    except OSError:  # machines without firmware tables exist
        return False
