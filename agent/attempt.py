"""The life of one attempt: claim, inputs, render, outputs, report."""

import contextlib
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from agent.cache import Cache
from agent.clean import hide, shorten
from agent.cloud import Cloud, Identity
from agent.ending import Cause, Ending
from agent.errors import Failed, Faulty, Refused, Stopped, Unreachable, Withdrawn
from agent.inputs import Fetcher, Spec, read_spec
from agent.journal import note
from agent.log import RenderLog
from agent.memory import Memory, limit_memory
from agent.outputs import Uploader, written_files
from agent.pulse import Pulse
from agent.render import Render
from agent.room import Order, Room, furnish
from agent.service import Service, Verdict, pauses
from agent.settings import Settings
from agent.transport import NoAnswer, Transport
from agent.verdicts import at_fault, of_end, of_error
from agent.work import sweep, work_folder

_LAST_WORDS_S = 2.0  # for the log, when the attempt or the machine ends under us
_LOG_PATIENCE_S = 60.0
_REASON_CHARACTERS = 500
_SPEC_TRIES = 5


class Attempt:
    """One attempt, from its claim to its report."""

    def __init__(
        self,
        settings: Settings,
        service: Service,
        transport: Transport,
        cloud: Cloud,
        identity: Identity,
        ending: Ending,
    ) -> None:
        self._settings = settings
        self._service = service
        self._transport = transport
        self._cloud = cloud
        self._identity = identity
        self._ending = ending

    def run(self) -> str:
        """Do it all; return the outcome.

        Raises: Withdrawn, Unreachable when there is nothing to report, or nobody to report to; Refused when the
        server does not even understand that.
        """
        sweep(self._settings.work_dir)
        try:
            assignment = self._claim()
        except (Stopped, Refused) as exc:  # the claim may have arrived nevertheless
            return self._finish(self._verdict_of(exc), 0, patience_s=_LAST_WORDS_S)
        instance, zone, _ = self._identity
        note("claimed", attempt=assignment["attempt"], instance=instance, zone=zone)
        threading.Thread(target=self._cloud.watch, args=(self._ending,), daemon=True).start()
        with contextlib.ExitStack() as held:
            try:
                folder = held.enter_context(work_folder(self._settings.work_dir))
                log = RenderLog(folder / "log", self._settings.token)
            except OSError as exc:
                return self._finish(at_fault(f"it has no folder to work in: {exc}"), 0)
            memory = limit_memory(int(assignment["memory_mib"]))
            held.callback(memory.close)
            log.note(f"attempt {assignment['attempt']} on {instance} in {zone}")
            return self._run_in(folder, memory, log, assignment)

    def _claim(self) -> dict[str, Any]:
        """Take the attempt; again, have fresh URLs."""
        return self._service.claim(self._identity.instance, self._identity.zone)

    def _run_in(
        self, folder: Path, memory: Memory, log: RenderLog, assignment: dict[str, Any]
    ) -> str:
        pulse = Pulse(
            self._service,
            log,
            self._ending,
            heartbeat_s=float(assignment["heartbeat_s"]),
            memory_peak_mib=memory.peak_mib,
        )
        pulse.start()
        try:
            verdict = self._work(assignment, folder, memory, log, pulse)
        except (Withdrawn, Unreachable):
            raise
        except (Stopped, Faulty, Failed, OSError) as exc:
            verdict = self._verdict_of(exc)
        except Exception as exc:  # noqa: BLE001, a bug of ours must not leave the attempt without an end
            traceback.print_exc()
            verdict = Verdict("failed", reason=f"the agent has a fault: {exc!r}")
        log.note(f"{verdict.outcome}{verdict.reason and ': '}{verdict.reason}")
        log.close()
        pulse.show_last()
        self._upload_log(log, verdict)
        outcome = self._finish(verdict, memory.peak_mib())
        pulse.stop()  # not sooner: a finish that waits for a busy server must not look like a lost machine
        return outcome

    def _work(
        self, assignment: dict[str, Any], folder: Path, memory: Memory, log: RenderLog, pulse: Pulse
    ) -> Verdict:
        """Render; return how it ended by itself. Raises: whatever hinders it."""
        room = self._furnish(assignment, folder, memory, log)
        self._ending.check()
        pulse.phase = "rendering"
        end = Render(room.launch).wait(log.write, self._ending)
        if end.was_stopped:
            self._ending.check()
        if verdict := of_end(end, memory, log, room.outputs_root):
            return verdict
        pulse.phase = "outputs"
        uploader = Uploader(
            self._service,
            self._transport,
            self._ending,
            room.outputs_root,
            self._settings.patience_s,
        )
        stored = uploader.upload(written_files(room.outputs_root, room.known))
        log.note(f"{len(stored)} outputs stored")
        return Verdict("success", 0, "", [output.as_wire() for output in stored])

    def _furnish(
        self, assignment: dict[str, Any], folder: Path, memory: Memory, log: RenderLog
    ) -> Room:
        """Fetch the inputs and lay everything out. Raises: whatever hinders it."""
        spec = self._spec(assignment["spec_url"])
        cache = Cache(self._settings.cache_dir, assignment["attempt"].rsplit("-", 3)[0])
        fetcher = Fetcher(
            cache, self._service, self._transport, self._ending, self._settings.patience_s
        )
        order = Order(assignment["command"], assignment["output_path"], memory.limit_mib, spec)
        with cache.keep({one.md5: one.size for one in spec.inputs}):
            fetched_count = fetcher.fetch(spec.inputs)
            log.note(f"{len(spec.inputs)} inputs, {fetched_count} of them fetched")
            return furnish(order, cache, folder=folder, settings=self._settings, memory=memory)

    def _spec(self, url: str) -> Spec:
        """Read the spec; a URL that storage refuses may have run out, a repeated claim gives a fresh one."""
        deadline = time.monotonic() + self._settings.patience_s
        refused_count = 0
        for pause_s in pauses():
            try:
                reply = self._transport.request("GET", url)
                if reply.status == 200:
                    return read_spec(reply.body)
                problem = f"storage answers {reply.status}"
                if reply.status < 500 and reply.status not in (408, 429):
                    refused_count += 1
                    url = self._claim()["spec_url"]
            except NoAnswer as exc:
                problem = str(exc)
            if refused_count == _SPEC_TRIES or time.monotonic() > deadline:
                break
            self._ending.wait(pause_s)
            self._ending.check()
        raise Failed(f"the attempt's spec cannot be fetched: {problem}")

    def _verdict_of(self, error: Exception) -> Verdict:
        """Return what to report. Raises: Withdrawn, Unreachable when nothing is to be reported."""
        if not isinstance(error, Stopped):
            return of_error(error)
        self._ending.check_ours()
        reason = self._ending.reason
        if self._ending.cause is Cause.REFUSED:
            return Verdict("failed", reason=reason)
        if self._ending.cause is Cause.PREEMPTED or self._cloud.is_preempted():
            return Verdict("preempted", reason="the provider takes the instance back")
        return Verdict("killed", reason=reason)

    def _upload_log(self, log: RenderLog, verdict: Verdict) -> None:
        """Store the whole log; an attempt does not fail for want of it."""
        is_hurried = verdict.outcome in ("killed", "preempted") and self._ending.cause is not None
        patience_s = _LAST_WORDS_S if is_hurried else _LOG_PATIENCE_S
        deadline = time.monotonic() + patience_s
        try:
            for pause_s in pauses():
                _, url = self._service.outputs([], patience_s=patience_s)
                with log.path.open("rb") as file:
                    reply = self._transport.upload(url, {}, file, timeout_s=patience_s)
                if reply.status in (200, 201, 204):
                    return
                if time.monotonic() + pause_s > deadline:
                    note("log_not_stored", problem=f"storage answers {reply.status}")
                    return
                time.sleep(pause_s)
        except (NoAnswer, Unreachable, Refused) as exc:
            note("log_not_stored", problem=str(exc))

    def _finish(
        self, verdict: Verdict, memory_peak_mib: int, *, patience_s: float | None = None
    ) -> str:
        reason = shorten(hide(verdict.reason, self._settings.token), _REASON_CHARACTERS)
        verdict = verdict._replace(reason=reason)
        try:
            status = self._service.finish(verdict, memory_peak_mib, patience_s=patience_s)
        except Refused as exc:
            verdict = Verdict("failed", verdict.exit_code, str(exc))
            status = self._service.finish(verdict, memory_peak_mib, patience_s=patience_s)
        note(
            "finished",
            outcome=verdict.outcome,
            exit_code=verdict.exit_code,
            reason=reason,
            status=status,
        )
        return verdict.outcome
