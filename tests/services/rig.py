"""What all tests of dispatch and billing share: one stack for the whole run, the functions, and what is published."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import functions_framework
import pytest
import requests
from flask import Flask

from deploy.functions import load_functions
from emulators.up.client import Stack, stack
from tests.adapters import forget_adapters

ROOT = Path(__file__).parents[2]
TOPICS = {topic.name: function.name for function in load_functions() for topic in function.topics}
# Of the stack's own project every message is pushed to functions that do not run here.
PROJECT = "played-by-tests"
Message = dict[str, Any]

_STACK = pytest.StashKey[Stack]()


def shared_stack(config: pytest.Config) -> Stack:
    """Return the stack of this run; the first to ask starts it."""
    if _STACK not in config.stash:
        exits = ExitStack()
        config.add_cleanup(exits.close)
        needed = ("firestore", "pubsub", "storage", "nomad")
        config.stash[_STACK] = exits.enter_context(stack(only=needed))
        inbox = Inbox(config.stash[_STACK])
        for topic in TOPICS:
            inbox.create(topic)
    return config.stash[_STACK]


@dataclass
class Inbox:
    """What was published: one subscription a topic."""

    stack: Stack
    pending: list[tuple[str, Message]] = field(default_factory=list)
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False  # no look at proxies before every call

    def create(self, topic: str) -> None:
        name = f"projects/{PROJECT}/topics/{topic}"
        self._call("PUT", name, {})
        self._call("PUT", name.replace("/topics/", "/subscriptions/"), {"topic": name})

    def take(self, account_id: str, *topics: str) -> list[tuple[str, Message]]:
        """Return what was published for an account on these topics, all when none is named, and forget it."""
        for topic in topics or TOPICS:
            self._pull(topic)
        wanted = [
            each
            for each in self.pending
            if each[1].get("account_id") == account_id and each[0] in (topics or TOPICS)
        ]
        self.pending = [each for each in self.pending if each not in wanted]
        return wanted

    def _pull(self, topic: str) -> None:
        """Take what is there now: whoever published has been answered already."""
        name = f"projects/{PROJECT}/subscriptions/{topic}"
        wanted = {"maxMessages": 1000, "returnImmediately": True}
        while received := self._call("POST", f"{name}:pull", wanted).get("receivedMessages"):
            ids = [each["ackId"] for each in received]
            self._call("POST", f"{name}:acknowledge", {"ackIds": ids})
            for each in received:
                self.pending.append((topic, json.loads(base64.b64decode(each["message"]["data"]))))

    def _call(self, method: str, path: str, body: object) -> dict[str, Any]:
        url = f"{self.stack.url('pubsub')}/v1/{path}"
        answer = self.session.request(method, url, json=body, timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


@dataclass(frozen=True)
class Rig:
    """What all farms of a module share."""

    stack: Stack
    apps: Mapping[str, Flask]
    inbox: Inbox

    def clear(self) -> None:
        """Forget every document, everything at the scheduler, and every fault that was ordered."""
        documents = f"projects/{PROJECT}/databases/(default)/documents"
        host = self.stack.env["FIRESTORE_EMULATOR_HOST"]
        requests.delete(f"http://{host}/emulator/v1/{documents}", timeout=30).raise_for_status()
        nomad = self.stack.url("nomad")
        requests.delete(f"{nomad}/faults", timeout=10).raise_for_status()
        requests.post(f"{nomad}/reset", timeout=10).raise_for_status()


@pytest.fixture(scope="module", name="rig")
def rig_fixture(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """The functions `dispatch` and `billing`, wired to the stack of this run while a module's tests run."""
    running = shared_stack(request.config)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (running.env | {"GOOGLE_CLOUD_PROJECT": PROJECT}).items():
            patch.setenv(name, value)
        forget_adapters()
        create_app: Any = functions_framework.create_app
        apps = {name: create_app(name, str(ROOT / "main.py")) for name in ("dispatch", "billing")}
        yield Rig(running, apps, Inbox(running))
    forget_adapters()
