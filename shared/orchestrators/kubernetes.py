"""The Scheduler of shared/ports.py on Kubernetes: one Job per attempt, which Kubernetes never tries again by itself.

Source: https://kubernetes.io/docs/reference/kubernetes-api/, read 2026-11.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from shared.errors import CloudError, RateLimited, Unreachable
from shared.models.farm import Node, Placement, Shape, Stage
from shared.models.task import Outcome
from shared.orchestrators.joins import Joins
from shared.orchestrators.kubernetes_bodies import (
    ATTEMPT,
    AVOIDED_ZONES,
    GPU,
    INSTANCE_TYPE,
    ORCHESTRATOR,
    PREEMPTIBLE,
    TYPE_LABEL,
    ZONE_LABEL,
    Site,
    job_of,
    name_of,
    secret_of,
)
from shared.ports import SubmittedAttempt

# Status code -> error; everything else is a CloudError.
ERRORS: Mapping[int, type[CloudError]] = {
    429: RateLimited,
    502: Unreachable,
    503: Unreachable,
    504: Unreachable,
}

TIMEOUT_S = (3, 30)  # to connect, to hear something
PER_PAGE = 500
AT_ONCE = 8

JOB_NAME = "batch.kubernetes.io/job-name"  # the label by which the Job controller marks its pods

# What is read of Jobs and pods.
ANNOTATIONS = (ATTEMPT, AVOIDED_ZONES, INSTANCE_TYPE, PREEMPTIBLE)
SPEC = ("nodeName", "suspend")
STATUS = ("phase", "reason")
CONDITIONS = frozenset({"Complete", "Failed", "DisruptionTarget"})
CONDITION = ("type", "status", "reason", "lastTransitionTime")

# A kubelet registers before its machine can run anything, and says within seconds that it is not ready. One that says
# so later was ready before: for a moment it is not, and what runs there goes on.
REGISTERED_WITHIN = timedelta(minutes=1)

Wire = Mapping[str, Any]


class KubernetesScheduler:
    """The attempts of one orchestrator in a namespace of a cluster, which others may use too."""

    def __init__(self, site: Site, *, token: str, ca_path: str = "") -> None:
        self._site = site
        self._selector = f"{ORCHESTRATOR}={site.orchestrator_id}"
        settings = client.Configuration(host=site.address.rstrip("/"))
        settings.proxy = None
        settings.retries = (
            False  # the callers try again, and a wait asked for is not theirs to sit out
        )
        settings.connection_pool_maxsize = 4 * AT_ONCE
        if ca_path:
            settings.ssl_ca_cert = ca_path
        if token:
            settings.api_key = {"authorization": f"Bearer {token}"}
        api = client.ApiClient(settings)
        self._batch = client.BatchV1Api(api)
        self._core = client.CoreV1Api(api)
        self._joins = Joins()
        self._gpu_types = {site.machine_types.get(name, name) for name in site.gpus}

    def submit(self, attempt: SubmittedAttempt) -> None:
        namespace = self._site.namespace
        job = self._call(
            self._batch.create_namespaced_job, namespace, job_of(attempt, self._site), quiet=409
        )
        if job is None:  # it is there, from an earlier call that may not have come any further
            name = name_of(attempt.ref.attempt_id)
            job = self._call(self._batch.read_namespaced_job, name, namespace)
        secret = secret_of(attempt, job)
        self._call(self._core.create_namespaced_secret, namespace, secret, quiet=409)

    def cancel(self, attempt_id: str) -> None:
        # A Job that is suspended ends its pod, with notice, and starts none; deleted, it could be submitted again.
        suspended = {"spec": {"suspend": True}}
        self._call(
            self._batch.patch_namespaced_job,
            name_of(attempt_id), self._site.namespace, suspended, quiet=404,
        )  # fmt: skip

    def placements(self) -> list[Placement]:
        # Jobs first: one that gets its pod between the two calls then shows it. Nodes last: one that is not there has
        # vanished, and not just joined.
        jobs = {job["metadata"]["name"]: job for job in self._ours(self._batch.list_namespaced_job)}
        pods: dict[str, Wire] = {}
        for pod in self._ours(self._core.list_namespaced_pod):
            name = pod["metadata"]["labels"][JOB_NAME]
            known = pods.get(name)
            if known is None or _rank(known) < _rank(pod):
                pods[name] = pod
        up = {node["metadata"]["name"] for node in self._nodes() if _is_heard(node)}
        found = [_placement(job, pods.get(name), up) for name, job in jobs.items()]
        return found + [
            _placement(None, pod, up)  # it runs until it is told that its Job is gone
            for name, pod in pods.items()
            if name not in jobs and not _is_over(pod)
        ]

    def nodes(self) -> list[Node]:
        return self._joins.noted([self._node(node) for node in self._nodes()], datetime.now(UTC))

    def _nodes(self) -> Iterator[Wire]:
        yield from self._list(self._core.list_node, label_selector=self._selector)

    def _node(self, node: Wire) -> Node:
        labels = node["metadata"].get("labels") or {}
        is_heard = _is_heard(node)
        has_gpus = labels.get(TYPE_LABEL) in self._gpu_types
        is_joining = is_heard and (_is_new(node) or (has_gpus and not _gpu_count(node)))
        since = _moment((_condition(node, "Ready") or {}).get("lastTransitionTime"))
        return Node(
            name=node["metadata"]["name"],
            node_id=node["metadata"]["name"],
            zone=labels.get(ZONE_LABEL, ""),
            is_up=is_heard and not is_joining,
            is_joining=is_joining,
            joined_at=None if has_gpus else since,  # when their driver was there nobody notes
            joined_after=since,
            is_eligible=not node["spec"].get("unschedulable", False),
        )

    def joined_at(self, node_ids: Sequence[str]) -> Mapping[str, datetime]:
        return {}  # the list tells all there is to know

    def set_eligible(self, node_id: str, is_eligible: bool) -> None:
        cordon = {"spec": {"unschedulable": not is_eligible}}
        self._call(self._core.patch_node, node_id, cordon, quiet=404)

    def forget(self, attempt_ids: Sequence[str]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._forget_one, attempt_ids))

    def _forget_one(self, attempt_id: str) -> None:
        self._call(
            self._batch.delete_namespaced_job,
            name_of(attempt_id), self._site.namespace,
            propagation_policy="Background", quiet=404,
        )  # fmt: skip

    def _ours(self, call: Callable[..., Any]) -> Iterator[Wire]:
        """Yield what of a kind belongs to this orchestrator, each cut down to what counts here."""
        for found in self._list(call, self._site.namespace, label_selector=self._selector):
            yield _cut(found)

    def _list(self, call: Callable[..., Any], *arguments: str, **options: Any) -> Iterator[Wire]:
        """Yield what a paged list holds."""
        while True:
            answer = self._call(call, *arguments, limit=PER_PAGE, **options)
            yield from answer["items"] or ()
            token = answer["metadata"].get("continue")
            if not token:
                return
            options["_continue"] = token

    def _call(
        self, call: Callable[..., Any], *arguments: Any, quiet: int = 0, **options: Any
    ) -> Any:
        """Return an answer's JSON, None when its status is the quiet one. Raises: CloudError.

        The client's own models are left out: for thousands of pods they take longer than the answer.
        """
        what = f"kubernetes: {call.__name__}"
        options |= {"_preload_content": False, "_request_timeout": TIMEOUT_S}
        try:
            return json.loads(call(*arguments, **options).data)
        except ApiException as exc:
            if exc.status == quiet:
                return None
            error = ERRORS.get(exc.status, CloudError)
            raise error(f"{what}: {exc.status} {str(exc.body)[:300]}") from exc
        except HTTPError as exc:
            raise Unreachable(f"{what}: {exc}") from exc
        except json.JSONDecodeError as exc:
            raise CloudError(f"{what}: an answer is not JSON: {exc}") from exc


def _cut(found: Wire) -> Wire:
    """Return a Job or a pod without what nobody reads: whole ones of a large farm would fill a function's memory."""
    status: Wire = found.get("status") or {}
    conditions = [
        {name: each[name] for name in CONDITION if name in each}
        for each in status.get("conditions") or ()
        if each["type"] in CONDITIONS
    ]
    containers = [
        {"state": each.get("state")} for each in (status.get("containerStatuses") or ())[:1]
    ]
    labels, annotations = found["metadata"].get("labels") or {}, found["metadata"]["annotations"]
    return {
        "metadata": {
            "name": found["metadata"]["name"],
            "creationTimestamp": found["metadata"]["creationTimestamp"],
            "labels": {name: labels[name] for name in (JOB_NAME,) if name in labels},
            "annotations": {name: annotations[name] for name in ANNOTATIONS if name in annotations},
        },
        "spec": {name: found["spec"][name] for name in SPEC if name in found["spec"]},
        "status": {
            **{name: status[name] for name in STATUS if name in status},
            "conditions": conditions,
            "containerStatuses": containers,
        },
    }


