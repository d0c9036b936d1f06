"""The ticker as a program, calling real servers that stand for functions."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from emulators.ports import find_free_block
from tests.emulators.programs import running
from tests.emulators.upstream import WAIT_S, Call, calls_of, serving
from tests.waiting import until

TABLE = """
autoscale:
  memory_mib: 512
  timeout_s: {timeout_s}
  concurrency: 1
  local_workers: 1
  schedules:
    fast: {{path: /fast, cron: "* * * * *", local_interval_s: 0.1}}
    slow: {{path: /slow, cron: "* * * * *", local_interval_s: 0.1}}
"""


@contextmanager
def ticking(folder: Path, *, port_base: int, timeout_s: int = 30) -> Iterator[Path]:
    """Run the ticker on a table of two schedules; gives its log."""
    table, log = folder / "functions.yaml", folder / "ticker.log"
    table.write_text(TABLE.format(timeout_s=timeout_s))
    arguments = ["--port-base", str(port_base), "--table", str(table)]
    with running("emulators.ticker", *arguments, log=log, env={"BATON_PUSH_TOKEN": "shared"}):
        yield log


def test_each_schedule_is_called_at_its_slots_with_the_shared_token(tmp_path: Path) -> None:
    base = find_free_block()
    with serving(base + 1) as function, ticking(tmp_path, port_base=base):
        calls = calls_of(function)
        seen = [calls.get(timeout=WAIT_S) for _ in range(8)]
    assert {path for path, _ in seen} == {"/fast", "/slow"}
    assert {headers["X-Baton-Token"] for _, headers in seen} == {"shared"}
    slots = [
        datetime.fromisoformat(headers["X-CloudScheduler-ScheduleTime"])
        for path, headers in seen
        if path == "/fast"
    ]
    assert slots == sorted(set(slots))
    gaps = [(b - a).total_seconds() / 0.1 for a, b in pairwise(slots)]
    assert gaps == pytest.approx([round(gap) for gap in gaps])


def test_a_run_that_lasts_long_is_never_overlapped_and_holds_up_no_other(tmp_path: Path) -> None:
    base = find_free_block()
    may_end = threading.Event()
    slow: SimpleQueue[str] = SimpleQueue()
    fast: SimpleQueue[str] = SimpleQueue()

    def handle(call: Call) -> None:
        if call.path == "/slow":
            slow.put(call.headers["X-CloudScheduler-ScheduleTime"])
            may_end.wait(WAIT_S)
        else:
            fast.put(call.path)
        call.answer()

    with serving(base + 1) as function:
        function.handle_call = handle
        with ticking(tmp_path, port_base=base):
            first = slow.get(timeout=WAIT_S)
            for _ in range(5):
                fast.get(timeout=WAIT_S)
            with pytest.raises(Empty):
                slow.get_nowait()
            may_end.set()
            late = datetime.fromisoformat(slow.get(timeout=WAIT_S)) - datetime.fromisoformat(first)
    assert late.total_seconds() > 0.3, "slots that passed during the run are left out"


def test_a_function_that_is_down_is_called_again_once_it_is_back(tmp_path: Path) -> None:
    base = find_free_block()
    with ticking(tmp_path, port_base=base) as log:
        until(lambda: "autoscale-fast: ClientConnectorError" in log.read_text())
        with serving(base + 1) as function:
            calls_of(function).get(timeout=WAIT_S)


def test_a_failing_or_silent_function_is_logged_and_called_again(tmp_path: Path) -> None:
    base = find_free_block()
    asked: SimpleQueue[str] = SimpleQueue()

    def handle(call: Call) -> None:
        asked.put(call.path)
        if call.path == "/fast":
            call.answer(b"broken", 500)
        else:
            threading.Event().wait(1.5)

    with serving(base + 1) as function:
        function.handle_call = handle
        with ticking(tmp_path, port_base=base, timeout_s=1) as log:
            paths = [asked.get(timeout=WAIT_S)]
            while paths.count("/slow") < 2:
                paths.append(asked.get(timeout=WAIT_S))
            until(lambda: "autoscale-slow: TimeoutError" in log.read_text())
            assert "autoscale-fast: 500 broken" in log.read_text()
