"""The gateway as a program, between real clients and real servers that stand for functions."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import pytest

from emulators.ports import find_free_block
from tests.emulators.programs import running
from tests.emulators.upstream import WAIT_S, Call, Server, calls_of, serving
from tests.waiting import until

MIB = 1024 * 1024
SECRET = "s3cret"


@dataclass(frozen=True)
class Gateway:
    """A running gateway, the server behind its API, and what it has logged so far."""

    port: int
    function: Server
    free_port: int
    log_path: Path

    @contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        with closing(connection):
            yield connection

    def ask(
        self, method: str, target: str, body: bytes | Iterator[bytes] | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.connection() as connection:
            connection.request(method, target, body=body, headers=named)
            with connection.getresponse() as answer:
                return answer.status, dict(answer.headers), answer.read()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "dist" / "assets").mkdir(parents=True)
    (folder / "dist" / "index.html").write_text("<title>Baton</title>")
    (folder / "dist" / "assets" / "app.js").write_text("export {}")
    (folder / "dist" / "large.bin").write_bytes(bytes(2 * MIB))
    config = {
        "hosting": {
            "public": "dist",
            "headers": [
                {
                    "source": "/assets/**",
                    "headers": [{"key": "Cache-Control", "value": "immutable"}],
                },
                {"source": "/index.html", "headers": [{"key": "X-Frame-Options", "value": "DENY"}]},
            ],
            "rewrites": [
                {"source": "/api/**", "run": {"serviceId": "submit"}},
                {"source": "/agent/**", "run": {"serviceId": "dispatch"}},
                {"source": "/job/**", "destination": "/index.html"},
            ],
        }
    }
    (folder / "firebase.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def started(site: Path) -> Iterator[Gateway]:
    base = find_free_block()
    env = {
        "GOOGLE_CLOUD_PROJECT": "demo-x",
        "FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:1",
        "FIRESTORE_EMULATOR_HOST": "127.0.0.1:2",
    }
    arguments = ["--port", str(base), "--config", str(site / "firebase.json")]
    arguments += ["--answer-timeout-s", "5", "--start-wait-s", "1"]
    log = site / "gateway.log"
    with (
        serving(base + 1) as function,
        running("emulators.gateway", *arguments, log=log, env=env),
    ):
        until(lambda: "the site is at" in log.read_text())
        yield Gateway(port=base, function=function, free_port=base + 2, log_path=log)


@pytest.fixture
def gateway(started: Gateway) -> Gateway:
    started.function.handle_call = lambda call: call.answer()
    return started


def test_the_query_reaches_the_function_byte_for_byte(gateway: Gateway) -> None:
    calls = calls_of(gateway.function)
    target = f"/api/oauth_jwt?a=%2C%20b&num%5B%5D=0&c=a,b&d=%zz&client_secret={SECRET * 2650}"
    assert gateway.ask("GET", target)[0] == 200
    assert calls.get(timeout=WAIT_S)[0] == target


def test_the_function_sees_the_caller_s_token_and_the_public_host(gateway: Gateway) -> None:
    calls = calls_of(gateway.function)
    gateway.ask("GET", "/api/x", Host="farm.example:8080", Authorization="Bearer t", Cookie="a=b")
    headers = calls.get(timeout=WAIT_S)[1]
    assert headers["Authorization"] == "Bearer t"
    assert headers["X-Forwarded-Host"] == "farm.example:8080"
    assert headers["Cookie"] == "a=b"
    assert "User-Agent" not in headers


def test_what_the_function_answers_comes_back_unchanged(gateway: Gateway) -> None:
    def handle(call: Call) -> None:
        call.answer(
            b'{"a": 1}', 422, X_Own="1", Content_Type="application/x", Content_Encoding="gzip"
        )

    gateway.function.handle_call = handle
    status, headers, body = gateway.ask("GET", "/api/x")
    assert (status, body) == (422, b'{"a": 1}')
    assert (headers["X-Own"], headers["Content-Type"]) == ("1", "application/x")
    assert headers["Content-Encoding"] == "gzip"
    assert "Access-Control-Allow-Origin" not in headers


def test_a_redirect_of_a_function_is_passed_on_not_followed(gateway: Gateway) -> None:
    gateway.function.handle_call = lambda call: call.answer(b"", 302, Location="/api/other")
    status, headers, _ = gateway.ask("GET", "/api/x")
    assert (status, headers["Location"]) == (302, "/api/other")


@pytest.mark.parametrize("size", [0, 10, 3 * MIB])
def test_a_body_of_known_length_keeps_its_length(gateway: Gateway, size: int) -> None:
    seen: SimpleQueue[tuple[str | None, bytes]] = SimpleQueue()

    def handle(call: Call) -> None:
        seen.put((call.headers["Content-Length"], call.body()))
        call.answer()

    gateway.function.handle_call = handle
    sent = b"x" * size
    assert gateway.ask("POST", "/api/x", sent)[0] == 200
    assert seen.get(timeout=WAIT_S) == (str(size), sent)


def test_a_chunked_body_reaches_the_function_while_it_is_being_sent(gateway: Gateway) -> None:
    received: SimpleQueue[bytes] = SimpleQueue()

    def handle(call: Call) -> None:
        for chunk in call.chunks():
            received.put(chunk)
        call.answer(b"done")

    gateway.function.handle_call = handle
    with gateway.connection() as connection:
        connection.putrequest("PUT", "/api/x")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders(b"3\r\none\r\n")
        assert received.get(timeout=WAIT_S) == b"one"
        connection.send(b"3\r\ntwo\r\n0\r\n\r\n")
        assert received.get(timeout=WAIT_S) == b"two"
        assert connection.getresponse().read() == b"done"


def test_an_answer_reaches_the_caller_while_it_is_being_written(gateway: Gateway) -> None:
    go_on = threading.Event()

    def handle(call: Call) -> None:
        call.send_response(200)
        call.send_header("Transfer-Encoding", "chunked")
        call.end_headers()
        call.wfile.write(b"3\r\none\r\n")
        assert go_on.wait(WAIT_S)
        call.wfile.write(b"3\r\ntwo\r\n0\r\n\r\n")

    gateway.function.handle_call = handle
    with gateway.connection() as connection:
        connection.request("GET", "/api/x")
        answer = connection.getresponse()
        assert answer.read(3) == b"one"
        go_on.set()
        assert answer.read() == b"two"


def test_an_answer_that_breaks_off_does_not_look_whole(gateway: Gateway) -> None:
    def handle(call: Call) -> None:
        call.send_response(200)
        call.send_header("Content-Length", str(MIB))
        call.end_headers()
        call.wfile.write(b"half")
        call.close_connection = True

    gateway.function.handle_call = handle
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        gateway.ask("GET", "/api/x")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_more_than_32_mib_is_refused_with_413(gateway: Gateway, is_chunked: bool) -> None:
    gateway.function.handle_call = lambda call: call.answer(str(len(call.body())).encode())
    chunk = bytes(MIB)
    body = iter([chunk] * 33) if is_chunked else chunk * 33
    status, _, answer = gateway.ask("POST", "/api/x", body)
    assert status == 413
    assert json.loads(answer)["error"]["code"] == "TooLarge"
    allowed = iter([chunk] * 32) if is_chunked else chunk * 32
    assert gateway.ask("POST", "/api/x", allowed)[2] == str(32 * MIB).encode()


def test_a_function_that_does_not_answer_in_time_gives_504(gateway: Gateway) -> None:
    answered = threading.Event()

    def handle(_: Call) -> None:
        answered.wait(WAIT_S)

    gateway.function.handle_call = handle
    status, _, body = gateway.ask("GET", "/api/x")
    answered.set()
    assert (status, json.loads(body)["error"]["code"]) == (504, "Timeout")


def test_a_function_that_is_down_gives_502(gateway: Gateway) -> None:
    status, _, body = gateway.ask("POST", "/agent/v1/claim", b"{}")
    assert (status, json.loads(body)["error"]["code"]) == (502, "Unreachable")


def test_a_function_that_is_being_started_again_gets_the_request(gateway: Gateway) -> None:
    """As on Cloud Run, where a request waits for an instance."""
    answers: SimpleQueue[tuple[int, dict[str, str], bytes]] = SimpleQueue()
    caller = threading.Thread(
        target=lambda: answers.put(gateway.ask("POST", "/agent/v1/claim", iter([b"{", b"}"])))
    )
    caller.start()
    with serving(gateway.free_port) as dispatch:
        dispatch.handle_call = lambda call: call.answer(call.body(), Connection="close")
        assert answers.get(timeout=WAIT_S)[::2] == (200, b"{}")
    caller.join()


def test_connections_to_the_function_are_kept(gateway: Gateway) -> None:
    before = gateway.function.connections
    with gateway.connection() as connection:
        for _ in range(50):
            connection.request("GET", "/api/x")
            connection.getresponse().read()
    assert gateway.function.connections - before <= 2


def test_a_secret_in_the_query_is_never_logged(gateway: Gateway) -> None:
    target = f"/agent/v1/claim?client_secret={SECRET}"
    assert gateway.ask("GET", target)[0] == 502
    for broken in (f"/api/x?client_secret={SECRET * 5000}", f"/api/x?client_secret={SECRET}\x01"):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=WAIT_S) as caller:
            caller.sendall(f"GET {broken} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b" 400 " in caller.recv(100)
    assert "dispatch 502" in gateway.log_path.read_text()
    assert SECRET not in gateway.log_path.read_text()


def test_the_dashboard_s_files_are_served_with_their_headers(gateway: Gateway) -> None:
    status, headers, body = gateway.ask("GET", "/")
    assert (status, body) == (200, b"<title>Baton</title>")
    assert headers["X-Frame-Options"] == "DENY"
    status, headers, _ = gateway.ask("GET", "/assets/app.js")
    assert headers["Cache-Control"] == "immutable"
    assert headers["Content-Type"] == "application/javascript"
    assert len(gateway.ask("GET", "/large.bin")[2]) == 2 * MIB


def test_the_link_to_a_job_gives_the_dashboard(gateway: Gateway) -> None:
    status, headers, body = gateway.ask("GET", "/job/00001?tab=tasks")
    assert (status, body) == (200, b"<title>Baton</title>")
    assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/job", 404),
        ("GET", "/../gateway.log", 404),
        ("GET", "/%2e%2e/gateway.log", 404),
        ("GET", "/assets", 404),
        ("POST", "/job/00001", 405),
        ("POST", "/index.html", 404),
    ],
)
def test_what_is_not_there_is_refused_in_json_and_never_redirected(
    gateway: Gateway, method: str, target: str, status: int
) -> None:
    answer = gateway.ask(method, target)
    assert answer[0] == status
    assert json.loads(answer[2])["error"]["code"]


def test_the_dashboard_learns_where_the_emulators_are(gateway: Gateway) -> None:
    config = json.loads(gateway.ask("GET", "/__/firebase/init.json")[2])
    assert config["projectId"] == "demo-x"
    assert config["emulators"] == {"auth": "127.0.0.1:1", "firestore": "127.0.0.1:2"}
