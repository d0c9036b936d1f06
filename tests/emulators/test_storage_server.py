"""The storage stand-in as a process: what survives its end, connections, control endpoints.

`running` starts one for the other storage tests too.
"""

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from google.oauth2.service_account import Credentials

from tests.waiting import until

ROOT = Path(__file__).parents[2]
DEADLINE_S = 20


def new_account(email: str = "signer@farm.iam.gserviceaccount.com") -> dict[str, str]:
    """Return a service account's JSON with a fresh key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "client_email": email,
        "token_uri": "http://127.0.0.1/token",
        "private_key": pem.decode(),
    }


def credentials_of(account: dict[str, str]) -> Credentials:
    made: Credentials = Credentials.from_service_account_info(account)
    return made


class StandIn:
    """One running stand-in with the bucket `files`, and who signs its URLs."""

    def __init__(self, data: Path) -> None:
        self.data = data
        account_file = data.parent / "account.json"
        if not account_file.exists():
            account_file.write_text(json.dumps(new_account()))
        self.credentials = credentials_of(json.loads(account_file.read_text()))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "emulators.storage", "--port", "0", "--data", str(data)]
            + ["--credentials", str(account_file)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.client = Client(
            project="farm",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.url},
        )
        self.bucket = self.client.bucket("files")
        if not self.bucket.exists():
            self.bucket.create()

    def signed(self, method: str, name: str, **options: Any) -> str:
        url: str = self.bucket.blob(name).generate_signed_url(
            version="v4",
            method=method,
            expiration=timedelta(minutes=5),
            credentials=options.pop("credentials", self.credentials),
            api_access_endpoint=self.url,
            **options,
        )
        return url

    def put(self, name: str, body: bytes, **headers: str) -> requests.Response:
        """PUT by a URL that signs all of `headers`, whose names have _ for -."""
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        url = self.signed("PUT", name, headers=dict(sent))
        return requests.put(url, data=body, headers=sent, timeout=DEADLINE_S)

    def read(self, name: str) -> bytes:
        body: bytes = self.bucket.blob(name).download_as_bytes()
        return body

    def holds(self, name: str) -> bool:
        return bool(self.bucket.blob(name).exists())

    def content_files(self) -> list[Path]:
        return list((self.data / "content").iterdir())

    def stop(self, *, kill: bool = False) -> None:
        (self.process.kill if kill else self.process.terminate)()
        self.process.wait(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def running(data: Path) -> Iterator[StandIn]:
    stand_in = StandIn(data)
    try:
        yield stand_in
    finally:
        stand_in.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with running(tmp_path_factory.mktemp("storage") / "data") as stand_in:
        yield stand_in


def test_objects_survive_an_ordinary_restart(tmp_path: Path) -> None:
    with running(tmp_path / "data") as stand_in:
        assert stand_in.put("frame.exr", b"pixels", x_goog_meta_frame="7").ok
        generation = stand_in.bucket.get_blob("frame.exr").generation
    assert stand_in.process.returncode == 0
    with running(tmp_path / "data") as stand_in:
        blob = stand_in.bucket.get_blob("frame.exr")
        assert (blob.generation, blob.metadata) == (generation, {"frame": "7"})
        assert blob.download_as_bytes() == b"pixels"


def test_a_kill_in_the_middle_of_a_put_leaves_the_old_object_and_no_file(tmp_path: Path) -> None:
    stand_in = StandIn(tmp_path / "data")
    assert stand_in.put("frame.exr", b"the old one").ok

    def half_of_it() -> Iterator[bytes]:
        yield bytes(3 << 20)
        until(lambda: sum(file.stat().st_size for file in stand_in.content_files()) > 2 << 20)
        stand_in.stop(kill=True)
        while True:
            yield bytes(1 << 20)

    with pytest.raises(requests.ConnectionError):
        requests.put(stand_in.signed("PUT", "frame.exr"), data=half_of_it(), timeout=DEADLINE_S)
    assert len(stand_in.content_files()) == 2
    with running(tmp_path / "data") as stand_in:
        assert stand_in.read("frame.exr") == b"the old one"
        assert len(stand_in.content_files()) == 1


def test_what_was_answered_before_a_kill_is_still_there(tmp_path: Path) -> None:
    stand_in = StandIn(tmp_path / "data")
    for number in range(20):
        assert stand_in.put(f"frame.{number}", b"%d" % number).ok
    stand_in.stop(kill=True)
    with running(tmp_path / "data") as stand_in:
        assert [stand_in.read(f"frame.{number}") for number in range(20)] == [
            b"%d" % number for number in range(20)
        ]


def test_a_resumable_upload_goes_on_after_a_kill(tmp_path: Path) -> None:
    body = bytes(range(256)) * 4096
    stand_in = StandIn(tmp_path / "data")
    session = stand_in.bucket.blob("scene.bin").create_resumable_upload_session()
    piece = {"Content-Range": f"bytes 0-{(512 << 10) - 1}/{len(body)}"}
    reply = requests.put(session, data=body[: 512 << 10], headers=piece, timeout=DEADLINE_S)
    assert (reply.status_code, reply.headers["Range"]) == (308, "bytes=0-524287")
    stand_in.stop(kill=True)
    with running(tmp_path / "data") as stand_in:
        session = stand_in.url + session.partition("/upload/")[1] + session.partition("/upload/")[2]
        asked = {"Content-Range": f"bytes */{len(body)}"}
        reply = requests.put(session, headers=asked, timeout=DEADLINE_S)
        assert (reply.status_code, reply.headers["Range"]) == (308, "bytes=0-524287")
        piece = {"Content-Range": f"bytes {512 << 10}-{len(body) - 1}/{len(body)}"}
        assert requests.put(session, data=body[512 << 10 :], headers=piece, timeout=DEADLINE_S).ok
        assert stand_in.read("scene.bin") == body


def test_a_second_process_on_the_same_data_is_refused(server: StandIn) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "emulators.storage", "--port", "0", "--data", str(server.data)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert second.returncode == 1
    assert "is in use by another process" in second.stderr


def test_credentials_without_a_key_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "account.json").write_text('{"client_email": "signer@farm"}')
    started = subprocess.run(
        [sys.executable, "-m", "emulators.storage", "--port", "0", "--data", str(tmp_path / "d")]
        + ["--credentials", str(tmp_path / "account.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert started.returncode == 1
    assert started.stderr.count("\n") == 1
    assert "private_key" in started.stderr


def test_reset_forgets_everything(tmp_path: Path) -> None:
    with running(tmp_path / "data") as stand_in:
        stand_in.put("frame.exr", b"pixels")
        stand_in.bucket.blob("scene").create_resumable_upload_session()
        assert requests.post(f"{stand_in.url}/reset", timeout=DEADLINE_S).status_code == 204
        assert not stand_in.bucket.exists()
        assert stand_in.content_files() == []


def test_health_is_answered_with_200(server: StandIn) -> None:
    assert requests.get(f"{server.url}/healthz", timeout=DEADLINE_S).status_code == 200


def test_one_connection_carries_many_requests_even_after_a_refused_body(server: StandIn) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=DEADLINE_S)
    sockets = set()
    for body in (bytes(5 << 20), iter([bytes(1 << 20)] * 5), b""):
        connection.request("PUT", "/files/x", body, encode_chunked=not isinstance(body, bytes))
        assert b"AccessDenied" in connection.getresponse().read()
        sockets.add(connection.sock)
    connection.close()
    assert len(sockets) == 1
    assert None not in sockets


def test_large_bodies_pass_through_little_memory(server: StandIn) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(160):
            yield bytes(1 << 20)

    assert requests.put(server.signed("PUT", "large"), data=body(), timeout=DEADLINE_S).ok
    with requests.get(server.signed("GET", "large"), stream=True, timeout=DEADLINE_S) as reply:
        assert sum(map(len, reply.iter_content(1 << 20))) == 160 << 20
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    assert peak_kib < 80 << 10


def test_a_body_that_waits_to_be_asked_for_is_asked_for(server: StandIn) -> None:
    url = server.signed("PUT", "asked").removeprefix(server.url)
    host = server.url.removeprefix("http://")
    with socket.create_connection(("127.0.0.1", int(host.partition(":")[2])), 5) as connection:
        head = f"PUT {url} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"pixels")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("length", ["-1", "ten", "1,1"])
def test_a_content_length_that_is_no_number_is_refused(server: StandIn, length: str) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
        head = f"PUT /files/x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 400 ")


def test_browsers_may_read_from_any_page(server: StandIn) -> None:
    server.put("thumbnail.png", b"pixels")
    page = {"Origin": "http://127.0.0.1:8080"}
    reply = requests.get(server.signed("GET", "thumbnail.png"), headers=page, timeout=DEADLINE_S)
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert "ETag" in reply.headers["Access-Control-Expose-Headers"]
    preflight = {**page, "Access-Control-Request-Method": "GET"}
    reply = requests.options(f"{server.url}/files/x", headers=preflight, timeout=DEADLINE_S)
    assert reply.status_code == 200
    assert reply.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
