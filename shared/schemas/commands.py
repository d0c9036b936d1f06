"""The bodies of commands on jobs and tasks."""

from typing import Any

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields, post_load, validate

from shared.models.submission import JobEdit
from shared.schemas.retries import MAX_LARGER, MAX_RETRIES
from shared.schemas.submission import MAX_JOB_INSTANCES, MAX_PRIORITY


class EditSchema(Schema):
    """What shall be otherwise about a job."""

    class Meta:
        unknown = RAISE

    priority = fields.Integer(strict=True, validate=validate.Range(0, MAX_PRIORITY))
    instance_type = fields.String(validate=validate.Length(1, 100))
    preemptible = fields.Boolean()
    max_instances = fields.Integer(strict=True, validate=validate.Range(0, MAX_JOB_INSTANCES))
    preempted_retries = fields.Integer(strict=True, validate=validate.Range(0, MAX_RETRIES))
    standard_after = fields.Integer(strict=True, validate=validate.Range(0, MAX_RETRIES))
    out_of_memory_retries = fields.Integer(strict=True, validate=validate.Range(0, MAX_LARGER))

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> JobEdit:
        """Return the model."""
        if not said:
            raise ValidationError("Must say what shall be otherwise.")
        if "preemptible" in said:
            said["is_preemptible"] = said.pop("preemptible")
        return JobEdit(**said)


class CommandSchema(Schema):
    """PUT /jobs_multi: one order for several jobs; `changes` go with `edit` and with nothing else."""

    class Meta:
        unknown = EXCLUDE

    action = fields.String(required=True)
    jobids = fields.List(
        fields.String(validate=validate.Regexp(r"[0-9]{1,12}\Z")),
        required=True,
        validate=validate.Length(1, 500),
    )
    changes = fields.Nested(EditSchema)

    @post_load
    def check_changes(self, said: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Refuse changes without the order to make them, and the order without any."""
        if (said["action"] == "edit") is not ("changes" in said):
            raise ValidationError("Must be there for the action edit, and for no other.", "changes")
        return said


class TaskCommandSchema(Schema):
    """PUT /tasks_multi: one order for several tasks of a job."""

    class Meta:
        unknown = EXCLUDE

    action = fields.String(required=True)
    jobid = fields.String(required=True, validate=validate.Regexp(r"[0-9]{1,12}\Z"))
    taskids = fields.List(
        fields.String(validate=validate.Regexp(r"[0-9]{1,9}\Z")),
        required=True,
        validate=validate.Length(1, 500),
    )
