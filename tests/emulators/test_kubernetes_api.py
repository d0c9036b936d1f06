"""Kubernetes' API server: what it promises to a driver and to kubelets, and pods that really run."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.emulators.farm import (
    Compute,
    StandIn,
    can_limit_memory,
    is_running,
    stand_in,
)
from tests.waiting import until

Wire = dict[str, Any]
JOBS = "/apis/batch/v1/namespaces/baton/jobs"
PODS = "/api/v1/namespaces/baton/pods"
NODES = "/api/v1/nodes"
MERGE = {"Content-Type": "application/strategic-merge-patch+json"}
DISRUPTED = [{"type": "DisruptionTarget", "status": "True"}]
GPU = "nvidia.com/gpu"


class Kubernetes(StandIn):
    """The stand-in, and nodes which do what the test says."""

    def call(self, method: str, path: str, body: object = None, **query: str) -> requests.Response:
        headers = MERGE if method == "PATCH" else {}
        return requests.request(
            method, self.url + path, json=body, params=query, headers=headers, timeout=40
        )

    def ask(self, method: str, path: str, body: object = None, **query: str) -> Any:
        """Return the JSON of a call that must succeed."""
        reply = self.call(method, path, body, **query)
        assert reply.ok, reply.text
        return reply.json()

    def node(self, name: str = "n1", cpu: str = "4", **spec: Any) -> None:
        labels = {"kubernetes.io/hostname": name, "pool": spec.pop("pool", "p")}
        gpus = {GPU: spec.pop("gpus")} if "gpus" in spec else {}
        status = {
            "allocatable": {"cpu": cpu, "memory": "16Gi", "pods": "110", **gpus},
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        metadata = {"name": name, "labels": labels}
        self.ask("POST", NODES, {"metadata": metadata, "spec": spec, "status": status})

    def beat(self, name: str) -> None:
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        self.ask("PATCH", f"{NODES}/{name}/status", {"status": ready})

    def pods(self, **query: str) -> list[Wire]:
        found: list[Wire] = self.ask("GET", PODS, **query)["items"]
        return found

    def report(self, pod: Wire, phase: str, code: int = 0, **more: Any) -> None:
        ended = {"terminated": {"exitCode": code}}
        status = {"phase": phase, "containerStatuses": [{"name": "c", "state": ended}], **more}
        self.ask("PATCH", f"{PODS}/{pod['metadata']['name']}/status", {"status": status})

    def finish(self, name: str = "j") -> tuple[str, str]:
        """Return how a Job finished, and why; empty when it has not."""
        for each in self.ask("GET", f"{JOBS}/{name}")["status"].get("conditions", []):
            if each["type"] in ("Complete", "Failed"):
                return each["type"], each["reason"]
        return "", ""


def a_job(name: str = "j", pod: Wire | None = None, **spec: Any) -> Wire:
    container = {"name": "c", "image": "i", "command": ["true"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container], **(pod or {})}}
    labels = {"team": "a"}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"backoffLimit": 0, "template": template, **spec},
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    started = Kubernetes("emulators.kubernetes", tmp_path_factory.mktemp("kubernetes"))
    with stand_in(started):
        yield started


@pytest.fixture
def cluster(server: Kubernetes) -> Kubernetes:
    server.ask("POST", "/reset")
    return server


# Objects


def test_an_object_is_created_once(cluster: Kubernetes) -> None:
    made = cluster.ask("POST", JOBS, a_job())
    assert made["metadata"]["namespace"] == "baton"
    assert made["metadata"]["uid"]
    refused = cluster.call("POST", JOBS, a_job())
    assert refused.status_code == 409
    assert refused.json()["kind"] == "Status"
    assert refused.json()["reason"] == "AlreadyExists"
    assert refused.json()["message"] == 'jobs.batch "j" already exists'


@pytest.mark.parametrize(
    ("job", "field"),
    [
        (a_job("Not_A_Name"), "metadata.name"),
        (a_job("x" * 64), "metadata.name"),
        (a_job(pod={"restartPolicy": "Always"}), "spec.template.spec.restartPolicy"),
        (a_job(pod={"containers": []}), "spec.template.spec.containers"),
        (a_job(podReplacementPolicy="TerminatingOrFailed", podFailurePolicy={"rules": []}),
         "spec.podReplacementPolicy"),
        (a_job(parallelism=2), "spec.parallelism"),
    ],
)  # fmt: skip
def test_a_job_that_cannot_be_is_refused(cluster: Kubernetes, job: Wire, field: str) -> None:
    refused = cluster.call("POST", JOBS, job)
    assert refused.status_code == 422
    assert refused.json()["reason"] == "Invalid"
    assert refused.json()["details"]["causes"][0]["field"] == field
    assert cluster.ask("GET", JOBS)["items"] == []


def test_what_is_not_there_is_a_status_of_its_own(cluster: Kubernetes) -> None:
    missing = cluster.call("GET", f"{JOBS}/none")
    assert (missing.status_code, missing.json()["reason"]) == (404, "NotFound")
    assert cluster.call("POST", "/apis/batch/v1/namespaces/none/jobs", a_job()).status_code == 404
    assert cluster.call("GET", "/apis/batch/v2/jobs").status_code == 404
    assert cluster.call("POST", JOBS, {"metadata": {"name": "j"}}).status_code == 400


def test_a_jobs_template_cannot_be_changed(cluster: Kubernetes) -> None:
    cluster.ask("POST", JOBS, a_job())
    refused = cluster.call("PATCH", f"{JOBS}/j", {"spec": {"backoffLimit": 3}})
    assert refused.status_code == 422
    assert cluster.ask("PATCH", f"{JOBS}/j", {"spec": {"suspend": True}})["spec"]["suspend"]


def test_lists_are_selected_and_paged(cluster: Kubernetes) -> None:
    for index in range(5):
        job = a_job(f"j{index}")
        job["metadata"]["labels"] = {"team": "a" if index < 4 else "b"}
        cluster.ask("POST", JOBS, job)
    names, token, pages = [], "", 0
    while True:
        page = cluster.ask("GET", JOBS, labelSelector="team=a", limit="3", **{"continue": token})
        names += [each["metadata"]["name"] for each in page["items"]]
        pages += 1
        if not (token := page["metadata"].get("continue", "")):
            break
    assert (names, pages) == (["j0", "j1", "j2", "j3"], 2)
    assert cluster.ask("GET", JOBS, labelSelector="team notin (a)")["items"][0]["metadata"][
        "name"
    ] == ("j4")
    assert cluster.call("GET", JOBS, **{"continue": "?"}).status_code == 400
    assert cluster.call("GET", JOBS, fieldSelector="spec.none=1").status_code == 400


def test_a_watch_tells_what_has_changed_since(cluster: Kubernetes) -> None:
    version = cluster.ask("GET", JOBS)["metadata"]["resourceVersion"]
    cluster.ask("POST", JOBS, a_job())
    seen = cluster.call("GET", JOBS, watch="true", resourceVersion=version)
    (event,) = [json.loads(line) for line in seen.text.splitlines()]
    assert event["object"]["metadata"]["name"] == "j"
    version = event["object"]["metadata"]["resourceVersion"]
    cluster.ask("DELETE", f"{JOBS}/j")
    seen = cluster.call("GET", JOBS, watch="true", resourceVersion=version)
    assert json.loads(seen.text.splitlines()[-1])["type"] == "DELETED"
    assert cluster.call("GET", JOBS, watch="true", resourceVersion="1").status_code == 410


# Scheduling


def test_a_pod_without_a_node_waits_and_says_why(cluster: Kubernetes) -> None:
    cluster.node("n1", cpu="1")
    cluster.node("n2", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
    cluster.node("n3", pool="other")
    resources = {"requests": {"cpu": "1500m"}}
    container = {"name": "c", "image": "i", "command": ["true"], "resources": resources}
    cluster.ask("POST", JOBS, a_job(pod={"containers": [container], "nodeSelector": {"pool": "p"}}))
    (pod,) = cluster.pods()
    (condition,) = pod["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert condition["message"].startswith("0/3 nodes are available: ")
    for part in ("didn't match", "untolerated taint {k: v}", "1 Insufficient cpu"):
        assert part in condition["message"]
    cluster.node("n4", cpu="2")
    assert cluster.pods()[0]["spec"]["nodeName"] == "n4"


def test_a_pod_of_a_class_that_is_missing_starts_when_it_is_there(cluster: Kubernetes) -> None:
    cluster.node()
    cluster.ask("POST", JOBS, a_job(pod={"priorityClassName": "high"}))
    assert cluster.pods() == []
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    cluster.ask("POST", classes, {"metadata": {"name": "high"}, "value": 7})
    (pod,) = cluster.pods()
    assert pod["spec"]["priority"] == 7


def _affinity(required: list[Wire] | None = None, preferred: list[Wire] | None = None) -> Wire:
    found: Wire = {}
    if required is not None:
        terms = {"nodeSelectorTerms": required}
        found["requiredDuringSchedulingIgnoredDuringExecution"] = terms
    if preferred is not None:
        found["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return {"affinity": {"nodeAffinity": found}}


def _named(operator: str, *names: str) -> Wire:
    return {"key": "metadata.name", "operator": operator, "values": list(names)}


def _pool(operator: str, *pools: str) -> Wire:
    return {"matchExpressions": [{"key": "pool", "operator": operator, "values": list(pools)}]}


def test_a_pod_goes_to_the_node_whose_preferences_weigh_most_and_to_another_when_that_is_full(
    cluster: Kubernetes,
) -> None:
    for name, pool in (("n1", "a"), ("n2", "b"), ("n3", "c")):
        cluster.node(name, cpu="1", pool=pool)
    preferred = [
        {"weight": 60, "preference": _pool("NotIn", "a")},
        {"weight": 50, "preference": _pool("In", "c")},
    ]
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    pod = {"containers": [container], **_affinity(preferred=preferred)}
    for number in range(3):
        cluster.ask("POST", JOBS, a_job(f"j{number}", pod))
    found = {
        each["metadata"]["labels"]["job-name"]: each["spec"]["nodeName"] for each in cluster.pods()
    }
    assert found == {"j0": "n3", "j1": "n2", "j2": "n1"}


def test_a_term_may_leave_out_nodes_by_their_names(cluster: Kubernetes) -> None:
    for name in ("n1", "n2", "n3"):
        cluster.node(name)
    terms = [{**_pool("In", "p"), "matchFields": [_named("NotIn", "n1"), _named("NotIn", "n2")]}]
    cluster.ask("POST", JOBS, a_job(pod=_affinity(terms)))
    assert [pod["spec"]["nodeName"] for pod in cluster.pods()] == ["n3"]


@pytest.mark.parametrize(
    ("affinity", "field"),
    [
        (_affinity([]), "nodeSelectorTerms"),
        (_affinity([{"matchFields": [_named("NotIn", "n1", "n2")]}]), "matchFields"),
        (_affinity([{"matchFields": [_named("Exists")]}]), "matchFields"),
        (_affinity([{"matchFields": [{**_named("In", "a"), "key": "pool"}]}]), "matchFields"),
        (_affinity([_pool("NotIn")]), "matchExpressions"),
        (_affinity([_pool("Exists", "a")]), "matchExpressions"),
        (_affinity(preferred=[{"weight": 0, "preference": _pool("In", "a")}]), "weight"),
        (_affinity(preferred=[{"weight": 101, "preference": _pool("In", "a")}]), "weight"),
    ],
)
def test_an_affinity_that_cannot_be_is_refused(
    cluster: Kubernetes, affinity: Wire, field: str
) -> None:
    refused = cluster.call("POST", JOBS, a_job(pod=affinity))
    assert refused.status_code == 422
    assert refused.json()["details"]["causes"][0]["field"].endswith(field)


def _gpu_pod(count: str, **resources: Wire) -> Wire:
    container = {"name": "c", "image": "i", "resources": {"limits": {GPU: count}, **resources}}
    return {"containers": [container], "tolerations": [{"key": GPU, "operator": "Exists"}]}


def test_gpus_are_given_whole_and_to_one_pod_each(cluster: Kubernetes) -> None:
    taint = {"key": GPU, "value": "present", "effect": "NoSchedule"}
    cluster.node("n1")
    cluster.node("n2", gpus="2", taints=[taint])
    for number, pod in enumerate((_gpu_pod("1"), _gpu_pod("2"), _gpu_pod("1"), {})):
        cluster.ask("POST", JOBS, a_job(f"j{number}", pod))
    pods = {each["metadata"]["labels"]["job-name"]: each for each in cluster.pods()}
    assert {name: each["spec"].get("nodeName") for name, each in pods.items()} == {
        "j0": "n2", "j1": None, "j2": "n2", "j3": "n1",
    }  # fmt: skip
    (condition,) = pods["j1"]["status"]["conditions"]
    assert "2 Insufficient nvidia.com/gpu" in condition["message"]
    uneven = _gpu_pod("2", requests={GPU: "1"})
    assert cluster.call("POST", JOBS, a_job("j4", uneven)).status_code == 422


# Jobs


@pytest.mark.parametrize(
    ("phase", "conditions", "finish"),
    [
        ("Succeeded", [], ("Complete", "CompletionsReached")),
        ("Failed", [], ("Failed", "BackoffLimitExceeded")),
        ("Failed", DISRUPTED, ("Failed", "PodFailurePolicy")),
    ],
)
def test_a_job_finishes_as_its_only_pod_did(
    cluster: Kubernetes, phase: str, conditions: list[Wire], finish: tuple[str, str]
) -> None:
    cluster.node()
    rules = [{"action": "FailJob", "onPodConditions": DISRUPTED}]
    cluster.ask("POST", JOBS, a_job(podFailurePolicy={"rules": rules}))
    (pod,) = cluster.pods()
    cluster.report(pod, phase, code=int(phase == "Failed"), conditions=conditions)
    assert cluster.finish() == finish
    assert len(cluster.pods()) == 1


def test_a_job_with_tries_left_starts_another_pod(cluster: Kubernetes) -> None:
    cluster.node()
    cluster.ask("POST", JOBS, a_job(backoffLimit=1))
    cluster.report(cluster.pods()[0], "Failed", 1)
    assert cluster.finish() == ("", "")
    (left,) = [pod for pod in cluster.pods() if pod["status"]["phase"] != "Failed"]
    cluster.report(left, "Failed", 1)
    assert cluster.finish() == ("Failed", "BackoffLimitExceeded")


def test_a_suspended_job_asks_its_pod_to_end_and_starts_none(cluster: Kubernetes) -> None:
    cluster.node()
    cluster.ask("POST", JOBS, a_job(pod={"terminationGracePeriodSeconds": 7}))
    cluster.ask("PATCH", f"{JOBS}/j", {"spec": {"suspend": True}})
    (pod,) = cluster.pods()
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 7
    cluster.report(pod, "Failed", 143)
    cluster.ask("DELETE", f"{PODS}/{pod['metadata']['name']}", gracePeriodSeconds="0")
    assert (cluster.pods(), cluster.finish()) == ([], ("", ""))
    cluster.ask("PATCH", f"{JOBS}/j", {"spec": {"suspend": False}})
    assert len(cluster.pods()) == 1


def test_what_a_job_owns_goes_with_it(cluster: Kubernetes) -> None:
    uid = cluster.ask("POST", JOBS, a_job())["metadata"]["uid"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": uid}
    secrets = "/api/v1/namespaces/baton/secrets"
    secret = {"metadata": {"name": "s", "ownerReferences": [owner]}, "stringData": {"k": "v"}}
    assert cluster.ask("POST", secrets, secret)["data"] == {"k": "dg=="}
    cluster.ask("DELETE", f"{JOBS}/j", propagationPolicy="Background")
    assert cluster.pods() == []
    assert cluster.ask("GET", secrets)["items"] == []


def test_a_finished_job_goes_when_its_time_is_over(cluster: Kubernetes) -> None:
    cluster.node()
    cluster.ask("POST", JOBS, a_job(ttlSecondsAfterFinished=0))
    cluster.report(cluster.pods()[0], "Succeeded")
    until(lambda: not cluster.ask("GET", JOBS)["items"])


# Nodes


def test_a_cordoned_node_keeps_its_pod_and_gets_no_more(cluster: Kubernetes) -> None:
    cluster.node()
    cluster.ask("POST", JOBS, a_job("a"))
    cluster.ask("PATCH", f"{NODES}/n1", {"spec": {"unschedulable": True}})
    cluster.ask("POST", JOBS, a_job("b"))
    assert len(cluster.pods(fieldSelector="spec.nodeName=n1")) == 1
    cluster.ask("PATCH", f"{NODES}/n1", {"spec": {"unschedulable": False}})
    assert len(cluster.pods(fieldSelector="spec.nodeName=n1")) == 2


def test_a_silent_node_is_unknown_then_its_pods_are_evicted_then_it_is_gone(tmp_path: Path) -> None:
    patience = ("--node-grace-s", "0.3", "--eviction-s", "0.6", "--node-gone-s", "2")
    cluster = Kubernetes("emulators.kubernetes", tmp_path, *patience)
    with stand_in(cluster):
        cluster.node()
        rules = [{"action": "FailJob", "onPodConditions": DISRUPTED}]
        cluster.ask("POST", JOBS, a_job(podFailurePolicy={"rules": rules}))

        def ready() -> str:
            conditions = cluster.ask("GET", f"{NODES}/n1")["status"]["conditions"]
            return str(next(each["status"] for each in conditions if each["type"] == "Ready"))

        until(lambda: ready() == "Unknown")
        cluster.beat("n1")
        assert ready() == "True"
        until(lambda: "deletionTimestamp" in cluster.pods()[0]["metadata"])
        until(lambda: cluster.finish() == ("Failed", "PodFailurePolicy"))
        assert cluster.call("GET", f"{NODES}/n1").status_code == 404
        assert cluster.pods() == []


# Service


def test_everything_survives_kill_9(tmp_path: Path) -> None:
    cluster = Kubernetes("emulators.kubernetes", tmp_path)
    with stand_in(cluster):
        cluster.ask("POST", JOBS, a_job())
        cluster.kill()
        cluster.start()
        cluster.node()
        assert cluster.pods()[0]["spec"]["nodeName"] == "n1"


def test_a_token_is_demanded_where_one_is_set(tmp_path: Path) -> None:
    cluster = Kubernetes("emulators.kubernetes", tmp_path, "--token", "secret")
    with stand_in(cluster):
        refused = cluster.call("GET", JOBS)
        assert (refused.status_code, refused.json()["reason"]) == (401, "Unauthorized")
        headers = {"Authorization": "Bearer secret"}
        assert requests.get(cluster.url + JOBS, headers=headers, timeout=10).ok
        assert cluster.call("GET", "/healthz").text == "ok"


def test_calls_fail_for_as_long_as_ordered(cluster: Kubernetes) -> None:
    cluster.ask("POST", "/faults", {"calls": 1, "status": 429, "path": "/jobs"})
    refused = cluster.call("GET", JOBS)
    assert (refused.status_code, refused.json()["reason"]) == (429, "TooManyRequests")
    assert refused.headers["Retry-After"] == "1"
    assert cluster.call("GET", JOBS).ok


# Machines


def test_a_machine_runs_a_pods_command_with_its_secret_and_is_gone_with_its_host(
    tmp_path: Path,
) -> None:
    """One story on real processes: success, a failure, a cancelled pod, a lost machine."""
    cluster = Kubernetes("emulators.kubernetes", tmp_path / "kubernetes", "--node-gone-s", "5")
    with stand_in(cluster):
        compute = Compute(
            "emulators.compute", tmp_path / "compute", "--kubernetes", cluster.url,
            "--boot-s", "0.2", "--retry-s", "0.1",
        )  # fmt: skip
        with stand_in(compute):
            compute.template()
            compute.group()
            compute.create("pool-1")
            until(lambda: cluster.ask("GET", NODES)["items"])
            (node,) = cluster.ask("GET", NODES)["items"]
            assert node["metadata"]["labels"]["cloud.google.com/gke-spot"] == "true"
            _run_to_the_end(cluster, tmp_path)
            _tell_pods_of_their_machine(cluster, tmp_path)
            _cancel_while_it_runs(cluster, tmp_path)
            _lose_its_machine(cluster, compute, tmp_path)
            _take_its_machine_back(cluster, compute, tmp_path)


@pytest.mark.skipif(not can_limit_memory(), reason="no right to make memory control groups here")
def test_a_pod_that_needs_more_memory_than_its_limit_is_told_apart(tmp_path: Path) -> None:
    cluster = Kubernetes("emulators.kubernetes", tmp_path / "kubernetes")
    with stand_in(cluster):
        joins = ("--kubernetes", cluster.url, "--boot-s", "0.2")
        compute = Compute("emulators.compute", tmp_path / "compute", *joins)
        with stand_in(compute):
            compute.template()
            compute.group()
            compute.create("pool-1")
            job = _shell("greedy", f"{sys.executable} -c 'bytearray(400 << 20)'; exit $?")
            (container,) = job["spec"]["template"]["spec"]["containers"]
            container["resources"] = {"limits": {"memory": "40Mi"}}
            cluster.ask("POST", JOBS, job)
            until(lambda: cluster.finish("greedy") == ("Failed", "BackoffLimitExceeded"))
            (pod,) = cluster.pods()
            assert _state(pod) == ("terminated", "OOMKilled")


def _shell(name: str, script: str, **env: Any) -> Wire:
    container = {
        "name": "c", "image": "i", "command": ["sh", "-c", script],
        "env": [{"name": key, **value} for key, value in env.items()],
    }  # fmt: skip
    pod = {
        "containers": [container],
        "tolerations": [
            {"key": key, "operator": "Exists"} for key in ("cloud.google.com/gke-spot", GPU)
        ],
    }
    rules = [{"action": "FailJob", "onPodConditions": DISRUPTED}]
    return a_job(name, pod, podFailurePolicy={"rules": rules})


def _tell_pods_of_their_machine(cluster: Kubernetes, path: Path) -> None:
    """Pods know their node's name, and what one leaves in the machine's folder of work, the next one finds there."""
    name = {"valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    leave = f"mkdir -p $BATON_WORK_DIR/left && echo $NAME > {path}/name"
    cluster.ask("POST", JOBS, _shell("first", leave, NAME=name))
    until(lambda: cluster.finish("first") == ("Complete", "CompletionsReached"))
    assert (path / "name").read_text() == "pool-1\n"
    cluster.ask("POST", JOBS, _shell("second", "test -d $BATON_WORK_DIR/left"))
    until(lambda: cluster.finish("second") == ("Complete", "CompletionsReached"))


def _run_to_the_end(cluster: Kubernetes, path: Path) -> None:
    token = {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    cluster.ask("POST", JOBS, _shell("good", f"echo $TOKEN > {path}/token", TOKEN=token))
    cluster.ask("POST", JOBS, _shell("bad", "exit 3"))
    waiting = ("waiting", "CreateContainerConfigError")
    until(lambda: waiting in [_state(pod) for pod in cluster.pods()])
    secret = {"metadata": {"name": "s"}, "stringData": {"k": "for-your-eyes"}}
    cluster.ask("POST", "/api/v1/namespaces/baton/secrets", secret)
    until(lambda: cluster.finish("good") == ("Complete", "CompletionsReached"))
    assert (path / "token").read_text() == "for-your-eyes\n"
    until(lambda: cluster.finish("bad") == ("Failed", "BackoffLimitExceeded"))
    (failed,) = [pod for pod in cluster.pods() if pod["status"]["phase"] == "Failed"]
    ended = failed["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")


def _state(pod: Wire) -> tuple[str, str]:
    ((kind, state),) = (
        pod["status"].get("containerStatuses", [{"state": {"none": {}}}])[0]["state"].items()
    )
    return kind, state.get("reason", "")


def _started(cluster: Kubernetes, name: str, path: Path, **container: Wire) -> int:
    """Run a command that takes its time; return its pid."""
    job = _shell(name, f"echo $$ > {path}/{name}; exec sleep 300")
    job["spec"]["template"]["spec"]["containers"][0] |= container
    cluster.ask("POST", JOBS, job)
    until(lambda: (path / name).exists() and (path / name).read_text())
    return int((path / name).read_text())


def _cancel_while_it_runs(cluster: Kubernetes, path: Path) -> None:
    pid = _started(cluster, "cancelled", path)
    cluster.ask("PATCH", f"{JOBS}/cancelled", {"spec": {"suspend": True}})
    until(lambda: not is_running(pid))
    owned = {"labelSelector": "job-name=cancelled"}
    until(lambda: not cluster.pods(**owned))


def _lose_its_machine(cluster: Kubernetes, compute: Compute, path: Path) -> None:
    pid = _started(cluster, "lost", path)
    os.kill(compute.machine("pool-1")["pid"], signal.SIGKILL)
    until(lambda: not is_running(pid))
    until(lambda: cluster.finish("lost") == ("Failed", "PodFailurePolicy"))


def _take_its_machine_back(cluster: Kubernetes, compute: Compute, path: Path) -> None:
    compute.template("l4", machine_type="g2-standard-4")
    compute.group("l4", instance_template="global/instanceTemplates/l4")
    compute.create("l4-1", group="l4")
    resources = {"limits": {GPU: "1"}}
    pid = _started(cluster, "preempted", path, resources=resources)
    node = cluster.ask("GET", f"{NODES}/l4-1")
    assert node["status"]["capacity"][GPU] == "1"
    assert GPU in [taint["key"] for taint in node["spec"]["taints"]]
    compute.post("/faults", {"kind": "preempt", "instance": "l4-1", "notice_s": 20})
    until(lambda: not is_running(pid))
    until(lambda: cluster.finish("preempted") == ("Failed", "PodFailurePolicy"))
    (pod,) = cluster.pods(labelSelector="job-name=preempted")
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "Terminated")
    conditions = {each["type"]: each for each in pod["status"]["conditions"]}
    assert conditions["DisruptionTarget"]["reason"] == "TerminationByKubelet"
    ready = {"type": "Ready", "status": "False"}
    until(lambda: ready.items() <= _ready_of(cluster.ask("GET", f"{NODES}/l4-1")).items())


def _ready_of(node: Wire) -> Wire:
    (found,) = [each for each in node["status"]["conditions"] if each["type"] == "Ready"]
    return dict(found)
