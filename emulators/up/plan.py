"""What the stack consists of: each component's command, environment and sign of life. Starts nothing."""

import importlib.util
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from deploy.functions import Function
from emulators.ports import Ports, url
from emulators.up.cloud import create_bucket, create_topics
from emulators.up.jars import FIREBASE, find_jar
from emulators.up.state import MARKER, ROOT, StackError, StateDir

logger = logging.getLogger("emulators.up")

FIRESTORE_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
SECRETS = (
    "BATON_SIGNING_KEYS",
    "BATON_PUSH_TOKEN",
    "NOMAD_TOKEN",
    "KUBERNETES_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)
# what a shell may hold that would send a component somewhere else
FOREIGN = ("CONDUCTOR_", "GOOGLE_", "CLOUDSDK_", "GUNICORN_")


async def _nothing() -> None:
    """Leave a component as it starts."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """One process of the stack, healthy when `health_path` at its port answers without a server error.

    `files` are written before its start; `after` names components that must be healthy before it;
    `prepare` runs each time it has become healthy.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    port: int | None = None
    health_path: str = "/"
    directory: Path = ROOT
    files: Mapping[Path, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    prepare: Callable[[], Awaitable[None]] = _nothing


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One stack to be: where its state is, its ports, its project, and what its processes are told."""

    state: StateDir
    ports: Ports
    functions: tuple[Function, ...]
    project: str
    boot_s: float

    def env(self) -> dict[str, str]:
        """Return the variables that point Google's libraries and our own wiring at this stack."""
        ports, state = self.ports, self.state
        return {
            "GOOGLE_CLOUD_PROJECT": self.project,
            "FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{ports.firestore}",
            "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{ports.pubsub}",
            "FIREBASE_AUTH_EMULATOR_HOST": f"127.0.0.1:{ports.auth}",
            "STORAGE_EMULATOR_HOST": url(ports.storage),
            "BATON_BUCKET": self.project,
            "BATON_SIGNING_KEYS": f"local:{state.secret('signing-key')}",
            "BATON_PUSH_TOKEN": state.secret("push-token"),
            "BATON_STORAGE_CREDENTIALS": str(state.storage_credentials),
            "BATON_COMPUTE_ENDPOINT": url(ports.compute),
            "BATON_AGENT_URL": url(ports.gateway),
            "NOMAD_ADDR": url(ports.nomad),
            "NOMAD_TOKEN": state.secret("nomad-token"),
            "BATON_PORT_BASE": str(ports.base),
            "BATON_STATE_DIR": str(state.path),
            "BATON_SOFTWARE_DIR": os.environ.get("BATON_SOFTWARE_DIR", "/var/tmp/baton-software"),
            "CONDUCTOR_URL": url(ports.gateway),
            "CONDUCTOR_API_URL": url(ports.gateway),
        }

    def process_env(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Return the whole environment of a component, with the mark by which leftovers are found."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        return inherited | {
            **self.env(),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            MARKER: str(self.state.path),
            **extra,
        }

    def components(self, only: Collection[str] = ()) -> list[Component]:
        """Return the components in the order in which they are shown; all of them when `only` is empty.

        Raises: StackError when a name is unknown, or something that a component needs is missing.
        """
        makers: dict[str, Callable[[], Component]] = {
            "firestore": self._firestore,
            "pubsub": self._pubsub,
            "auth": self._auth,
            "storage": self._storage,
            "nomad": self._nomad,
            "compute": self._compute,
            **{function.name: partial(self._function, function) for function in self.functions},
            "gateway": self._gateway,
            "ticker": self._ticker,
        }
        if unknown := set(only) - set(makers):
            raise StackError(f"no such component: {', '.join(sorted(unknown))}")
        return [make() for name, make in makers.items() if not only or name in only]

    def _firestore(self) -> Component:
        rules = _needed(ROOT / "firestore.rules", "the security rules")
        jar = find_jar("firestore", logger.info)
        port = self.ports.firestore
        return Component(
            name="firestore",
            # It keeps old versions of documents: one gigabyte is full after some 15,000 tasks, and all its time goes
            # into looking for garbage. Without a limit it takes a quarter of the machine's memory. What it keeps lives
            # for ever: a heap that grows is searched whole each time, and young objects copied again and again.
            command=("java", "-Xms2g", "-Xmx2g", "-Xmn384m", "-XX:MaxTenuringThreshold=1")
            + ("-XX:+UseSerialGC",)
            + ("-Duser.language=en", "-cp", str(jar), FIRESTORE_CLASS)
            + ("--host=127.0.0.1", f"--port={port}", f"--rules={rules}"),
            env=self.process_env({}),
            port=port,
            directory=self.state.data,
        )

    def _pubsub(self) -> Component:
        jar = find_jar("pubsub", logger.info)
        port = self.ports.pubsub
        targets = {name: url(p) for name, p in self.ports.functions(self.functions).items()}
        return Component(
            name="pubsub",
            command=("java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
            + ("-jar", str(jar), "--host=127.0.0.1", f"--port={port}"),
            env=self.process_env({}),
            port=port,
            directory=self.state.data,
            prepare=lambda: create_topics(
                url(port),
                self.project,
                functions=self.functions,
                targets=targets,
                token=self.state.secret("push-token"),
            ),
        )

    def _auth(self) -> Component:
        _needed(FIREBASE, "firebase-tools: run `make node_modules`;")
        folder, ports = self.state.data / "auth", self.ports
        config = {
            "emulators": {
                "auth": {"host": "127.0.0.1", "port": ports.auth},
                "hub": {"host": "127.0.0.1", "port": ports.auth_hub},
                "logging": {"host": "127.0.0.1", "port": ports.auth_logging},
                "ui": {"enabled": False},
                "singleProjectMode": False,
            }
        }
        # its own folders for what it keeps about its user, and for the hub's file in the temporary folder
        private = {
            "CI": "1",
            "NO_UPDATE_NOTIFIER": "1",
            "XDG_CONFIG_HOME": str(folder),
            "TMPDIR": str(folder),
        }
        return Component(
            name="auth",
            command=("node", str(FIREBASE), "emulators:start", "--only", "auth")
            + ("--project", self.project, "--config", str(folder / "firebase.json")),
            env=self.process_env(private),
            port=ports.auth,
            directory=folder,
            files={folder / "firebase.json": json.dumps(config)},
        )

    def _storage(self) -> Component:
        port = self.ports.storage
        return self._stand_in(
            "storage",
            port,
            ("--credentials", str(self.state.storage_credentials)),
            prepare=lambda: create_bucket(url(port), self.project, self.project),
        )

    def _nomad(self) -> Component:
        return self._stand_in(
            "nomad", self.ports.nomad, (f"--token={self.state.secret('nomad-token')}",)
        )

    def _compute(self) -> Component:
        arguments = ("--nomad", url(self.ports.nomad), "--boot-s", f"{self.boot_s:g}")
        # the machine image offers all of the software folder, at the same place
        image = {"BATON_SOFTWARE_PATHS": self.env()["BATON_SOFTWARE_DIR"]}
        return self._stand_in("compute", self.ports.compute, arguments, env=image)

    def _function(self, function: Function) -> Component:
        """Return a function, told only of the secrets that its row of the table names."""
        source = _needed(ROOT / "main.py", "the functions' entry points")
        port = self.ports.functions(self.functions)[function.name]
        sizes = {"WORKERS": str(function.local_workers), "THREADS": str(function.concurrency)}
        env = self.process_env(sizes)
        for secret in set(SECRETS) - set(function.secrets):
            env.pop(secret, None)  # the shell may hold those that are not of this stack
        return Component(
            name=function.name,
            command=(sys.executable, "-m", "functions_framework", "--target", function.name)
            + ("--source", str(source), "--host", "127.0.0.1", "--port", str(port)),
            env=env,
            port=port,
            health_path="/healthz",
        )

    def _gateway(self) -> Component:
        port = self.ports.gateway
        return self._module(
            "gateway", ("--port", str(port)), port=port, health_path="/__/firebase/init.json"
        )

    def _ticker(self) -> Component:
        names = tuple(function.name for function in self.functions)
        return self._module("ticker", ("--port-base", str(self.ports.base)), after=names)

    def _stand_in(
        self,
        name: str,
        port: int,
        arguments: tuple[str, ...],
        prepare: Callable[[], Awaitable[None]] = _nothing,
        env: Mapping[str, str] | None = None,
    ) -> Component:
        data = self.state.data / name
        arguments = ("--port", str(port), "--data", str(data), *arguments)
        return self._module(
            name, arguments, port=port, health_path="/healthz", prepare=prepare, env=env
        )

    def _module(
        self,
        name: str,
        arguments: tuple[str, ...],
        *,
        port: int | None = None,
        health_path: str = "/",
        after: tuple[str, ...] = (),
        prepare: Callable[[], Awaitable[None]] = _nothing,
        env: Mapping[str, str] | None = None,
    ) -> Component:
        module = f"emulators.{name}"
        if importlib.util.find_spec(module) is None or not importlib.util.find_spec(
            f"{module}.__main__"
        ):
            raise StackError(f"{module} is missing: the stack cannot start {name}")
        return Component(
            name=name,
            command=(sys.executable, "-m", module, *arguments),
            env=self.process_env(env or {}),
            port=port,
            health_path=health_path,
            after=after,
            prepare=prepare,
        )


def _needed(path: Path, what: str) -> Path:
    if not path.exists():
        raise StackError(f"{what} {path.relative_to(ROOT)} is missing")
    return path
