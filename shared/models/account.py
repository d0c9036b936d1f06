"""Who pays, who may, and what may be asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

# As fast as one process answers, so that nobody alone keeps it from the others.
REQUESTS_PER_S = 200


class Role(StrEnum):
    """What somebody may do; each includes the next."""

    OWNER = "owner"
    ADMINISTRATOR = "admin"
    USER = "user"


class Provider(StrEnum):
    """Whose machines an instance type is made of, in the clients' own words."""

    GCP = "gcp"
    AWS = "aws"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who is calling: taken from the token, never from a body.

    `client_id` is the API key's, if it was one; `projects` limits a plain user, empty means all.
    """

    account_id: str
    user_id: str
    role: Role
    client_id: str = ""
    projects: tuple[str, ...] = ()


class Period(StrEnum):
    """For how long a budget lasts."""

    TOTAL = "total"  # for good
    MONTH = "month"  # from the first of each month on, in UTC


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent within a period: by a project, or by the whole account where `project` is empty."""

    limit_micros: int
    period: Period = Period.TOTAL
    project: str = ""


@dataclass(frozen=True, kw_only=True)
class Account:
    """A studio.

    `max_instances` caps attempts in flight, 0 means none may start; its clients add `environment` to each job. Each of
    its people and API keys may call `requests_per_s` times a second, more than 0, in the long run. `licences` maps a
    licence product to the seats there are for it, since `licences_set_at`; one that is not named is not limited.
    `has_budgets` tells whether there are any to be read.
    It is offered the instance types of one `provider`: a client takes all names in its menu for the same one's.
    """

    account_id: str
    name: str
    max_instances: int = 100
    requests_per_s: int = REQUESTS_PER_S
    provider: Provider = Provider.GCP
    environment: tuple["Variable", ...] = ()
    licences: Mapping[str, int] = field(default_factory=dict)
    licences_set_at: datetime | None = None
    has_budgets: bool = False


@dataclass(frozen=True, kw_only=True)
class Project:
    """A show."""

    name: str
    is_active: bool = True


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody who signs in with a browser; `projects` limits a plain user, empty means all."""

    user_id: str
    email: str
    role: Role
    projects: tuple[str, ...] = ()
    is_active: bool = True


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A client's credentials; the secret itself is never stored. `name` is what its owner calls it."""

    client_id: str
    account_id: str
    user_id: str
    role: Role
    secret_hash: str
    created_at: datetime
    name: str = ""
    revoked_at: datetime | None = None
    used_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """The GPUs of one machine, all of one model."""

    model: str
    count: int


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    """A machine that can be asked for. Units: prices are micro-dollars a minute.

    `machine_type` is the provider's own name; `name` is what the clients send. One that `is_offered` no more stays
    known, for jobs that were submitted with it.
    """

    name: str
    machine_type: str
    cores: int
    memory_gib: float
    operating_system: str
    description: str
    price_micros_per_minute: int
    preemptible_micros_per_minute: int
    gpu: Mapping[str, object] | None = None
    categories: tuple[Mapping[str, object], ...] = ()
    provider: Provider = Provider.GCP
    is_offered: bool = True

    @property
    def gpus(self) -> Gpus | None:
        """Its GPUs, as drivers ask for them; None when it has none."""
        if not self.gpu:
            return None
        return Gpus(model=str(self.gpu["gpu_model"]), count=int(str(self.gpu["gpu_count"])))


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One environment variable of a package. `merge_policy`: append, prepend or exclusive."""

    name: str
    value: str
    merge_policy: str


@dataclass(frozen=True, kw_only=True)
class Package:
    """Software on the nodes; `plugins` are package ids of what runs inside it.

    An attempt with it takes a seat of the `licence` product, if one is named.
    """

    package_id: str
    product: str
    platform: str
    major_version: str = ""
    minor_version: str = ""
    release_version: str = ""
    build_version: str = ""
    plugin_host_product: str = ""
    plugin_host_version: str = ""
    plugins: tuple[str, ...] = ()
    environment: tuple[Variable, ...] = field(default=())
    path: str = ""
    licence: str = ""

    @property
    def version(self) -> str:
        """Those parts of its version that it has, in one."""
        parts = (self.major_version, self.minor_version, self.release_version, self.build_version)
        return ".".join(part for part in parts if part)