def _placement(job: Wire | None, pod: Wire | None, up: set[str]) -> Placement:
    """Return an attempt, of which Kubernetes knows the Job, the pod or both."""
    known = job or pod
    assert known is not None, "an attempt is seen by its Job or its pod"
    said = known["metadata"]["annotations"]
    shape = Shape(said[INSTANCE_TYPE], said[PREEMPTIBLE] == "true")
    stage = _stage_of_job(job) if job and not pod else _stage_of_pod(pod or {}, up)
    started_at, ended_at = _times(job, pod)
    return Placement(
        attempt_id=said[ATTEMPT],
        shape=shape,
        stage=stage,
        instance=_node_of(pod) if pod else "",
        submitted_at=_moment(known["metadata"]["creationTimestamp"]),
        started_at=started_at,
        ended_at=ended_at if stage in (Stage.ENDED, Stage.LOST) else None,
        cause=_cause(pod, is_preemptible=shape.is_preemptible) if pod else None,
        avoided_zones=tuple(sorted(filter(None, said.get(AVOIDED_ZONES, "").split(",")))),
    )


def _stage_of_job(job: Wire) -> Stage:
    """Return where an attempt is that has no pod, not yet or no more."""
    finish = _finish(job)
    if finish is None:
        return Stage.ENDED if job["spec"].get("suspend") else Stage.WAITING
    return Stage.LOST if finish.get("reason") == "PodFailurePolicy" else Stage.ENDED


