"""The shape of what every command answers with --json: what scripts may count on."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from shared import wiring
from shared.core.replay import PlanInputs, PlannedTick
from shared.models.farm import Decision, PoolKey, Took
from shared.services.kept_ticks import keep_tick
from shared.services.meter import meter
from tests.golden_files import check_golden
from tests.tools.commands import told
from tests.tools.conftest import Studio
from tests.tools.test_books import die, order
from tests.tools.test_commands import LEAVES
from tests.tools.test_orchestrators import ROOT, described, learn

pytestmark = pytest.mark.golden
POOL = PoolKey("us-east1-b", "cpu-4-16", True)
# Their keys are names that somebody chose, statuses or facts.
FREE = {
    "zones",
    "pool_switches",
    "placement",
    "counts",
    "metadata",
    "facts",
    "by_project_micros",
    "body",
    "before",
    "after",
}


def shape_of(value: Any, name: str = "") -> Any:
    """Return what kind of value stands where; of a list, its first entry's."""
    if name in FREE:
        return type(value).__name__
    if isinstance(value, dict):
        return {key: shape_of(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [shape_of(each) for each in value[:1]]
    if value is None:
        return "null"
    if isinstance(value, str) and is_moment(value):
        return "moment"
    return type(value).__name__


def is_moment(text: str) -> bool:
    try:
        return "T" in text and datetime.fromisoformat(text).utcoffset() is not None
    except ValueError:
        return False


class Recorder:
    """Runs commands and notes the shapes of their answers."""

    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}
        self._names = {" ".join(path) for path, _ in LEAVES}

    def __call__(self, *words: object) -> dict[str, Any]:
        answer = told(*words)
        spoken = " ".join(str(each) for each in words[:3])
        name = max((each for each in self._names if f"{spoken} ".startswith(f"{each} ")), key=len)
        self.shapes.setdefault(name, shape_of(answer))
        return answer


@pytest.mark.usefixtures("dead_topics")
def test_every_command_answers_in_its_shape(studio: Studio, tmp_path: Path) -> None:
    do = Recorder()
    account, farm = studio.account_id, studio.farm
    do("account", "create", "reef", "--name", "Reef", "--variable", "A=1")
    do("account", "edit", "reef", "--name", "Kelp")
    do("account", "show", "reef")
    do("account", "list")
    do("account", "limits", "set", "reef", "--max-instances", 5)
    do("account", "limits", "show", "reef")
    do("account", "defaults", "set", "reef", "--variable", "A=2")
    do("account", "defaults", "show", "reef")
    record_people(do, studio, tmp_path)
    do("catalog", "load", ROOT / "catalog")
    record_limits(do, account)
    (tmp_path / "packages.yaml").write_text((ROOT / "catalog" / "packages.yaml").read_text())
    types = (ROOT / "catalog" / "instance_types.yaml").read_text()
    (tmp_path / "instance_types.yaml").write_text(types.replace("cores: 2,", "cores: 3,"))
    do("catalog", "diff", tmp_path)
    do("catalog", "show")
    record_orchestrators(do, tmp_path)
    record_jobs(do, studio)
    meter(account, wiring.now().date(), farm.ports)
    do("usage", "days", account)
    do("audit", "run", account)
    die("admit", order(farm, 1), order(farm, 2))
    first = do("dead-letter", "list")["dead_letters"][0]["message_id"]
    do("dead-letter", "replay", "--id", first)
    do("dead-letter", "discard", "--topic", "admit", "--yes")
    assert set(do.shapes) == {" ".join(path) for path, _ in LEAVES}
    check_golden("administration", do.shapes)


def record_limits(do: Recorder, account: str) -> None:
    do("budget", "set", account, "--project", "otter", "--dollars", "1000", "--monthly")
    do("budget", "list", account)
    do("budget", "remove", account, "--project", "otter", "--yes")
    do("licence", "set", account, "arnold", 20)
    do("licence", "list", account)
    do("licence", "remove", account, "arnold", "--yes")


def record_people(do: Recorder, studio: Studio, folder: Path) -> None:
    account = studio.account_id
    do("project", "create", account, "reef")
    do("project", "list", account)
    do("project", "archive", account, "reef", "--yes")
    do("project", "activate", account, "reef")
    secret = folder / "password"
    kai = do("user", "create", account, "kai@x.example", "--password-file", secret)["user_id"]
    do("user", "projects", "set", account, kai, "otter")
    do("project", "members", "add", account, "reef", kai)
    do("project", "members", "list", account, "reef")
    do("project", "members", "remove", account, "otter", kai)
    do("user", "list", account)
    do("user", "show", account, kai)
    do("user", "role", "set", account, kai, "admin")
    do("user", "disable", account, kai, "--yes")
    do("user", "enable", account, kai)
    key = do("key", "create", account, kai)["client_id"]
    do("key", "list", account)
    new = do("key", "rotate", key, "--yes")["client_id"]
    do("key", "revoke", new, "--yes")
    do("user", "remove", account, kai, "--yes")
    ring, first, second = (folder / name for name in ("ring", "first", "second"))
    ring.write_text(f"old:{'s' * 48}")
    do("signing-keys", "add", ring, "--output", first)
    do("signing-keys", "switch", first, "--output", second)


def record_orchestrators(do: Recorder, folder: Path) -> None:
    do("orchestrator", "create", described(folder, instance_types=["cpu-4-16"]))
    do("orchestrator", "save", described(folder, instance_types=["cpu-4-16"]))
    store, now = wiring.orchestrator_store(), wiring.now()
    learn("nomad-east", POOL)
    decision = Decision(pool=POOL, grow=("baton-1",), reason="too few", facts={"waiting": 3})
    took = Took(plan_ms=1.5, tick_s=0.25)
    store.save_decisions("nomad-east", [decision], {POOL: {"booting": 1}}, now, took)
    do("orchestrator", "edit", "nomad-east", "--set", "boot_s=90")
    do("orchestrator", "show", "nomad-east")
    do("orchestrator", "list")
    do("orchestrator", "off", "nomad-east", "--yes")
    do("orchestrator", "on", "nomad-east")
    do("pool", "list")
    do("pool", "show", POOL.pool_id)
    do("pool", "switch", POOL.pool_id, "on", "--orchestrator", "nomad-east")
    do("autoscale", "explain", POOL.pool_id)
    inputs = PlanInputs(orchestrator=store.orchestrator("nomad-east"), now=now)
    keep_tick(PlannedTick(inputs=inputs, decisions=(decision,), plan_ms=1.5), wiring.blobs())
    (folder / "policy.yaml").write_text("idle_s: 90")
    mine = ("--orchestrator", "nomad-east")
    do(*("autoscale", "replay", f"{now:%Y-%m-%d}", *mine, "--policy", folder / "policy.yaml"))


def record_jobs(do: Recorder, studio: Studio) -> None:
    account, farm = studio.account_id, studio.farm
    ref = farm.submit(2, scouts=[0])
    job = (account, ref.job_id)
    agent = farm.agent(ref)
    agent.claim()
    agent.call("logs", first_line=0, lines=["Fra:1"])
    do("job", "list", account)
    do("job", "show", *job)
    do("job", "log", *job, "0")
    do("job", "release", *job)
    do("job", "edit", *job, "--priority", "8")
    do("job", "hold", *job)
    do("job", "unhold", *job)
    do("job", "kill", *job, "--yes")
    farm.deliver()
    do("job", "reviewed", *job)
    do("job", "retry", *job)
    farm.deliver()


def test_the_golden_file_is_json_that_says_nothing_of_secrets_but_where_they_are_told() -> None:
    shapes = json.loads((ROOT / "tests" / "golden" / "administration.json").read_text())
    telling = {name for name, shape in shapes.items() if "private_key" in json.dumps(shape)}
    assert telling == {"key create", "key rotate"}
