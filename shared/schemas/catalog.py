"""The catalogue's YAML and an orchestrator's: what an administrator writes becomes models."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from shared.models.account import InstanceType, Package, Provider, Variable
from shared.models.farm import Orchestrator, PoolKey

_WORD = validate.Regexp(r"[^\s/]{1,100}\Z", error="Must be one word.")
_VERSION = validate.Regexp(r"[^\s/]{0,40}\Z", error="Must not contain spaces.")
_POSITIVE = validate.Range(1)
_PRODUCT = validate.Regexp(
    r"([a-z0-9][a-z0-9-]{0,39})?\Z", error="Must be lower-case letters, digits and dashes."
)
_URL = validate.URL(require_tld=False, schemes={"http", "https"})
# Where both systems are offered, clients choose one at random.
_LINUX = validate.OneOf(["linux"], error="Must be linux, in lower-case letters.")


class Number(fields.Float):
    """A number, never a text of one: clients sort by it, and a text among numbers makes them crash."""

    def _validated(self, value: Any) -> float:
        if isinstance(value, str):
            raise self.make_error("invalid")
        number: float = super()._validated(value)
        return number


class CategorySchema(Schema):
    """A heading in the clients' menu."""

    label = fields.String(required=True, validate=validate.Length(1))
    order = fields.Integer(required=True, strict=True)


class InstanceTypeSchema(Schema):
    """One instance type."""

    name = fields.String(required=True, validate=_WORD)
    provider = fields.Enum(Provider, by_value=True, load_default=Provider.GCP)
    machine_type = fields.String(required=True, validate=_WORD)
    cores = fields.Integer(required=True, strict=True, validate=_POSITIVE)
    memory_gib = Number(required=True, validate=validate.Range(0, min_inclusive=False))
    operating_system = fields.String(required=True, validate=_LINUX)
    description = fields.String(required=True, validate=validate.Length(1, 200))
    price_micros_per_minute = fields.Integer(required=True, strict=True, validate=_POSITIVE)
    preemptible_micros_per_minute = fields.Integer(required=True, strict=True, validate=_POSITIVE)
    gpu = fields.Dict(keys=fields.String(), load_default=None, allow_none=True)
    categories = fields.List(fields.Nested(CategorySchema), load_default=list)

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> InstanceType:
        """Return the model."""
        return InstanceType(**said | {"categories": tuple(said["categories"])})


class VariableSchema(Schema):
    """One variable of a package; clients before version 8 know no policy but these two."""

    name = fields.String(required=True, validate=validate.Regexp(r"[^=\s]+\Z"))
    value = fields.String(required=True)
    merge_policy = fields.String(
        required=True,
        validate=validate.OneOf(
            ["append", "exclusive"],
            error="Must be append or exclusive: clients before version 8 crash on any other.",
        ),
    )

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> Variable:
        """Return the model."""
        return Variable(**said)


class PackageSchema(Schema):
    """One package."""

    package_id = fields.String(required=True, validate=_WORD)
    product = fields.String(required=True, validate=_WORD)
    platform = fields.String(required=True, validate=_LINUX)
    major_version = fields.String(load_default="", validate=_VERSION)
    minor_version = fields.String(load_default="", validate=_VERSION)
    release_version = fields.String(load_default="", validate=_VERSION)
    build_version = fields.String(load_default="", validate=_VERSION)
    plugin_host_product = fields.String(load_default="")
    plugin_host_version = fields.String(load_default="")
    plugins = fields.List(fields.String(), load_default=list)
    environment = fields.List(fields.Nested(VariableSchema), load_default=list)
    path = fields.String(load_default="")
    licence = fields.String(load_default="", validate=_PRODUCT)

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> Package:
        """Return the model."""
        lists = {"plugins": tuple(said["plugins"]), "environment": tuple(said["environment"])}
        return Package(**said | lists)


def _check_pool(name: str) -> None:
    try:
        PoolKey.parse(name)
    except ValueError as error:
        raise ValidationError("Must be ZONE:INSTANCE_TYPE:p or ZONE:INSTANCE_TYPE:s.") from error


class OrchestratorSchema(Schema):
    """One orchestrator."""

    orchestrator_id = fields.String(
        required=True, validate=validate.Regexp(r"[a-z][a-z0-9-]{0,39}\Z")
    )
    scheduler = fields.String(required=True, validate=_WORD)
    scheduler_address = fields.String(required=True)
    fleet = fields.String(required=True, validate=_WORD)
    project = fields.String(required=True, validate=_WORD)
    region = fields.String(required=True, validate=_WORD)
    zones = fields.Dict(
        keys=fields.String(validate=_WORD),
        values=fields.Boolean(),
        required=True,
        validate=validate.Length(1),
    )
    is_enabled = fields.Boolean()
    instance_types = fields.List(fields.String(validate=_WORD))
    boot_s = fields.Integer(strict=True, validate=_POSITIVE)
    idle_s = fields.Integer(strict=True, validate=validate.Range(0))
    max_instances = fields.Integer(strict=True, validate=validate.Range(0))
    max_per_pool = fields.Integer(strict=True, validate=_POSITIVE)
    max_grow_per_tick = fields.Integer(strict=True, validate=_POSITIVE)
    max_per_type = fields.Dict(
        keys=fields.String(validate=_WORD),
        values=fields.Integer(strict=True, validate=validate.Range(0)),
    )
    min_sizes = fields.Dict(
        keys=fields.String(validate=_check_pool),
        values=fields.Integer(strict=True, validate=validate.Range(0)),
    )
    price_percents = fields.Dict(
        keys=fields.String(validate=_WORD),
        values=fields.Integer(strict=True, validate=validate.Range(1, 10_000)),
    )
    operating_system = fields.String(validate=_LINUX)
    own_provider = fields.String(
        data_key="provider",
        validate=validate.OneOf(["", *Provider], error="Must be gcp or aws, or empty."),
    )
    spare_percent = fields.Integer(strict=True, validate=validate.Range(0, 100))
    tick_s = fields.Integer(strict=True, validate=_POSITIVE)

    @validates_schema(skip_on_field_errors=False)
    def check_address(self, said: dict[str, Any], **_: Any) -> None:
        """Refuse what is no URL. Only AWS Batch may have none: it is Amazon's own."""
        address = said.get("scheduler_address")
        if address is None or (address == "" and said.get("scheduler") == "batch"):
            return
        try:
            _URL(address)
        except ValidationError as error:
            raise ValidationError(error.messages, "scheduler_address") from error

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> Orchestrator:
        """Return the model; what is not said has the model's own default."""
        return Orchestrator(**said | {"instance_types": tuple(said.get("instance_types", ()))})
