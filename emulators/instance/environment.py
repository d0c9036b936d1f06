"""What a task finds in its environment: Nomad's variables, the machine's, and its own.

Source: https://developer.hashicorp.com/nomad/docs/runtime/environment, read 2026-11.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER")
# what the machine image sets for the agent
_IMAGE = ("BATON_SOFTWARE_PATHS", "BATON_SANDBOX", "BATON_SANDBOX_UID", "BATON_LICENCE_CHECK")
_VARIABLE = re.compile(r"\$\{([\w.]+)\}")


def image_variables() -> dict[str, str]:
    """Return what the machine's image sets for every command."""
    return {name: os.environ[name] for name in (*_INHERITED, *_IMAGE) if name in os.environ}


def node_variables(node: Mapping[str, Any]) -> dict[str, str]:
    """Return what `${...}` may name of a node: node.*, meta.*, attr.*."""
    return {
        "node.unique.id": node["ID"],
        "node.unique.name": node["Name"],
        "node.datacenter": node["Datacenter"],
        "node.region": "global",
        "node.class": node["NodeClass"],
        "node.pool": node["NodePool"],
        **{f"meta.{name}": value for name, value in (node["Meta"] or {}).items()},
        **{f"attr.{name}": value for name, value in (node["Attributes"] or {}).items()},
    }


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Replace each known `${name}` of `text`; what is unknown stays."""
    return _VARIABLE.sub(lambda found: variables.get(found[1], found[0]), text)


def _meta(
    alloc: Mapping[str, Any], group: Mapping[str, Any], task: Mapping[str, Any]
) -> dict[str, str]:
    merged = {
        **(alloc["Job"].get("Meta") or {}),
        **(group.get("Meta") or {}),
        **(task.get("Meta") or {}),
    }
    variables = {}
    for name, value in merged.items():
        clean = re.sub(r"\W", "_", name)
        variables[f"NOMAD_META_{clean}"] = str(value)
        variables[f"NOMAD_META_{clean.upper()}"] = str(value)
    return variables


def task_environment(
    alloc: Mapping[str, Any],
    group: Mapping[str, Any],
    task: Mapping[str, Any],
    *,
    node: Mapping[str, Any],
    directory: Path,
    machine: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment of one task; `machine` are the variables of the machine's image."""
    resources = task.get("Resources") or {}
    variables = {
        **image_variables(),
        "NOMAD_ALLOC_DIR": str(directory / "alloc"),
        "NOMAD_TASK_DIR": str(directory / task["Name"] / "local"),
        "NOMAD_SECRETS_DIR": str(directory / task["Name"] / "secrets"),
        "NOMAD_ALLOC_ID": alloc["ID"],
        "NOMAD_SHORT_ALLOC_ID": alloc["ID"][:8],
        "NOMAD_ALLOC_INDEX": alloc["Name"].rpartition("[")[2].rstrip("]"),
        "NOMAD_ALLOC_NAME": alloc["Name"],
        "NOMAD_CPU_LIMIT": str(resources.get("CPU") or 0),
        "NOMAD_MEMORY_LIMIT": str(resources.get("MemoryMB") or 0),
        "NOMAD_DC": node["Datacenter"],
        "NOMAD_REGION": "global",
        "NOMAD_NAMESPACE": alloc["Namespace"],
        "NOMAD_JOB_ID": alloc["JobID"],
        "NOMAD_JOB_NAME": alloc["Job"].get("Name") or alloc["JobID"],
        "NOMAD_GROUP_NAME": group["Name"],
        "NOMAD_TASK_NAME": task["Name"],
        **_meta(alloc, group, task),
        **machine,
    }
    if parent := alloc["Job"].get("ParentID"):
        variables["NOMAD_JOB_PARENT_ID"] = parent
    known = {**node_variables(node), **variables}
    own = {name: interpolate(str(value), known) for name, value in (task.get("Env") or {}).items()}
    return {**variables, **own}
