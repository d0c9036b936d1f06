"""The Job controller, the collection of garbage, and how pods end.

A Job has one pod at a time: a larger parallelism is not offered.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/, read 2026-11.
"""

import copy
import random
from datetime import UTC, datetime

from emulators.kubernetes.scheduling import Scheduler, is_over, node_of
from emulators.kubernetes.state import State, Wire, condition, set_condition, timestamp

TRACKED = "batch.kubernetes.io/job-tracking"
_OWNED = ("pods", "secrets")
_GRACE_S = 30
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def finish_of(job: Wire) -> Wire | None:
    """Return the condition that says how a Job finished, None when it has not."""
    return condition(job, "Complete") or condition(job, "Failed")


class Jobs:
    """Keeps every Job supplied with its pod until it is finished."""

    def __init__(self, state: State, scheduler: Scheduler) -> None:
        self._state = state
        self._scheduler = scheduler

    def sync(self, job: Wire) -> None:
        """Bring a Job to what it shall be."""
        if finish_of(job) is not None or "deletionTimestamp" in job["metadata"]:
            return
        pods = [pod for pod in self._pods(job) if not is_over(pod)]
        if job["spec"].get("suspend"):
            for pod in pods:
                self.delete_pod(pod)
            job["status"].pop("startTime", None)
            set_condition(job, "Suspended", "True", "JobSuspended", "Job suspended")
        else:
            job["status"].setdefault("startTime", timestamp())
            if condition(job, "Suspended") is not None:
                set_condition(job, "Suspended", "False", "JobResumed", "Job resumed")
            if not pods and self._may_start(job):
                self._start(job)
        left = [pod for pod in self._pods(job) if not is_over(pod)]
        terminating = sum("deletionTimestamp" in pod["metadata"] for pod in left)
        job["status"] |= {"active": len(left) - terminating, "terminating": terminating}
        self._state.save("jobs", job)

    def _may_start(self, job: Wire) -> bool:
        """Return whether the pod's priority class is there; without it pods are refused."""
        name = job["spec"]["template"]["spec"].get("priorityClassName")
        return not name or self._state.find("priorityclasses", "", name) is not None

    def _start(self, job: Wire) -> None:
        metadata, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
        owner = {
            "apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"],
            "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True,
        }  # fmt: skip
        suffix = "".join(random.choices(_ALPHABET, k=5))
        given = template.get("metadata") or {}
        labels = {
            "batch.kubernetes.io/job-name": metadata["name"], "job-name": metadata["name"],
            "batch.kubernetes.io/controller-uid": metadata["uid"], "controller-uid": metadata["uid"],
        }  # fmt: skip
        spec = template["spec"]
        if name := spec.get("priorityClassName"):
            spec["priority"] = self._state.get("priorityclasses", "", name)["value"]
        pod = {
            "metadata": {
                "name": f"{metadata['name'][:57]}-{suffix}",
                "generateName": f"{metadata['name'][:57]}-",
                "namespace": metadata["namespace"],
                "labels": {**(given.get("labels") or {}), **labels},
                "annotations": given.get("annotations") or {},
                "ownerReferences": [owner],
                "finalizers": [TRACKED],
            },
            "spec": spec,
            "status": {"phase": "Pending"},
        }
        self._scheduler.schedule(self._state.add("pods", pod))

    def pod_changed(self, pod: Wire) -> None:
        """Free what an ended pod took, and count it in its Job once."""
        if not is_over(pod) or TRACKED not in (pod["metadata"].get("finalizers") or []):
            return
        pod["metadata"]["finalizers"] = []
        self._state.save("pods", pod)
        self._scheduler.release(pod)
        self._count(pod)

    def _count(self, pod: Wire) -> None:
        job = self._owner(pod)
        if job is None or finish_of(job) is not None:
            return
        status = job["status"]
        if pod["status"]["phase"] == "Succeeded":
            status["succeeded"] = status.get("succeeded", 0) + 1
            status["completionTime"] = timestamp()
            self._finish(job, "Complete", "CompletionsReached", "Reached expected number of pods")
        elif job["spec"].get("suspend"):
            self.sync(job)  # what suspension ended is no failure
        else:
            status["failed"] = status.get("failed", 0) + 1
            self._fail_or_retry(job, pod)

    def _fail_or_retry(self, job: Wire, pod: Wire) -> None:
        action = _policy_action(job, pod)
        if action == "FailJob":
            message = f"Pod {pod['metadata']['name']} matching FailJob rule"
            self._finish(job, "Failed", "PodFailurePolicy", message)
        elif action != "Ignore" and job["status"]["failed"] > job["spec"].get("backoffLimit", 6):
            message = "Job has reached the specified backoff limit"
            self._finish(job, "Failed", "BackoffLimitExceeded", message)
        else:
            self.sync(job)

    def _finish(self, job: Wire, kind: str, reason: str, message: str) -> None:
        job["status"] |= {"active": 0, "terminating": 0}
        set_condition(job, kind, "True", reason, message)
        self._state.save("jobs", job)

    def delete_pod(self, pod: Wire, grace_s: int | None = None) -> None:
        """Have a pod end, at once where no kubelet runs it, else when its kubelet says so."""
        given = pod["spec"].get("terminationGracePeriodSeconds", _GRACE_S)
        grace_s = given if grace_s is None else grace_s
        if grace_s == 0 or not node_of(pod) or is_over(pod):
            self.remove_pod(pod)
        elif "deletionTimestamp" not in pod["metadata"]:
            pod["metadata"] |= {
                "deletionTimestamp": timestamp(),
                "deletionGracePeriodSeconds": grace_s,
            }
            self._state.save("pods", pod)

    def remove_pod(self, pod: Wire) -> None:
        """Take a pod off the books; one that had not ended has failed."""
        is_counted = is_over(pod)
        self._state.remove("pods", pod)
        if is_counted:
            return
        self._scheduler.release(pod)
        pod["status"]["phase"] = "Failed"
        self._count(pod)

    def delete_job(self, job: Wire, *, is_orphaning: bool) -> None:
        """Forget a Job; what it owns goes too, unless it shall be orphaned."""
        self._state.remove("jobs", job)
        for plural in _OWNED:
            for owned in self._state.owned(plural, job["metadata"]["uid"]):
                if is_orphaning:
                    owned["metadata"]["ownerReferences"] = []
                    self._state.save(plural, owned)
                elif plural == "pods":
                    self.delete_pod(owned)
                else:
                    self._state.remove(plural, owned)

    def collect(self) -> None:
        """Delete finished Jobs whose time to live is over."""
        now = datetime.now(UTC)
        for job in self._state.all("jobs"):
            finish, ttl_s = finish_of(job), job["spec"].get("ttlSecondsAfterFinished")
            if finish is None or ttl_s is None:
                continue
            age = now - datetime.fromisoformat(finish["lastTransitionTime"])
            if age.total_seconds() >= ttl_s:
                self.delete_job(job, is_orphaning=False)

    def _pods(self, job: Wire) -> list[Wire]:
        return self._state.owned("pods", job["metadata"]["uid"])

    def _owner(self, pod: Wire) -> Wire | None:
        for owner in pod["metadata"].get("ownerReferences") or []:
            found = self._state.find("jobs", pod["metadata"]["namespace"], owner["name"])
            if found is not None and found["metadata"]["uid"] == owner["uid"]:
                return found
        return None


def _policy_action(job: Wire, pod: Wire) -> str:
    """Return what the first rule that matches a failed pod says, `Count` when none does."""
    codes = [
        (status["name"], status["state"]["terminated"]["exitCode"])
        for status in pod["status"].get("containerStatuses") or []
        if "terminated" in status.get("state", {})
    ]
    for rule in (job["spec"].get("podFailurePolicy") or {}).get("rules") or []:
        for pattern in rule.get("onPodConditions") or []:
            found = condition(pod, pattern["type"])
            if found is not None and found["status"] == pattern.get("status", "True"):
                return str(rule["action"])
        if wanted := rule.get("onExitCodes"):
            is_in = wanted["operator"] == "In"
            for name, code in codes:
                is_meant = wanted.get("containerName") in (None, name)
                if is_meant and code != 0 and (code in wanted["values"]) is is_in:
                    return str(rule["action"])
    return "Count"
