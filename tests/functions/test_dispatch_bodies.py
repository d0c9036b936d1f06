"""What agents may say to the function `dispatch`: every field that is wrong is refused by its name."""

from typing import Any

import pytest

from shared.models.job import JobRef
from tests.md5 import md5_of
from tests.services.agent import Agent
from tests.services.calls import (
    BODIES,
    MD5,
    OUTPUT,
    agent_fixture,
    code_of,
    ok,
    ref_fixture,
    stranger_fixture,
)
from tests.services.farm import Farm, farm_fixture, new_farm_fixture
from tests.services.rig import rig_fixture

__all__ = [
    "farm_fixture",
    "new_farm_fixture",
    "rig_fixture",
    "ref_fixture",
    "agent_fixture",
    "stranger_fixture",
]


NO_NUMBERS: list[Any] = [-1, 1.5, "100", True, 1e30]
NO_TEXTS: list[Any] = [None, 7, ["text"]]
NO_NAMES: list[Any] = [*NO_TEXTS, "", "x" * 254, "zone a", "z/a", "z-a\n", "zöne"]
WRONG: dict[tuple[str, str], list[Any]] = {
    **{(call, "claim"): [None, 7, "x" * 15, "x" * 65] for call in BODIES},
    ("claim", "instance"): NO_NAMES,
    ("claim", "zone"): NO_NAMES,
    ("inputs", "md5s"): [None, "x", {MD5: 1}, [1], [None]],
    ("heartbeat", "memory_peak_mib"): NO_NUMBERS,
    ("logs", "first_line"): NO_NUMBERS,
    ("logs", "lines"): [None, "one", [1], [["one"]]],
    ("outputs", "files"): [None, "f", [1], {"f": 1}],
    ("finish", "outputs"): [None, "f", [1], {"f": 1}],
    ("finish", "outcome"): [None, "", "lost", "done", 7, ["success"], {}],
    ("finish", "exit_code"): ["0", 1.5, True],
    ("finish", "reason"): NO_TEXTS,
    ("finish", "memory_peak_mib"): NO_NUMBERS,
}


@pytest.mark.parametrize(("call", "name"), WRONG)
def test_a_field_that_is_wrong_is_refused_by_its_name(
    stranger: Agent, call: str, name: str
) -> None:
    good = {"claim": stranger.claim_id} | BODIES[call]
    for wrong in WRONG[call, name]:
        answer = stranger.send(call, good | {name: wrong})
        assert answer.status_code == 422, (wrong, answer.text)
        assert answer.json is not None
        assert list(answer.json["error"]["fields"]) == [name]


@pytest.mark.parametrize(
    ("call", "name"),
    [("heartbeat", "memory_peak_mib"), ("logs", "first_line"), ("finish", "exit_code")],
)
def test_a_number_that_no_document_can_hold_is_refused(
    farm: Farm, ref: JobRef, agent: Agent, call: str, name: str
) -> None:
    farm.backdate(ref, started=90, alive=90)  # so that the heartbeat is noted
    answer = agent.call(call, **BODIES[call] | {name: 2**63})
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("call", ["outputs", "finish"])
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("relative_path", None),
        ("relative_path", 7),
        ("md5", None),
        ("md5", "0" * 32),
        ("md5", "not base64!"),
        ("size", -1),
        ("size", "7"),
    ],
)
def test_a_file_that_is_described_wrongly_is_refused_by_the_name_of_its_field(
    stranger: Agent, call: str, name: str, wrong: object
) -> None:
    listed = "files" if call == "outputs" else "outputs"
    answer = stranger.call(call, **BODIES[call] | {listed: [OUTPUT | {name: wrong}]})
    assert answer.status_code == 422, answer.text
    assert answer.json is not None
    assert list(answer.json["error"]["fields"]) == [name]


def test_an_md5_that_is_none_is_refused(stranger: Agent) -> None:
    for wrong in ("", "0" * 32, "?", "..", f"../{MD5}"):
        answer = stranger.call("inputs", md5s=[MD5, wrong])
        assert answer.status_code == 422
        assert answer.json is not None
        assert list(answer.json["error"]["fields"]) == ["md5"]


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'"text"', b"null"])
def test_a_body_that_is_no_json_object_is_refused(stranger: Agent, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {stranger.token}"}
    for call in BODIES:
        answer = stranger.web.post(f"/agent/v1/{call}", headers=headers, data=body)
        assert code_of(answer) == (422, "InvalidRequest")


@pytest.mark.parametrize(
    ("call", "name", "item", "most"),
    [
        ("inputs", "md5s", MD5, 500),
        ("logs", "lines", "line", 500),
        ("outputs", "files", OUTPUT, 500),
        ("finish", "outputs", OUTPUT, 100_000),
    ],
)
def test_a_list_that_is_too_long_is_refused(
    stranger: Agent, call: str, name: str, item: object, most: int
) -> None:
    answer = stranger.call(call, **BODIES[call] | {name: [item] * (most + 1)})
    assert code_of(answer) == (413, "TooLarge")


def test_a_list_may_have_500_entries(agent: Agent) -> None:
    files = [OUTPUT | {"relative_path": f"f.{i:04}.exr"} for i in range(500)]
    ok(agent.call("inputs", md5s=[md5_of(b"%d" % i) for i in range(500)]))
    ok(agent.call("logs", first_line=0, lines=["line"] * 500))
    assert len(ok(agent.call("outputs", files=files))["urls"]) == 500
    ok(agent.finish(outputs=files))


@pytest.mark.parametrize("call", ["outputs", "finish"])
@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../f.exr", "a/../../f.exr", "a/./f.exr", "/f.exr", "a//f.exr", "a/", "a\0b"],
)
def test_a_path_that_leaves_the_output_folder_is_refused(
    stranger: Agent, call: str, path: str
) -> None:
    listed = "files" if call == "outputs" else "outputs"
    answer = stranger.call(call, **BODIES[call] | {listed: [OUTPUT | {"relative_path": path}]})
    assert answer.status_code == 422, answer.text
    assert answer.json is not None
    assert list(answer.json["error"]["fields"]) == ["relative_path"]


@pytest.mark.parametrize(
    "path",
    ["..\\..\\f.exr", "a\\..\\..\\f.exr", "C:\\f.exr", "C:/f.exr", "\\f.exr", "a\nb.exr", "a\x7f"],
)
def test_a_path_that_leaves_the_folder_on_the_artists_windows_is_refused(
    stranger: Agent, path: str
) -> None:
    answer = stranger.call("outputs", files=[OUTPUT | {"relative_path": path}])
    assert answer.status_code == 422, answer.text
