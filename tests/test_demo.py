"""The demo's own manners; its story is told by `make demo` on the whole stack."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEADLINE_S = 60


def test_an_interrupted_demo_says_so_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a database that answers nothing
        database = f"127.0.0.1:{silent.getsockname()[1]}"
        env = os.environ | {
            "BATON_SOFTWARE_DIR": str(tmp_path),
            "CONDUCTOR_URL": "http://127.0.0.1:1",
            "FIRESTORE_EMULATOR_HOST": database,
            "GOOGLE_CLOUD_PROJECT": "demo-interrupted",
            "PYTHONUNBUFFERED": "1",
        }
        demo = subprocess.Popen(
            # who runs the tests in the background has this signal ignored
            ["env", "--default-signal=INT", sys.executable, "-m", "demo"],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert demo.stdout is not None
        assert demo.stdout.readline().startswith("An administrator opens the studio")
        silent.settimeout(DEADLINE_S)
        caller, _ = silent.accept()
        with caller:
            os.killpg(demo.pid, signal.SIGINT)  # as Ctrl-C does
            said, _ = demo.communicate(timeout=DEADLINE_S)
    assert (demo.returncode, said.splitlines()) == (
        130,
        ["Interrupted: the demo ends here, and with it what was started for it."],
    )
