"""Traps before and after the upload, each with real clients driven into it: signing in, the catalogue, downloads."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from shared import wiring
from shared.errors import InvalidRequest
from shared.services.administration import revoke_key
from shared.services.catalog import load_catalog
from tests.clients.artist import Artist
from tests.clients.install import ROOT
from tests.clients.matrix import TRAPS
from tests.md5 import md5_of


@TRAPS.flow(is_alone=True, versions=("8.3.3", "9.2.0"))
def t3_a_download_that_breaks_off(artist: Artist) -> None:
    """T3: new downloaders check no MD5. What comes is what was rendered, whole, though the store fails twice."""
    command = f'mkdir -p "{artist.renders}"; printf frame >"{artist.renders}/f.exr"'
    ref = artist.farm.submit([command], output_path=str(artist.renders))
    artist.farm.wait_for_end(ref, "success")
    frames = f"/{artist.farm.env['BATON_BUCKET']}/accounts/{artist.farm.account_id}/jobs/"
    with artist.faults.ordered(method="GET", path_prefix=frames, times=1, drop="after"):
        assert artist.conductor("download", ref.job_id).code == 0
    assert (artist.renders / "f.exr").read_bytes() == b"frame"
    [page] = artist.tap.seen("POST", f"/jobs/{ref.job_id}/downloads")
    [file] = page.answered()["downloads"][0]["files"]
    assert (file["md5"], file["size"]) == (md5_of(b"frame"), 5)


@TRAPS.flow(versions=("8.3.3", "9.2.0"))
def t4_pages_with_gaps(artist: Artist) -> None:
    """T4: a page that a client cannot read ends its run without a word. Every page holds all that it needs."""
    out = str(artist.renders)
    commands = ["true", "exit 1", f'mkdir -p "{out}"; printf frame >"{out}/f.exr"', "true"]
    ref = artist.farm.submit(commands, output_path=out)
    artist.farm.wait_for_end(ref, "failed")
    nothing = artist.farm.submit(["true"], output_path=out)
    artist.farm.wait_for_end(nothing, "success")
    done = artist.conductor("download", "-ps", "1", nothing.job_id, ref.job_id)
    assert done.code == 0
    assert (artist.renders / "f.exr").read_bytes() == b"frame"
    needed = {"url", "relative_path", "md5", "size", "output_dir", "job_id", "task_id"}
    pages = [
        page.answered()
        for job in (nothing, ref)
        for page in artist.tap.seen("POST", f"/jobs/{job.job_id}/downloads")
    ]
    tasks = [task for page in pages for task in page["downloads"]]
    assert [task["task_id"] for task in tasks] == ["002"]
    assert all(needed <= set(file) for task in tasks for file in task["files"])
    assert not pages[-1]["next_cursor"]


@TRAPS.flow(is_alone=True, versions=("4.0.7", "9.2.0"))
def a_key_that_was_revoked(artist: Artist) -> None:
    """A key that is good no more is told at once; nobody waits, and no browser opens."""
    revoke_key(json.loads(artist.studio.api_key)["client_id"], wiring.now(), wiring.account_store())
    done = artist.drive("connect")
    assert "Could not get conductor credentials" in done.said
    assert {each.status for each in artist.tap.all_seen()} == {401}


# What of a catalogue crashes one version or another, as a change to the first machine or package. None takes all away.
UNSOUND: Mapping[str, Mapping[str, Any] | None] = {
    "no machine at all": None,
    "half a gpu": {"gpu": {"gpu_count": 1}},
    "memory as text": {"memory_gib": "8"},
    "an unknown system": {"operating_system": "Linux"},
    "a version as a number": {"major_version": 4},
    "a product with a space": {"product": "maya io"},
    "itself as its plugin": {"plugins": ["blender-4-5-linux"]},
    "no list of variables": {"environment": None},
    "a variable as a number": {
        "environment": [{"name": "A", "value": 1, "merge_policy": "append"}]
    },
    "a policy of no client": {"environment": [{"name": "A", "value": "1", "merge_policy": "last"}]},
}


@TRAPS.flow(versions=("4.0.7", "6.3.0", "9.2.0"))
def a_catalogue_that_would_crash_it(artist: Artist) -> None:
    """What would end a client in a traceback cannot be stored; clients go on connecting."""
    folder = ROOT / "catalog"
    types = yaml.safe_load((folder / "instance_types.yaml").read_text())
    packages = yaml.safe_load((folder / "packages.yaml").read_text())
    assert packages[0]["package_id"] == "blender-4-5-linux"
    for what, change in UNSOUND.items():
        is_package = change is not None and change.keys() & packages[0].keys()
        machines = [] if change is None else [types[0] | ({} if is_package else change), *types[1:]]
        software = [packages[0] | (change if change and is_package else {}), *packages[1:]]
        try:
            load_catalog(machines, software, wiring.catalog_store())
        except InvalidRequest:
            continue
        raise AssertionError(f"stored: {what}")
    assert artist.drive("connect").told()["is_valid"]


@TRAPS.flow(versions=("4.0.7", "9.2.0"))
def a_base_address_with_a_slash(artist: Artist) -> None:
    """A slash at the end of CONDUCTOR_URL makes clients ask for //api/...: answered, never redirected."""
    artist.more_env = {"CONDUCTOR_URL": f"{artist.tap.url}/"}
    assert artist.drive("connect").told()["projects"] == ["relay"]
    assert all(each.status < 300 for each in artist.tap.all_seen()), artist.tap.story()
