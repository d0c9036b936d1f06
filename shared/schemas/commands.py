"""The bodies of commands on jobs and tasks."""

from marshmallow import EXCLUDE, Schema, fields, validate


class CommandSchema(Schema):
    """PUT /jobs_multi: one order for several jobs."""

    class Meta:
        unknown = EXCLUDE

    action = fields.String(required=True)
    jobids = fields.List(
        fields.String(validate=validate.Regexp(r"[0-9]{1,12}\Z")),
        required=True,
        validate=validate.Length(1, 500),
    )


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
