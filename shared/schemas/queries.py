"""What may stand behind the question mark; what else stands there is passed over."""

from marshmallow import Schema, fields, validate


class GrantQuerySchema(Schema):
    """The API key that is exchanged; without a grant_type the sign-in page is served."""

    grant_type = fields.String(validate=validate.OneOf(["client_credentials"]))
    client_id = fields.String()
    client_secret = fields.String()
    scope = fields.String(load_default="user")


class FilterQuerySchema(Schema):
    """Terms, separated by commas; all must hold."""

    filter = fields.String(load_default="")


class PageQuerySchema(Schema):
    """One page of a list."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, 500))
    start_cursor = fields.String(
        load_default="", metadata={"description": "the `next_cursor` of the page before"}
    )


class NextQuerySchema(Schema):
    """What a download daemon asks for."""

    count = fields.Integer(load_default=50, validate=validate.Range(0, 9999))
    location = fields.String(
        load_default="",
        validate=validate.Length(0, 200),
        metadata={"description": "that of the jobs; without it, jobs without a location"},
    )


class TaskQuerySchema(Schema):
    """One task of the job."""

    tid = fields.String(validate=validate.Regexp(r"[0-9]{1,9}\Z"))


class ListQuerySchema(FilterQuerySchema):
    """A page of a filtered list."""

    filter = fields.String(
        load_default="",
        metadata={
            "description": "terms FIELD_OP_VALUE, separated by commas, all of which must hold, e.g. "
            "status_in_failed|killed,created_at_gte_2026-03-01; OP is eq, ne, in, and for numbers and moments gt, gte, "
            "lt, lte; a comma inside a value is written \\,"
        },
    )
    fields_ = fields.String(
        load_default="",
        data_key="fields",
        metadata={"description": "which columns, separated by commas; all when nothing is said"},
    )
    limit = fields.Integer(load_default=500, validate=validate.Range(1, 500))
    start_cursor = fields.String(
        load_default="", metadata={"description": "the `next_cursor` of the page before"}
    )


class LogQuerySchema(Schema):
    """Which log, and what of it the caller has."""

    job = fields.String(required=True)
    task = fields.String(required=True)
    num_lines = fields.List(
        fields.Integer(validate=validate.Range(0)),
        data_key="num_lines[]",
        metadata={"description": "how many lines the caller has, for each attempt in turn"},
    )


class UsageQuerySchema(Schema):
    """A period, as JSON; the last 31 days where nothing is said."""

    filter = fields.String(
        load_default="",
        metadata={
            "description": "a list of objects with field (start_time), op (>= > < <= ==) and value (a day or a moment)"
        },
    )
    group_by = fields.String(load_default="", metadata={"description": '["start_time"]'})
    order_by = fields.String(load_default="", metadata={"description": "start_time"})


class StorageUsageQuerySchema(Schema):
    """Days, without the end itself."""

    start = fields.Date(required=True)
    end = fields.Date(required=True)
