"""The state folder of one stack: its secrets, data, logs, and the record of what runs."""

import fcntl
import json
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from emulators.engine.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_PORT_BASE = 8080
ALREADY_RUNNING = 3  # the exit code of a supervisor that is one too many
# The variable by which every process of a stack carries the stack's state folder.
MARKER = "BATON_STACK"


class StackError(Exception):
    """The stack cannot be started or reached; the message says why, in words for its user."""


def port_base_from_env() -> int:
    """Return BATON_PORT_BASE. Raises: StackError."""
    text = os.environ.get("BATON_PORT_BASE", str(DEFAULT_PORT_BASE))
    if not text.isdecimal() or not 1024 <= int(text) <= 65_000:
        raise StackError(f"BATON_PORT_BASE is {text!r}: a number from 1024 to 65000 is needed")
    return int(text)


def default_state_path(port_base: int) -> Path:
    """Return BATON_STATE_DIR, or a folder of its own for each block of ports.

    Not below the clone: renders run as another user, who may not be able to enter that.
    """
    return Path(os.environ.get("BATON_STATE_DIR") or f"/var/tmp/baton-{port_base}")


class StateDir:
    """Paths in the state folder. Everybody may enter it; only its owner may read `private/`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.private = self.path / "private"
        self.logs = self.path / "logs"
        self.data = self.path / "data"
        self.api_key = self.path / "api_key.json"
        self.supervisor_log = self.path / "supervisor.log"
        self.storage_credentials = self.private / "storage-signer.json"
        self._record = self.private / "stack.json"
        self._lock_file: IO[str] | None = None

    def prepare(self) -> None:
        """Make the folders and secrets that are missing. Raises: StackError."""
        try:
            for folder, mode in ((self.path, 0o755), (self.private, 0o700), (self.logs, 0o700)):
                folder.mkdir(parents=True, exist_ok=True)
                if folder.stat().st_uid != os.getuid():
                    raise self._of_another_user(folder)
                folder.chmod(mode)
        except OSError as exc:
            raise StackError(f"{exc.filename}: {exc.strerror}: set BATON_STATE_DIR") from exc
        if not self.storage_credentials.exists():
            self._write_private(self.storage_credentials, json.dumps(_throwaway_service_account()))

    def begin_run(self) -> str:
        """Empty the data of the last run, and return a number that no run of this folder had before.

        The emulators keep everything in memory, so what the stand-ins kept on disk would be orphans.
        """
        for folder in (self.data, self.logs):
            shutil.rmtree(folder, ignore_errors=True)
        self.data.mkdir(mode=0o755)
        self.logs.mkdir(mode=0o700)
        for file in (self.api_key, self._record):
            file.unlink(missing_ok=True)
        counter = self.private / "runs"
        number = int(counter.read_text()) + 1 if counter.exists() else 1
        self._write_private(counter, str(number))
        return str(number)

    def secret(self, name: str) -> str:
        """Return a secret of this folder, made on first use."""
        path = self.private / name
        if not path.exists():
            self._write_private(path, secrets.token_urlsafe(32))
        return path.read_text()

    def log_path(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def log_tail(self, name: str, lines: int = 15) -> str:
        """Return the last lines of a log, empty when there is none."""
        with suppress(FileNotFoundError):
            return "\n".join(self.log_path(name).read_text(errors="replace").splitlines()[-lines:])
        return ""

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace the record of the running stack. It holds secrets, like everything in `private/`."""
        write_json(self._record, record)

    def read_record(self) -> dict[str, Any] | None:
        """Return the record of the last stack of this folder; whether it still runs says `is_locked`."""
        return read_json(self._record)

    def lock(self) -> bool:
        """Become the one supervisor of this folder until this process ends; False when there is one."""
        self._lock_file = (self.private / "lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock_file.close()
            return False
        return True

    def is_locked(self) -> bool:
        """Return whether a supervisor runs. Raises: StackError."""
        try:
            with (self.private / "lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        except PermissionError as exc:
            raise self._of_another_user(self.path) from exc
        return False

    def _of_another_user(self, folder: Path) -> StackError:
        return StackError(
            f"{folder} belongs to another user: set BATON_PORT_BASE to another block of 16 ports, or BATON_STATE_DIR"
        )

    def _write_private(self, path: Path, text: str) -> None:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)


def _throwaway_service_account() -> dict[str, str]:
    """Return a service account in Google's JSON form whose key signs URLs for the storage stand-in alone."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "baton-local",
        "private_key_id": secrets.token_hex(20),
        "private_key": pem.decode(),
        "client_email": "signer@baton-local.iam.gserviceaccount.com",
        "client_id": "100000000000000000001",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
