"""What clients are answered: these describe it for docs/openapi.json, nothing is dumped through them.

An answer holds what stands here and nothing else.
"""

from typing import Any

from marshmallow import INCLUDE, Schema, fields, validate

from shared.models.account import Period
from shared.models.job import JobStatus
from shared.models.task import Outcome, TaskStatus, WaitingFor


def listed(each: type[Schema]) -> fields.Field[Any]:
    """Return a list, which is there even when it is empty."""
    return fields.List(fields.Nested(each), required=True)


class ReasonSchema(Schema):
    """Why a call was refused."""

    code = fields.String(required=True)
    message = fields.String(required=True)
    fields_ = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        data_key="fields",
        metadata={"description": "what is wrong with which field, by its dotted path in the body"},
    )


class RefusalSchema(Schema):
    """The one body of all refusals, whatever their status."""

    error = fields.Nested(ReasonSchema, required=True)


class NothingSchema(Schema):
    """An empty object."""


class DescriptionSchema(Schema):
    """This document."""

    class Meta:
        unknown = INCLUDE

    openapi = fields.String(required=True)
    info = fields.Dict(required=True)
    paths = fields.Dict(required=True)


class GrantSchema(Schema):
    """A token to call with."""

    access_token = fields.String(required=True)
    token_type = fields.String(required=True, validate=validate.Equal("Bearer"))
    expires_in = fields.Integer(required=True, metadata={"description": "seconds"})
    scope = fields.String(required=True)


class RedirectSchema(Schema):
    """Where the sign-in page sends the browser."""

    redirect_to = fields.Url(required=True)


class NameSchema(Schema):
    """A name."""

    name = fields.String(required=True)


class AccountSchema(Schema):
    """The caller's account."""

    data = fields.Nested(NameSchema, required=True)


class ProjectSchema(Schema):
    """A show."""

    name = fields.String(required=True)
    status = fields.String(required=True, validate=validate.Equal("active"))


class ProjectsSchema(Schema):
    """The projects that the caller may use."""

    data = listed(ProjectSchema)


class CategorySchema(Schema):
    """A heading in the clients' menu."""

    label = fields.String(required=True)
    order = fields.Integer(required=True)


class InstanceTypeSchema(Schema):
    """A machine that can be asked for."""

    name = fields.String(required=True)
    description = fields.String(required=True)
    cores = fields.Integer(required=True)
    cpu = fields.Integer(required=True, metadata={"description": "the same, for old clients"})
    memory = fields.Float(required=True, metadata={"description": "GiB"})
    operating_system = fields.String(required=True)
    gpu = fields.Dict(required=True, allow_none=True)
    categories = fields.List(fields.Nested(CategorySchema), required=True, allow_none=True)


class InstanceTypesSchema(Schema):
    """The instance types that pass the filter."""

    data = listed(InstanceTypeSchema)


class VariableSchema(Schema):
    """A variable, and what to do where it is already set."""

    name = fields.String(required=True)
    value = fields.String(required=True)
    merge_policy = fields.String(required=True)


class PackageSchema(Schema):
    """Software on the nodes."""

    package_id = fields.String(required=True)
    product = fields.String(required=True)
    platform = fields.String(required=True)
    major_version = fields.String(required=True)
    minor_version = fields.String(required=True)
    release_version = fields.String(required=True)
    build_version = fields.String(required=True)
    plugin_host_product = fields.String(required=True)
    plugin_host_version = fields.String(required=True)
    plugins = fields.List(fields.String(), required=True)
    environment = listed(VariableSchema)
    path = fields.String(required=True)


class PackagesSchema(Schema):
    """All software."""

    data = listed(PackageSchema)


class EnvironmentSchema(Schema):
    """What an account adds to each job."""

    account_id = fields.String(required=True)
    env = listed(VariableSchema)


class EnvironmentsSchema(Schema):
    """The variables of the account."""

    data = listed(EnvironmentSchema)


class JobSchema(Schema):
    """A job in a list; only what `fields` asked for."""

    jid = fields.String()
    title = fields.String()
    project = fields.String()
    owner = fields.String()
    status = fields.Enum(JobStatus, by_value=True)
    waiting_for = fields.Enum(WaitingFor, by_value=True, allow_none=True)
    waiting_note = fields.String()
    instance_type = fields.String()
    preemptible = fields.Boolean()
    priority = fields.Integer()
    max_instances = fields.Integer(metadata={"description": "0 is no limit of its own"})
    location = fields.String()
    output_path = fields.String()
    task_count = fields.Integer()
    counts = fields.Dict(
        keys=fields.Enum(TaskStatus, by_value=True),
        values=fields.Integer(),
        metadata={"description": "how many tasks have each status"},
    )
    cost = fields.Float(metadata={"description": "US dollars so far"})
    created_at = fields.AwareDateTime()
    started_at = fields.AwareDateTime(allow_none=True)
    ended_at = fields.AwareDateTime(allow_none=True)
    metadata = fields.Dict(keys=fields.String(), values=fields.String())


