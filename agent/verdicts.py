"""What to report, from how the program ended or what hindered it. The protocol's outcomes: docs/protocol.md."""

import errno
import shutil
from pathlib import Path

from agent.errors import Failed, Faulty
from agent.log import RenderLog
from agent.memory import Memory
from agent.render import End
from agent.service import Verdict

_BROKEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_FULL_BYTES = 16 << 20  # a disk with less left has stopped whoever wrote to it


def at_fault(reason: str, exit_code: int | None = None) -> Verdict:
    """Return what another machine is to try again: a stop that nobody ordered counts as an attempt that was lost."""
    return Verdict("killed", exit_code, f"the machine is at fault: {reason}")


def of_error(error: Exception) -> Verdict:
    """Return the verdict on what hindered an attempt."""
    is_broken = isinstance(error, OSError) and error.errno in _BROKEN
    if isinstance(error, Faulty) or is_broken:
        return at_fault(str(error))
    return Verdict("failed", reason=str(error))


def of_end(end: End, memory: Memory, log: RenderLog, folder: Path) -> Verdict | None:
    """Return the verdict on a program that ended by itself and wrote below `folder`, None when it succeeded.

    A render from which the kernel took a process for want of memory has no sound result, even if the command ended
    with 0. Raises: Failed when it never started.
    """
    code = end.exit_code
    is_killed = code is None or code == 128 + 9
    if memory.was_exhausted() and (memory.is_limited or is_killed):
        most = f" of {memory.limit_mib} MiB" if memory.is_limited and memory.limit_mib else ""
        return Verdict("out_of_memory", code, f"out of memory, peak {memory.peak_mib()} MiB{most}")
    if code is None:
        raise Failed(f"the sandbox could not be set up: {log.last_lines(2)}")
    if code == 0:
        return None
    how = f"killed by signal {code - 128}" if code > 128 else f"exit code {code}"
    if shutil.disk_usage(folder).free < _FULL_BYTES:
        return at_fault(f"its disk is full; {how}", code)
    return Verdict("failed", code, how)
