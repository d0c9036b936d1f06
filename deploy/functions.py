"""Read deploy/functions.yaml, the one table of functions, and refuse it when a field is wrong."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

TABLE_PATH = Path(__file__).with_name("functions.yaml")
CRON = re.compile(r"^(\*|[\d,/*-]+)( (\*|[\d,/*-]+)){4}$")
NAME = re.compile(r"^[a-z][a-z0-9-]{2,40}$")
VARIABLE = re.compile(r"^[A-Z][A-Z0-9_]*$")


class InvalidTable(Exception):
    """The table of functions has a wrong field; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A Pub/Sub topic that is pushed to a function."""

    name: str
    ack_deadline_s: int
    retry_min_s: int
    retry_max_s: int
    max_attempts: int

    @property
    def dead_letter_name(self) -> str:
        return f"{self.name}-dead"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A Cloud Scheduler job. `local_interval_s` replaces `cron` on one machine."""

    name: str
    path: str
    cron: str
    local_interval_s: float


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function: an entry point of main.py, its size, and everything that calls it."""

    name: str
    memory_mib: int
    timeout_s: int
    concurrency: int
    local_workers: int
    secrets: tuple[str, ...]
    settings: tuple[str, ...]
    routes: tuple[str, ...]
    topics: tuple[Topic, ...]
    schedules: tuple[Schedule, ...]


class TopicSchema(Schema):
    """Limits are Pub/Sub's. Source: google-cloud-pubsub 2.44.0, types/pubsub.py, 2026-11-20."""

    ack_deadline_s = fields.Integer(strict=True, required=True, validate=validate.Range(10, 600))
    retry_min_s = fields.Integer(strict=True, required=True, validate=validate.Range(0, 600))
    retry_max_s = fields.Integer(strict=True, required=True, validate=validate.Range(0, 600))
    max_attempts = fields.Integer(strict=True, required=True, validate=validate.Range(5, 100))

    @validates_schema
    def check_order(self, topic: dict[str, Any], **_: object) -> None:
        if topic["retry_min_s"] > topic["retry_max_s"]:
            raise ValidationError("must not be below retry_min_s", "retry_max_s")


class ScheduleSchema(Schema):
    path = fields.String(required=True, validate=validate.Regexp(r"^/[a-z-]+$"))
    cron = fields.String(required=True, validate=validate.Regexp(CRON, error="not a unix-cron"))
    local_interval_s = fields.Float(required=True, validate=validate.Range(0.1, 86400))


class FunctionSchema(Schema):
    """Limits are Cloud Run functions'. Source: firebase.google.com/docs/functions/quotas."""

    memory_mib = fields.Integer(strict=True, required=True, validate=validate.Range(128, 32768))
    timeout_s = fields.Integer(strict=True, required=True, validate=validate.Range(1, 3600))
    concurrency = fields.Integer(strict=True, required=True, validate=validate.Range(1, 1000))
    local_workers = fields.Integer(strict=True, required=True, validate=validate.Range(1, 16))
    secrets = fields.List(fields.String(validate=validate.Regexp(VARIABLE)), load_default=list)
    settings = fields.List(fields.String(validate=validate.Regexp(VARIABLE)), load_default=list)
    routes = fields.List(fields.String(validate=validate.Regexp(r"^/")), load_default=list)
    topics = fields.Dict(
        fields.String(validate=validate.Regexp(NAME)),
        fields.Nested(TopicSchema),
        load_default=dict,
    )
    schedules = fields.Dict(
        fields.String(validate=validate.Regexp(NAME)),
        fields.Nested(ScheduleSchema),
        load_default=dict,
    )

    @validates_schema
    def check_deadlines(self, function: dict[str, Any], **_: object) -> None:
        """A push is cut at the acknowledgement deadline: a longer time-out could never be used."""
        for name, topic in function["topics"].items():
            if topic["ack_deadline_s"] > function["timeout_s"]:
                wrong = {name: {"value": {"ack_deadline_s": ["must not exceed timeout_s"]}}}
                raise ValidationError({"topics": wrong})

    @post_load
    def make(self, loaded: dict[str, Any], **_: object) -> dict[str, Any]:
        return loaded | {
            "secrets": tuple(loaded["secrets"]),
            "settings": tuple(loaded["settings"]),
            "routes": tuple(loaded["routes"]),
            "topics": tuple(Topic(name=n, **topic) for n, topic in loaded["topics"].items()),
            "schedules": tuple(Schedule(name=n, **s) for n, s in loaded["schedules"].items()),
        }


def load_functions(path: Path = TABLE_PATH) -> tuple[Function, ...]:
    """Return the functions of the table in its order.

    Raises: InvalidTable, naming the function and the field.
    """
    try:
        table = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as exc:
        raise InvalidTable(f"{path}: {exc}") from exc
    if not isinstance(table, dict) or not table:
        raise InvalidTable(f"{path}: expected a mapping of function names")
    functions = tuple(_function(str(name), row, path) for name, row in table.items())
    topics = [topic.name for function in functions for topic in function.topics]
    if doubled := {name for name in topics if topics.count(name) > 1}:
        raise InvalidTable(f"{path}: topics of two functions: {', '.join(sorted(doubled))}")
    return functions


def _function(name: str, row: object, path: Path) -> Function:
    if not NAME.match(name):
        raise InvalidTable(f"{path}: {name!r} is not a function name")
    if not isinstance(row, dict):
        raise InvalidTable(f"{path}: {name}: expected a mapping")
    try:
        return Function(name=name, **FunctionSchema().load(row))
    except ValidationError as exc:
        raise InvalidTable(f"{path}: {'; '.join(_reasons(name, exc.messages))}") from exc


def _reasons(where: str, messages: object) -> list[str]:
    """Flatten marshmallow's nested messages into `submit.topics.expand.ack_deadline_s: reason`."""
    if isinstance(messages, Mapping):
        # a Dict field wraps what is wrong with an entry in "key" or "value"
        named = {
            f"{where}.{key}" if key not in ("key", "value") else where: m
            for key, m in messages.items()
        }
        return [reason for path, m in named.items() for reason in _reasons(path, m)]
    if isinstance(messages, list):
        return [f"{where}: {' '.join(str(m) for m in messages)}"]
    return [f"{where}: {messages}"]
