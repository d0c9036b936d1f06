"""One folder for each version of the Conductor client: `python -m tests.clients.install [VERSION ...]`.

Each is what pip makes of the pinned requirements-VERSION.txt; nothing of a client is ever changed. Done anew only when
the pins have changed; several processes may ask at once.
"""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "clients"
VERSIONS = ("4.0.7", "5.1.1", "5.6.0", "6.3.0", "7.0.2", "8.3.3", "9.2.0")


def client_folder(version: str) -> Path:
    """Return where a version lives; its programs are in `bin`."""
    return FOLDER / version


def install(version: str) -> Path:
    """Install a version unless it is there; returns its folder.

    Raises: RuntimeError with the installer's own words.
    """
    folder = client_folder(version)
    pins = Path(__file__).with_name(f"requirements-{version}.txt")
    stamp = folder / "requirements.txt"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f".{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == pins.read_text():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--python", "3.11", "--no-python-downloads", str(folder))
        python = str(folder / "bin" / "python")
        _uv("pip", "install", "--compile-bytecode", "--python", python, "--requirement", str(pins))
        shutil.copyfile(pins, stamp)
    return folder


def _uv(*words: str) -> None:
    command = [_uv_path(), *words, "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def _uv_path() -> str:
    """Return uv as `make` has found or installed it."""
    noted = ROOT / "build" / "uv-path"
    return noted.read_text().strip() if noted.exists() else "uv"


def main(versions: Sequence[str]) -> int:
    """Install the versions, all of them when none is named."""
    if unknown := set(versions) - set(VERSIONS):
        print(f"no such version: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    for version in versions or VERSIONS:
        print(install(version))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
