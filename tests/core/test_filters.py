"""The grammar of filters."""

from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.filters import Field, Kind, Term, accepts, read_filter
from shared.errors import InvalidRequest


class Colour(StrEnum):
    RED = "red"
    DARK_RED = "dark_red"


FIELDS: dict[str, Field] = {
    "jid": Kind.NUMBER,
    "title": Kind.NAME,
    "created_at": Kind.MOMENT,
    "preemptible": Kind.FLAG,
    "colour": Colour,
}


def one(text: str) -> Term:
    (term,) = read_filter(text, FIELDS)
    return term


@pytest.mark.parametrize(
    ("text", "field", "op", "value"),
    [
        ("jid_gt_00122", "jid", "gt", 122),
        ("jid_gt_-0001", "jid", "gt", -1),
        ("title_eq_sh_040_v2", "title", "eq", "sh_040_v2"),
        (r"title_eq_a\, b\\c", "title", "eq", r"a, b\c"),
        ("title_eq_", "title", "eq", ""),
        ("title_in_a|b", "title", "in", ("a", "b")),
        ("colour_ne_dark_red", "colour", "ne", Colour.DARK_RED),
        ("colour_in_red|dark_red", "colour", "in", (Colour.RED, Colour.DARK_RED)),
        ("preemptible_eq_true", "preemptible", "eq", True),
        ("created_at_gte_2026-03-02", "created_at", "gte", datetime(2026, 3, 2, tzinfo=UTC)),
        (
            "created_at_lt_2026-03-02T18:30:00+02:00",
            "created_at",
            "lt",
            datetime(2026, 3, 2, 16, 30, tzinfo=UTC),
        ),
    ],
)
def test_a_term_is_read(text: str, field: str, op: str, value: Any) -> None:
    assert one(text) == Term(field=field, op=op, value=value)


@pytest.mark.parametrize(
    "text",
    [
        "jid",
        "jid_gt",
        "jid_gt_x",
        "jid_gt_1_2",
        "jid_like_1",
        "owner_eq_kai",
        "title_gt_a",
        "colour_eq_blue",
        "colour_in_red|blue",
        "preemptible_eq_yes",
        "created_at_gt_yesterday",
        "created_at_gt_0001-01-01",
        "created_at_gt_9999-12-31",
        "jid_gt_" + "9" * 5000,
        "jid_gt_٣",
        ",".join(["jid_gt_1"] * 21),
        "title_in_" + "|" * 200,
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read_filter(text, FIELDS)
    assert list(raised.value.fields) == ["filter"]
    assert len(str(raised.value)) < 1000


def test_terms_are_separated_by_commas_and_may_be_none() -> None:
    assert read_filter("", FIELDS) == read_filter(" , ,", FIELDS) == []
    assert [each.op for each in read_filter("jid_gt_1, jid_lt_5", FIELDS)] == ["gt", "lt"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("jid_eq_2", [2]),
        ("jid_ne_2", [1, 3, None]),
        ("jid_gt_2", [3]),
        ("jid_gte_2", [2, 3]),
        ("jid_lt_2", [1]),
        ("jid_lte_2", [1, 2]),
        ("jid_in_1|3", [1, 3]),
    ],
)
def test_a_term_accepts_what_fulfils_it(text: str, values: list[int | None]) -> None:
    assert [each for each in (1, 2, 3, None) if one(text).accepts(each)] == values


def test_terms_about_what_is_not_known_yet_rule_nothing_out() -> None:
    terms = read_filter("jid_gt_1,title_eq_a", FIELDS)
    assert accepts(terms, {"jid": 2})
    assert not accepts(terms, {"jid": 2, "title": "b"})


@given(st.text(max_size=50))
def test_any_name_can_be_written_and_any_text_is_read_or_refused(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace(",", "\\,")
    if text == text.strip():
        assert one(f"title_eq_{escaped}").value == text
    with suppress(InvalidRequest):
        read_filter(text, FIELDS)
