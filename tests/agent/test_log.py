"""What a render says, on its way to those who read it."""

from pathlib import Path

import pytest

from agent.clean import clean_line
from agent.log import BURST_LINES, RenderLog
from tests.agent.conftest import Machine
from tests.agent.server import Farm

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"plain text\twith a tab", "plain text\twith a tab"),
        (b"\x1b[1;31mred\x1b[0m and \x1b[2Kgone", "red and gone"),
        (b"\x1b]0;a title\x07text\x1b]8;;http://x\x1b\\link", "textlink"),
        (b"\x1bPdevice\x1b\\after \x1b(Bset", "after set"),
        (b"bell\x07 null\x00 back\x08 delete\x7f", "bell null back delete"),
        ("c1 \x9b31m csi\x85".encode(), "c1  csi"),
        ("right \u202eto left\u2069".encode(), "right to left"),
        ("ünïcode ✓ 影".encode(), "ünïcode ✓ 影"),
        (b"not \xff\xfe text", "not �� text"),
        (b"my token is TOPSECRET!", "my token is [hidden]!"),
        (b"TOP\x1b[0mSECRET", "[hidden]"),
        (b"Authorization: bearer abc.def-ghi=", "Authorization: [hidden]"),
        (f"got {JWT} here".encode(), "got [hidden] here"),
        (b"GET /x?a=1&X-Goog-Signature=0af3&b=2", "GET /x?a=1&X-Goog-Signature=[hidden]&b=2"),
        (b"bears are no bearers", "bears are no bearers"),
    ],
)
def test_a_line_is_shown_without_control_sequences_and_secrets(line: bytes, shown: str) -> None:
    assert clean_line(line, "TOPSECRET") == shown


def test_a_long_line_is_cut() -> None:
    assert clean_line(b"x" * 10_000, "") == "x" * 4000 + " ... 6000 characters dropped"


def written(log: RenderLog) -> list[str]:
    log.close()
    return log.path.read_text().split("\n")[:-1]


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"one\ntw", b"o\nthr", b"ee"], ["one", "two", "three"]),
        ([b"10%\r20%\r30%\n"], ["10%", "20%", "30%"]),
        ([b"dos\r", b"\nline\r\n"], ["dos", "line"]),
        ([b"10%\r", b"20%\r"], ["10%", "20%"]),
        ([b"", b"\n\n"], ["", ""]),
    ],
)
def test_output_becomes_lines_wherever_it_is_cut(
    tmp_path: Path, chunks: list[bytes], lines: list[str]
) -> None:
    log = RenderLog(tmp_path / "log", "")
    for chunk in chunks:
        log.write(chunk)
    assert written(log) == lines


def test_a_secret_is_hidden_even_when_it_arrives_in_pieces(tmp_path: Path) -> None:
    log = RenderLog(tmp_path / "log", "TOPSECRET")
    for byte in b"it is TOPSECRET\n":
        log.write(bytes([byte]))
    assert written(log) == ["it is [hidden]"]


def test_what_is_too_much_is_counted_and_the_last_lines_are_kept(tmp_path: Path) -> None:
    log = RenderLog(tmp_path / "log", "", max_bytes=1000)
    log.write(b"".join(b"line %d\n" % number for number in range(5000)))
    lines = written(log)
    [mark] = [line for line in lines if "dropped" in line]
    kept = lines.index(mark)
    assert lines[:kept] == [f"line {number}" for number in range(kept)]
    assert lines[kept + 1 :] == [f"line {number}" for number in range(4800, 5000)]
    assert mark == f"... {4800 - kept} lines dropped"


def test_what_comes_too_fast_is_counted(tmp_path: Path) -> None:
    log = RenderLog(tmp_path / "log", "")
    log.write(b"x\n" * (BURST_LINES * 2))
    lines = written(log)
    assert BURST_LINES < len(lines) < BURST_LINES * 2
    assert [line for line in lines if line.endswith(" lines dropped")]


def test_those_who_watch_get_each_line_once(tmp_path: Path) -> None:
    log = RenderLog(tmp_path / "log", "")
    log.write(b"a\nb\n")
    assert log.unsent(500) == (0, ["a", "b"])
    log.mark_sent(1)
    assert log.unsent(500) == (1, ["b"])
    log.write(b"c\nd\n")
    assert log.unsent(2) == (2, ["c", "d"])
    log.mark_sent(4)
    assert log.unsent(500) == (4, [])
    log.close()


def test_a_flood_of_output_is_bounded_and_its_end_is_kept(machine: Machine, farm: Farm) -> None:
    attempt = machine.render(
        "seq 1 400000; printf 'the error is here\\n' >&2; head -c 3M /dev/zero"
    )
    log = farm.log(attempt)
    assert len(log) < 2 << 20
    assert "lines dropped\n" in log
    assert "the error is here\n" in log
    assert "\0" not in log


def test_secrets_and_control_sequences_of_a_render_reach_nobody(
    machine: Machine, farm: Farm
) -> None:
    attempt = farm.add_attempt("true", is_watched=True)
    attempt.command = f"printf 'a \\033[31mred\\033[0m {attempt.token} {JWT} z\\r\\n'; exit 1"
    machine.finish(attempt)
    assert "a red [hidden] [hidden] z\n" in farm.log(attempt)
    assert "\x1b" not in farm.log(attempt)


def test_the_log_is_sent_while_somebody_watches(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt(
        "echo first; while ! test -e /out/go; do sleep 0.05; touch /out/go; done; sleep 600",
        is_watched=True,
    )
    run = machine.start(attempt)
    farm.wait_for("the first line", lambda: "first" in attempt.shown.values())
    assert attempt.finish is None
    attempt.action = "stop"
    assert run.wait() == 0
    numbers = sorted(attempt.shown)
    assert [attempt.shown[number] for number in numbers] == farm.log(attempt).splitlines()
    assert numbers == list(range(len(numbers)))


def test_the_log_is_not_sent_while_nobody_watches(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("seq 1 10; sleep 0.6")
    machine.finish(attempt)
    assert farm.calls["heartbeat"] > 0
    assert farm.calls["logs"] == 0
    assert "10\n" in farm.log(attempt)