def _stage_of_pod(pod: Wire, up: set[str]) -> Stage:
    """Return where an attempt is by its pod. A pod that a node's loss, preemption or shutdown ended is lost."""
    if _is_over(pod):
        is_failed = pod["status"]["phase"] == "Failed"
        return Stage.LOST if is_failed and _condition(pod, "DisruptionTarget") else Stage.ENDED
    if not _node_of(pod):
        return Stage.WAITING
    return Stage.STARTED if _node_of(pod) in up else Stage.LOST


def _rank(pod: Wire) -> tuple[bool, str]:
    """Of several pods of a Job one that lives counts, else the newest."""
    return not _is_over(pod), pod["metadata"]["creationTimestamp"]


def _is_over(pod: Wire) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def _is_heard(node: Wire) -> bool:
    """Tell whether a node's kubelet is heard of; what runs there goes on though it is not ready for a moment."""
    return _condition(node, "Ready", "Unknown") is None


def _is_new(node: Wire) -> bool:
    """Tell whether a node has registered and was never ready."""
    unready = _condition(node, "Ready", "False")
    if unready is None:
        return _condition(node, "Ready") is None
    since = _moment(unready.get("lastTransitionTime"))
    registered_at = _moment(node["metadata"]["creationTimestamp"])
    return since is None or registered_at is None or since - registered_at < REGISTERED_WITHIN


def _gpu_count(node: Wire) -> int:
    """Return how many GPUs a node has found: none until their driver and the device plugin are there.

    Where the plugin is not there for a moment none can be used, and the node has them all the same.
    """
    status: Wire = node.get("status") or {}
    return max(int((status.get(kind) or {}).get(GPU, 0)) for kind in ("capacity", "allocatable"))


def _node_of(pod: Wire) -> str:
    return str(pod["spec"].get("nodeName") or "")


def _condition(resource: Wire, kind: str, status: str = "True") -> Wire | None:
    """Return a condition of a resource that has this status, None when it has none such."""
    conditions: Sequence[Wire] = (resource.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind and c["status"] == status), None)


def _finish(job: Wire) -> Wire | None:
    return _condition(job, "Complete") or _condition(job, "Failed")


def _cause(pod: Wire, *, is_preemptible: bool) -> Outcome | None:
    """Return how a pod that failed ended where Kubernetes knows.

    A kubelet that shuts down with its machine says `Terminated`; one that evicts for want of a resource says `Evicted`
    under the same condition. Only machines that the provider may take back count as taken back.
    Sources, read 2026-11: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/,
    https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/.
    """
    if pod["status"].get("phase") != "Failed":
        return None
    if (_container_state(pod).get("terminated") or {}).get("reason") == "OOMKilled":
        return Outcome.OUT_OF_MEMORY
    disruption = _condition(pod, "DisruptionTarget") or {}
    said = disruption.get("reason"), pod["status"].get("reason")
    is_shut_down = said == ("TerminationByKubelet", "Terminated")
    return Outcome.PREEMPTED if is_shut_down and is_preemptible else None


def _container_state(pod: Wire) -> Wire:
    statuses: Sequence[Wire] = pod["status"].get("containerStatuses") or [{}]
    return statuses[0].get("state") or {}


def _times(job: Wire | None, pod: Wire | None) -> tuple[datetime | None, datetime | None]:
    """Return when an attempt's container started and ended, as far as anybody told."""
    state = _container_state(pod) if pod else {}
    ended = state.get("terminated") or {}
    started = ended or state.get("running") or {}
    finish = (_finish(job) if job else None) or {}
    disrupted = (_condition(pod, "DisruptionTarget") if pod and _is_over(pod) else None) or {}
    told = (
        ended.get("finishedAt"),
        *(each.get("lastTransitionTime") for each in (finish, disrupted)),
    )
    ended_at = next((_moment(each) for each in told if each), None)
    return _moment(started.get("startedAt")), ended_at


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
