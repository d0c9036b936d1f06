"""`autoretry_policy`: what a job does about the ends of attempts that are not the command's own."""

from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema

from shared.core.lifecycle import LOST_RETRIES, most_losses
from shared.models.job import OUT_OF_MEMORY_RETRIES

MAX_RETRIES = 1000
MAX_LARGER = 10


class PreemptedPolicy(Schema):
    """How often a task is tried again that was preempted; after `standard_after` losses, 0 for never, on standard ones.

    The clients know of `max_retries` only.
    """

    class Meta:
        unknown = EXCLUDE

    max_retries = fields.Integer(
        strict=True, load_default=0, validate=validate.Range(0, MAX_RETRIES)
    )
    standard_after = fields.Integer(
        strict=True, load_default=0, validate=validate.Range(0, MAX_RETRIES)
    )

    @validates_schema
    def check_reached(self, said: dict[str, Any], **_: Any) -> None:
        """Refuse a number of losses after which no attempt is left."""
        if said["standard_after"] > most_losses(said["max_retries"]):
            reason = f"Must be at most {LOST_RETRIES} more than max_retries."
            raise ValidationError(reason, "standard_after")


class OutOfMemoryPolicy(Schema):
    """How often a task is tried again that ran out of memory, each time on the next larger instance type."""

    class Meta:
        unknown = EXCLUDE

    max_retries = fields.Integer(
        strict=True,
        load_default=OUT_OF_MEMORY_RETRIES,
        validate=validate.Range(0, MAX_LARGER),
    )


class RetryPolicies(Schema):
    """The policy for each cause. The clients know of preemption only."""

    class Meta:
        unknown = EXCLUDE

    preempted = fields.Nested(PreemptedPolicy, load_default=lambda: PreemptedPolicy().load({}))
    out_of_memory = fields.Nested(
        OutOfMemoryPolicy, load_default=lambda: OutOfMemoryPolicy().load({})
    )
