"""Find Google's Firestore and Pub/Sub emulators on this machine, or have firebase-tools fetch them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from emulators.up.state import ROOT, StackError

FIREBASE = ROOT / "node_modules" / "firebase-tools" / "lib" / "bin" / "firebase.js"

# Below the Google Cloud CLI's root and below firebase-tools' cache.
CLOUD_CLI_JARS = {
    "firestore": "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar",
    "pubsub": "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*.jar",
}
FIREBASE_JARS = {
    "firestore": "cloud-firestore-emulator-*.jar",
    "pubsub": "pubsub-emulator-*/pubsub-emulator/lib/cloud-pubsub-emulator-*.jar",
}


class NoEmulator(StackError):
    """An emulator is neither here nor to be had; the message is the line that installs it."""


def find_jar(name: str, progress: Callable[[str], None]) -> Path:
    """Return the jar of the `firestore` or `pubsub` emulator.

    Order: FIRESTORE_EMULATOR_JAR or PUBSUB_EMULATOR_JAR, the Google Cloud CLI, the cache of firebase-tools, a download
    by firebase-tools, which `progress` is told of. Raises: NoEmulator.
    """
    variable = f"{name.upper()}_EMULATOR_JAR"
    if named := os.environ.get(variable):
        if not Path(named).is_file():
            raise NoEmulator(f"{variable} names {named}, which is no file")
        return Path(named)
    if jar := _in_cloud_cli(name) or _in_firebase_cache(name):
        return jar
    progress(f"Fetching the {name} emulator")
    reason = _fetch(name)
    if jar := _in_firebase_cache(name):
        return jar
    component = {"firestore": "cloud-firestore-emulator", "pubsub": "pubsub-emulator"}[name]
    raise NoEmulator(
        f"the {name} emulator is missing and firebase-tools could not fetch it ({reason}): "
        f"run `gcloud components install {component}`, or set {variable}"
    )


def _in_cloud_cli(name: str) -> Path | None:
    gcloud = shutil.which("gcloud")
    return _newest(Path(gcloud).resolve().parents[1], CLOUD_CLI_JARS[name]) if gcloud else None


def _in_firebase_cache(name: str) -> Path | None:
    default = Path.home() / ".cache" / "firebase" / "emulators"
    return _newest(Path(os.environ.get("FIREBASE_EMULATORS_PATH", default)), FIREBASE_JARS[name])


def _newest(folder: Path, pattern: str) -> Path | None:
    return max(folder.glob(pattern), key=lambda jar: jar.stat().st_mtime, default=None)


def _fetch(name: str) -> str:
    """Let firebase-tools download the emulator into its cache. Returns its last words."""
    command = ["node", str(FIREBASE), f"setup:emulators:{name}"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError) as exc:
        return str(exc)
    return next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "no output")
