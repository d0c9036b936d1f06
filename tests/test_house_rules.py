"""What everybody who changes the code may count on, and no type checker sees."""

import ast
import base64
import inspect
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import functions_framework
import pytest
from flask import Flask

from deploy.functions import load_functions
from shared import errors
from shared.errors import BatonError, Transient
from shared.http import status_of

ROOT = Path(__file__).parents[1]


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports by name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{each.name}" for each in node.names}
    return names


# Each room of drivers, and the suite that tries all of them.
SUITES = {
    "orchestrators": "test_scheduler_contract.py",
    "fleets": "test_fleet_contract.py",
    "blobs": "test_blobs_contract.py",
    "buses": "test_bus_contract.py",
}
# What the wiring can choose; other files in these rooms are parts of one driver.
DRIVERS = sorted(
    (room, name.rpartition(".")[2])
    for name in imported(ROOT / "shared" / "wiring.py")
    for room in SUITES
    if (ROOT / "shared" / room / f"{name.rpartition('.')[2]}.py").exists()
    and name.startswith(f"shared.{room}.")
)
ERRORS: list[type[BatonError]] = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, BatonError) and kind is not BatonError
]
TOPICS = [(function.name, topic.name) for function in load_functions() for topic in function.topics]

# In brackets, so that this file does not hold what it looks for.
FORBIDDEN = {
    "work left to be done": re.compile(r"\b(T[O]DO|FIX[M]E)\b"),
    "a path of somebody's machine": re.compile(r"(?<![\w.}*/<-])/(work|root)\b"),
    "the host of a package registry": re.compile(
        r"registry[.](npmjs|yarnpkg)|pypi[.]org|pythonhosted[.]org|deb[.]debian[.]org"
        r"|(archive|security)[.]ubuntu[.]com|proxy[.]golang[.]org|repo1?[.]maven"
    ),
}


def python_files(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        yield from sorted((ROOT / room).rglob("*.py"))


def settings_of_the_wiring() -> list[str]:
    """Return every constant of shared/wiring.py that is spelled like an environment variable."""
    tree = ast.parse((ROOT / "shared" / "wiring.py").read_text())
    constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    name = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
    return sorted(each for each in constants if isinstance(each, str) and name.fullmatch(each))


def files_of_the_repository() -> list[Path]:
    """Return what git tracks, or would if it were added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = (ROOT / name for name in listed.split("\0") if name)
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("functions/*/main.py")), ids=lambda p: p.parent.name
)
def test_an_entry_point_is_less_than_100_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 100


def test_every_function_of_the_table_has_an_entry_point() -> None:
    there = {path.parent.name for path in ROOT.glob("functions/*/main.py")}
    assert there == {function.name for function in load_functions()}


@pytest.mark.parametrize("kind", ERRORS, ids=[kind.__name__ for kind in ERRORS])
def test_an_error_tells_the_caller_to_change_something_or_to_try_again(
    kind: type[BatonError],
) -> None:
    status = status_of(kind.__new__(kind))
    assert status == 503 if issubclass(kind, Transient) else 400 <= status < 500


def test_the_tree_of_errors_shows_every_error() -> None:
    shown = re.findall(r"── (\w+)", errors.__doc__ or "")
    assert sorted(shown) == sorted(kind.__name__ for kind in ERRORS)


@pytest.mark.parametrize(("room", "driver"), DRIVERS)
def test_every_driver_is_tried_by_the_conformance_suite_of_its_port(room: str, driver: str) -> None:
    suite = ROOT / "tests" / "contracts" / SUITES[room]
    assert f"shared.{room}.{driver}" in imported(suite)


@pytest.mark.parametrize("name", settings_of_the_wiring())
def test_every_setting_is_explained(name: str) -> None:
    pages = [ROOT / "README.md", ROOT / "docs" / "operations.md"]
    assert any(re.search(rf"\b{name}\b", page.read_text()) for page in pages)


def test_only_the_wiring_reads_the_environment() -> None:
    reader = re.compile(r"\bos\.(environ|getenv)\b|from os import .*(environ|getenv)")
    readers = [
        path for path in python_files("shared", "functions") if reader.search(path.read_text())
    ]
    assert readers == [ROOT / "shared" / "wiring.py"]


def test_a_function_starts_without_the_libraries_that_few_requests_need() -> None:
    slow = ("google.cloud.compute", "boto3", "firebase_admin", "kubernetes")
    code = f"import sys, main; print([name for name in sys.modules if name.startswith({slow})])"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_the_page_of_protocols_lists_the_topics_of_the_table_of_functions() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    (section,) = re.findall(r"^## Pub/Sub\b.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    listed = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    assert sorted(listed) == sorted(topic for _, topic in TOPICS)


@pytest.mark.parametrize(("function", "topic"), TOPICS)
def test_a_topic_has_a_handler_in_the_function_it_is_pushed_to(
    function: str,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An empty message is refused by the handler of its topic, and not for lack of one."""
    monkeypatch.setenv("BATON_PUSH_TOKEN", "push-token")
    create_app: Any = functions_framework.create_app
    app: Flask = create_app(function, str(ROOT / "main.py"))
    message = {"message": {"data": base64.b64encode(b"{}").decode()}}
    with caplog.at_level(logging.ERROR, logger="baton"):
        answer = app.test_client().post(
            f"/projects/p/topics/{topic}?token=push-token", json=message
        )
    assert answer.status_code == 204
    (dropped,) = [json.loads(record.message) for record in caplog.records if record.name == "baton"]
    assert (dropped["topic"], dropped["code"]) == (topic, "InvalidRequest")


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in files_of_the_repository()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ]
    assert not found, "\n".join(found)