class JobsSchema(Schema):
    """Jobs, by ascending id. The cursor is null after the last; until then a page may hold few, or none."""

    data = listed(JobSchema)
    next_cursor = fields.String(required=True, allow_none=True)


class TaskSchema(Schema):
    """A task in a list; only what `fields` asked for. What is an attempt's is the last one's, null before the first."""

    jid = fields.String()
    tid = fields.String()
    status = fields.Enum(TaskStatus, by_value=True)
    frames = fields.String()
    command = fields.String()
    scout = fields.Boolean()
    attempt = fields.Integer(metadata={"description": "the number of the live or the next one"})
    waiting_for = fields.Enum(WaitingFor, by_value=True, allow_none=True)
    outcome = fields.Enum(Outcome, by_value=True, allow_none=True)
    exit_code = fields.Integer(allow_none=True)
    reason = fields.String(allow_none=True)
    instance = fields.String(allow_none=True)
    zone = fields.String(allow_none=True)
    instance_type = fields.String(allow_none=True)
    preemptible = fields.Boolean(allow_none=True)
    note = fields.String(
        allow_none=True, metadata={"description": "why it ran elsewhere than the job asks for"}
    )
    started_at = fields.AwareDateTime(allow_none=True)
    ended_at = fields.AwareDateTime(allow_none=True)
    memory_peak_mib = fields.Integer(allow_none=True)
    minutes = fields.Integer(metadata={"description": "billed, of all attempts"})
    cost = fields.Float(metadata={"description": "US dollars, of all attempts"})


class TasksSchema(Schema):
    """Tasks of one job, by ascending id. The cursor is null after the last."""

    data = listed(TaskSchema)
    next_cursor = fields.String(required=True, allow_none=True)


class ContainerSchema(Schema):
    """What one attempt wrote, without the lines that the caller has."""

    container_id = fields.String(required=True)
    instance_name = fields.String(required=True)
    log = fields.List(fields.String(), required=True)
    timestamp = fields.String(required=True, metadata={"description": "its start, epoch seconds"})


class LogSchema(Schema):
    """The log of a task: one container for each attempt, in order."""

    logs = listed(ContainerSchema)
    new_num_lines = fields.List(fields.Integer(), required=True)
    status_description = fields.String(required=True)
    task_status = fields.Enum(TaskStatus, by_value=True, required=True)


class SubmittedSchema(Schema):
    """The job that a submission became."""

    jobid = fields.String(required=True)
    uri = fields.String(required=True)
    status = fields.String(required=True, validate=validate.Equal("success"))
    body = fields.String(required=True)


class NotedSchema(Schema):
    """It has been done."""

    body = fields.String(required=True, validate=validate.Equal("success"))


class CommandedSchema(NotedSchema):
    """A command has been given."""

    message = fields.String(required=True)


class UsedHourSchema(Schema):
    """What the attempts that ended within an hour come to; costs are US dollars."""

    self_link = fields.Integer(required=True)
    start_time = fields.String(required=True, metadata={"description": "an HTTP date"})
    minutes = fields.Integer(required=True, metadata={"description": "of instances"})
    cores = fields.Float(required=True, metadata={"description": "core-hours"})
    instance_cost = fields.Float(required=True)
    license_cost = fields.Float(required=True)


class UsageSchema(Schema):
    """What was computed, by the hour; one row of zeros when nothing was."""

    data = listed(UsedHourSchema)


class StoredSchema(Schema):
    """What was stored, by the day; costs are US dollars."""

    start_date = fields.Date(required=True)
    end_date = fields.Date(required=True)
    cost_per_day = fields.List(fields.Float(), required=True)
    gibs_per_day = fields.List(fields.Float(), required=True)
    cost = fields.String(required=True)
    gibs_used = fields.String(required=True, metadata={"description": "on average"})
    currency = fields.String(required=True)
    storage_unit = fields.String(required=True)
    monthly_price = fields.String(required=True, metadata={"description": "of a GiB"})
    daily_price = fields.String(required=True)


class StorageUsageSchema(Schema):
    """What was stored: one row."""

    data = listed(StoredSchema)


class BudgetSchema(Schema):
    """A budget, and how far it is used up; amounts are micro-dollars, and of the present period."""

    project = fields.String(
        required=True, allow_none=True, metadata={"description": "null: of the whole account"}
    )
    period = fields.Enum(Period, by_value=True, required=True)
    renews_on = fields.Date(
        required=True, allow_none=True, metadata={"description": "a day in UTC"}
    )
    limit_micros = fields.Integer(required=True)
    spent_micros = fields.Integer(required=True)
    under_way_micros = fields.Integer(
        required=True, metadata={"description": "what attempts in flight are taken to cost"}
    )


class BudgetsSchema(Schema):
    """The budgets of an account, its own first."""

    data = listed(BudgetSchema)
