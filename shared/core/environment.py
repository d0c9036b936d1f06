"""The environment of a render: what the packages bring, under what the artist's client asks for."""

from collections.abc import Iterable, Mapping

from shared.models.account import Package, Variable

SEPARATOR = ":"

# A client's PATH replaces the node's, and it never names the system's own programs.
SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")


def merge_environment(packages: Iterable[Package], asked: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a render.

    Hosts come before their plugins. A list variable (append or prepend) that the client also names is the client's
    entries, then the packages' that it lacks, since some clients merge the packages themselves and some send an empty
    PATH instead. Any other variable of the client wins. PATH is always a list: at its end are the packages' own folders
    and the system's.
    """
    lists: dict[str, list[str]] = {}
    values: dict[str, str] = {}
    ordered = sorted(packages, key=lambda each: (bool(each.plugin_host_product), each.package_id))
    for package in ordered:
        for variable in package.environment:
            _add(variable, lists, values)
    exclusive = [values.pop("PATH")] if "PATH" in values else []
    own = [package.path for package in ordered]
    lists["PATH"] = [*lists.get("PATH", exclusive), *own, *SYSTEM_PATH]
    merged = dict(values)
    merged |= {name: SEPARATOR.join(_once(entries)) for name, entries in lists.items()}
    for name, value in asked.items():
        if name in lists:
            merged[name] = SEPARATOR.join(_once(value.split(SEPARATOR) + lists[name]))
        else:
            merged[name] = value
    return merged


def conflicts(packages: Iterable[Package]) -> list[str]:
    """Return the variables which one package sets alone and another adds to: clients refuse to merge them."""
    policies: dict[str, set[bool]] = {}
    for package in packages:
        for variable in package.environment:
            is_alone = variable.merge_policy == "exclusive"
            policies.setdefault(variable.name, set()).add(is_alone)
    return sorted(name for name, found in policies.items() if len(found) > 1)


def _add(variable: Variable, lists: dict[str, list[str]], values: dict[str, str]) -> None:
    if variable.merge_policy == "exclusive":
        values[variable.name] = variable.value
        lists.pop(variable.name, None)
        return
    entries = lists.setdefault(variable.name, [])
    if variable.name in values:
        entries.append(values.pop(variable.name))
    if variable.merge_policy == "prepend":
        entries.insert(0, variable.value)
    else:
        entries.append(variable.value)


def _once(entries: Iterable[str]) -> list[str]:
    """Return the folders in order, each once; an entry may itself be a list."""
    folders = (folder for entry in entries for folder in entry.split(SEPARATOR))
    return list(dict.fromkeys(folder for folder in folders if folder))
