"""Frames: the grammar the clients send, and who is a scout."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.frames import Frames, scout_indices

FRAME = st.integers(-1000, 1000)
SPECS = st.lists(
    st.one_of(
        FRAME.map(str),
        st.tuples(FRAME, FRAME).map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.tuples(FRAME, FRAME, st.integers(1, 50)).map(lambda p: f"{p[0]}-{p[1]}x{p[2]}"),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize(
    ("spec", "frames"),
    [
        ("7", [7]),
        ("1-3", [1, 2, 3]),
        ("1-9x4", [1, 5, 9]),
        ("1-10x4", [1, 5, 9]),
        ("10-14x4,20", [10, 14, 20]),
        ("-5--1x2", [-5, -3, -1]),
        ("-1-1", [-1, 0, 1]),
        ("3-1", [1, 2, 3]),
        ("1, 5", [1, 5]),
        ("5 1 , 1-2", [1, 2, 5]),
        ("0", [0]),
    ],
)
def test_a_spec_names_its_frames(spec: str, frames: list[int]) -> None:
    assert list(Frames.parse(spec)) == frames


@pytest.mark.parametrize(
    "spec",
    [
        "",
        " ",
        ",",
        "a",
        "1-",
        "1-3x0",
        "1-3x-1",
        "1:3",
        "1..3",
        "1-3x",
        "--1",
        "1.5",
        "99999999999",
    ],
)
def test_a_malformed_spec_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=r"frame|step"):
        Frames.parse(spec)


def test_a_long_range_costs_nothing() -> None:
    frames = Frames.parse("0-10000000")
    assert len(frames) == 10_000_001
    assert 9_999_999 in frames


@given(SPECS)
def test_frames_come_once_each_in_ascending_order(parts: list[str]) -> None:
    frames = list(Frames.parse(",".join(parts)))
    assert frames == sorted(set(frames))
    assert len(Frames.parse(" ".join(parts))) == len(frames)


@given(SPECS)
def test_writing_frames_and_reading_them_again_gives_the_same_frames(parts: list[str]) -> None:
    frames = Frames.parse(",".join(parts))
    assert list(Frames.parse(str(frames))) == list(frames)


@given(SPECS, st.lists(FRAME, max_size=8))
def test_frames_meet_others_exactly_when_they_share_one(
    parts: list[str], others: list[int]
) -> None:
    frames = Frames.parse(",".join(parts))
    assert frames.intersects(sorted(others)) == bool(set(frames) & set(others))
    assert all((other in frames) == (other in set(frames)) for other in others)


@given(st.lists(SPECS, max_size=6), SPECS)
def test_scouts_part_the_tasks_by_whether_they_share_a_frame(
    tasks: list[list[str]], scouts: list[str]
) -> None:
    chunks = [Frames.parse(",".join(parts)) for parts in tasks]
    wanted = set(Frames.parse(",".join(scouts)))
    meets = {index for index, chunk in enumerate(chunks) if wanted & set(chunk)}
    found = scout_indices(chunks, Frames.parse(",".join(scouts)))
    assert set(found) == (meets if len(meets) < len(chunks) else set())


def test_tiles_that_share_their_frames_are_scouts_together() -> None:
    tiles = [Frames.parse("1-9x4")] * 4 + [Frames.parse("2")]
    assert scout_indices(tiles, Frames.parse("1, 5")) == [0, 1, 2, 3]


def test_scouts_outside_the_job_make_nothing_wait() -> None:
    assert scout_indices([Frames.parse("1"), Frames.parse("2")], Frames.parse("9")) == []
