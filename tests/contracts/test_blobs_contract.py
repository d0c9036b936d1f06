"""What the services expect of Blobs, tried on every driver. A new driver is a new line in DRIVERS."""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import boto3
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from google.oauth2 import service_account

from shared.blobs.gcs import GcsBlobs
from shared.blobs.s3 import S3Blobs
from shared.errors import CloudError, InvalidRequest, NotFound, RateLimited, Unreachable
from shared.ports import Blob, Blobs
from tests.contracts.stand_ins import nobody, stand_in
from tests.md5 import md5_of
from tests.s3_server import ENVIRONMENT, Gate, s3_server

MIB = 1024 * 1024
LIFETIME_S = 600
PASSING_RETRY_S = 5.0


class Rig(Protocol):
    """A store with one bucket."""

    blobs: Blobs

    def unreachable(self) -> Blobs: ...
    def fail_next(self, calls: int, status: int) -> None: ...
    def heal(self) -> None: ...


@dataclass(frozen=True)
class Driver:
    """One implementation. Of its store and of how artists' clients treat its URLs:

    `has_md5_of_parts`: an object made of parts has an MD5; `is_s3_to_clients`: its URLs make them send neither MD5 nor
    token; `takes_foreign_headers`: a body without a length and a token beside the signature do no harm.
    """

    rig: Callable[[Path], AbstractContextManager[Rig]]
    has_md5_of_parts: bool
    is_s3_to_clients: bool
    takes_foreign_headers: bool


class GcsRig:
    """The stand-in for Cloud Storage."""

    def __init__(self, url: str, credentials_path: Path) -> None:
        self.url = url
        self._signer = service_account.Credentials.from_service_account_file(str(credentials_path))
        bucket = {"name": "baton-test"}
        created = requests.post(f"{url}/storage/v1/b?project=p", json=bucket, timeout=10)
        created.raise_for_status()
        self.blobs: Blobs = self._blobs(url, PASSING_RETRY_S)

    def _blobs(self, url: str, retry_s: float) -> Blobs:
        credentials = AnonymousCredentials()
        options = {"api_endpoint": url}
        client = Client(project="p", credentials=credentials, client_options=options)
        return GcsBlobs(client.bucket("baton-test"), lambda: self._signer, retry_s=retry_s)

    def unreachable(self) -> Blobs:
        return self._blobs(nobody(), 0.1)

    def fail_next(self, calls: int, status: int) -> None:
        order = [{"times": calls, "status": status}]
        requests.post(f"{self.url}/faults", json=order, timeout=10).raise_for_status()

    def heal(self) -> None:
        requests.post(f"{self.url}/faults", json=[], timeout=10).raise_for_status()


def write_credentials(path: Path) -> None:
    """Write the JSON of a service account with a key of its own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    said = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "signer@p.iam.gserviceaccount.com",
        "token_uri": "http://127.0.0.1:1/token",
    }
    path.write_text(json.dumps(said))


@contextmanager
def gcs_rig(directory: Path) -> Iterator[Rig]:
    credentials_path = directory / "signer.json"
    write_credentials(credentials_path)
    options = ("--data", directory / "data", "--credentials", credentials_path)
    with stand_in("storage", *options) as url:
        yield GcsRig(url, credentials_path)


class S3Rig:
    """moto, behind a gate."""

    def __init__(self, url: str, gate: Gate) -> None:
        self._gate = gate
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="baton-test")
        self.blobs: Blobs = S3Blobs.connect(bucket="baton-test", endpoint=url)

    def unreachable(self) -> Blobs:
        return S3Blobs.connect(bucket="baton-test", endpoint=nobody(), tries=1)

    def fail_next(self, calls: int, status: int) -> None:
        self._gate.fail_next(calls, status)

    def heal(self) -> None:
        self._gate.fail_next(0, 0)


@contextmanager
def s3_rig(_: Path) -> Iterator[Rig]:
    with s3_server() as (url, gate), pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield S3Rig(url, gate)


GCS = Driver(
    rig=gcs_rig, has_md5_of_parts=False, is_s3_to_clients=False, takes_foreign_headers=True
)
S3 = Driver(rig=s3_rig, has_md5_of_parts=False, is_s3_to_clients=True, takes_foreign_headers=False)
DRIVERS = [pytest.param(GCS, id="gcs"), pytest.param(S3, id="s3")]


@pytest.fixture(scope="module", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    found: Driver = request.param
    return found


@pytest.fixture(scope="module")
def shared_rig(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with driver.rig(tmp_path_factory.mktemp("blobs")) as made:
        yield made


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    return shared_rig


@pytest.fixture
def blobs(rig: Rig) -> Blobs:
    return rig.blobs


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses, with characters that URLs care about."""
    digest = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    return f"accounts/acme/{digest}/é a+b&c=d%20.exr"


def tampered(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path + "x"))


# Objects


def test_what_is_stored_under_a_prefix_is_summed(blobs: Blobs, name: str) -> None:
    prefix = name.rpartition("/")[0]
    assert blobs.stored_bytes(f"{prefix}/") == 0
    for path, content in (("a", b"12"), ("b/c", b"345"), ("d", b"")):
        blobs.write(f"{prefix}/{path}", content, "text/plain")
    blobs.write(f"{prefix}-2/a", b"another's", "text/plain")
    assert blobs.stored_bytes(f"{prefix}/") == 5
    blobs.write(f"{prefix}/a", b"1", "text/plain")
    assert blobs.stored_bytes(f"{prefix}/") == 4


def test_names_under_a_prefix_come_in_order_of_their_bytes(blobs: Blobs, name: str) -> None:
    prefix = name.rpartition("/")[0]
    assert list(blobs.names(f"{prefix}/")) == []
    there = [
        f"{prefix}/{each}" for each in ("é", "b/c", "a+b", "b", "B", "b c", "\N{GRINNING FACE}")
    ]
    for each in (*there, f"{prefix}-2/a"):
        blobs.write(each, b"x", "text/plain")
    assert list(blobs.names(f"{prefix}/")) == sorted(there, key=str.encode)
    assert list(blobs.names(f"{prefix}/b/")) == [f"{prefix}/b/c"]


def test_more_names_than_fit_one_page(blobs: Blobs, name: str) -> None:
    there = [f"{name}/{index:04}" for index in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: blobs.write(each, b"", "text/plain"), there))
    assert list(blobs.names(f"{name}/")) == there
    assert next(iter(blobs.names(f"{name}/"))) == there[0]


def test_what_is_written_is_read(blobs: Blobs, name: str) -> None:
    blobs.write(name, b"hello", "text/plain")
    assert blobs.read(name) == b"hello"


def test_writing_again_replaces(blobs: Blobs, name: str) -> None:
    blobs.write(name, b"one", "text/plain")
    blobs.write(name, b"two", "text/plain")
    assert blobs.read(name) == b"two"


def test_an_empty_object_is_an_object(blobs: Blobs, name: str) -> None:
    blobs.write(name, b"", "text/plain")
    assert blobs.read(name) == b""
    assert blobs.stat([name])[name].size_bytes == 0


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (0, None, b"0123456789"),
        (0, 4, b"0123"),
        (4, 7, b"456"),
        (4, None, b"456789"),
        (7, 99, b"789"),
        (4, 4, b""),
        (10, None, b""),
        (99, 120, b""),
    ],
)
def test_a_range_ends_before_its_end(
    blobs: Blobs, name: str, start: int, end: int | None, found: bytes
) -> None:
    blobs.write(name, b"0123456789", "text/plain")
    assert blobs.read(name, start, end) == found


@pytest.mark.parametrize("span", [(0, None), (3, 9), (3, 3)])
def test_reading_what_is_not_there_is_not_found(
    blobs: Blobs, name: str, span: tuple[int, int | None]
) -> None:
    with pytest.raises(NotFound):
        blobs.read(name, *span)


def test_stat_returns_what_exists_with_size_and_md5(blobs: Blobs, name: str) -> None:
    blobs.write(name, b"hello", "text/plain")
    found = blobs.stat([name, f"{name}-missing", name])
    assert found == {name: Blob(name=name, size_bytes=5, md5=md5_of(b"hello"))}
    assert blobs.stat([]) == {}


def test_stat_of_more_names_than_fit_one_call(blobs: Blobs, name: str) -> None:
    there = [f"{name}-{index}" for index in range(0, 240, 10)]
    for each in there:
        blobs.write(each, b"x", "text/plain")
    found = blobs.stat([f"{name}-{index}" for index in range(240)])
    assert sorted(found) == sorted(there)


def test_a_deleted_object_is_gone_and_deleting_it_again_is_quiet(blobs: Blobs, name: str) -> None:
    blobs.write(name, b"hello", "text/plain")
    blobs.delete(name)
    blobs.delete(name)
    assert blobs.stat([name]) == {}


# Signed URLs


def test_a_signed_url_reads_without_any_header(blobs: Blobs, name: str) -> None:
    blobs.write(name, b"0123456789", "text/plain")
    url = blobs.url_to_read(name, LIFETIME_S)
    assert requests.get(url, timeout=10).content == b"0123456789"
    ranged = requests.get(url, headers={"Range": "bytes=2-4"}, timeout=10)
    assert (ranged.status_code, ranged.content) == (206, b"234")


def test_a_signed_url_reads_nothing_else_and_writes_nothing(blobs: Blobs, name: str) -> None:
    blobs.write(name, b"secret", "text/plain")
    blobs.write(f"{name}x", b"another", "text/plain")
    url = blobs.url_to_read(name, LIFETIME_S)
    assert requests.get(tampered(url), timeout=10).status_code == 403
    assert requests.get(url.partition("?")[0], timeout=10).status_code == 403
    assert requests.put(url, data=b"x", timeout=10).status_code == 403
    assert blobs.read(name) == b"secret"


def test_a_signed_url_writes_whatever_the_content_type(blobs: Blobs, name: str) -> None:
    url = blobs.url_to_write(name, LIFETIME_S)
    headers = {"Content-Type": "application/octet-stream"}
    assert requests.put(url, data=b"hello", headers=headers, timeout=10).ok
    assert blobs.read(name) == b"hello"


@pytest.mark.parametrize("content", [b"hello", b""])
def test_a_client_uploads_by_a_url_as_it_treats_such_urls(
    blobs: Blobs, name: str, driver: Driver, content: bytes
) -> None:
    url = blobs.url_to_upload(name, LIFETIME_S, md5_of(content))
    is_s3 = "amazonaws" in url
    assert is_s3 is driver.is_s3_to_clients
    headers = {"Content-Type": "application/octet-stream"}
    body: Any = content
    if not is_s3:
        headers |= {"Content-MD5": md5_of(content), "Authorization": "Bearer of-another"}
        body = iter([content])
    assert requests.put(url, data=body, headers=headers, timeout=10).ok
    assert blobs.stat([name])[name].md5 == md5_of(content)


def test_other_bytes_than_announced_are_refused_or_seen_on_arrival(
    blobs: Blobs, name: str, driver: Driver
) -> None:
    md5 = md5_of(b"hello")
    url = blobs.url_to_upload(name, LIFETIME_S, md5)
    if driver.is_s3_to_clients:
        requests.put(url, data=b"other", timeout=10).raise_for_status()
        assert blobs.stat([name])[name].md5 == md5_of(b"other")
    else:
        headers = {"Content-MD5": md5}
        assert not requests.put(url, data=b"other", headers=headers, timeout=10).ok
        assert blobs.stat([name]) == {}


def test_a_chunked_body_and_a_foreign_token_do_no_harm_where_clients_send_them(
    blobs: Blobs, name: str, driver: Driver
) -> None:
    url = blobs.url_to_write(name, LIFETIME_S)
    headers = {"Authorization": "Bearer of-another"}
    answer = requests.put(url, data=iter([b"he", b"llo"]), headers=headers, timeout=10)
    assert answer.ok is driver.takes_foreign_headers
    assert bool(blobs.stat([name])) is driver.takes_foreign_headers


def test_a_url_signed_with_an_md5_takes_those_bytes_only(blobs: Blobs, name: str) -> None:
    md5 = md5_of(b"hello")
    url = blobs.url_to_write(name, LIFETIME_S, md5)
    assert not requests.put(url, data=b"hello", timeout=10).ok  # without the header
    other = {"Content-MD5": md5_of(b"other")}
    assert not requests.put(url, data=b"other", headers=other, timeout=10).ok
    assert not requests.put(url, data=b"other", headers={"Content-MD5": md5}, timeout=10).ok
    assert blobs.stat([name]) == {}
    assert requests.put(url, data=b"hello", headers={"Content-MD5": md5}, timeout=10).ok
    assert blobs.stat([name])[name].md5 == md5


# Uploads in parts


def uploaded(blobs: Blobs, name: str, parts: list[bytes]) -> tuple[str, dict[int, str]]:
    """Return the id and the ETags of an upload all of whose parts are there."""
    upload_id = blobs.begin_parts(name)
    etags = {}
    for number, content in enumerate(parts, start=1):
        url = blobs.url_to_write_part(name, upload_id, number, LIFETIME_S)
        answer = requests.put(url, data=content, timeout=30)
        answer.raise_for_status()
        etags[number] = answer.headers["ETag"]
    return upload_id, etags


def test_parts_are_joined_in_order(blobs: Blobs, name: str, driver: Driver) -> None:
    parts = [b"a" * 5 * MIB, b"b" * 5 * MIB, b"c"]
    upload_id, etags = uploaded(blobs, name, parts)
    assert blobs.stat([name]) == {}
    backwards = dict(reversed(etags.items()))
    done = blobs.complete_parts(name, upload_id, backwards, 10 * MIB + 1)
    assert (done.name, done.size_bytes) == (name, 10 * MIB + 1)
    assert (done.md5 is not None) is driver.has_md5_of_parts
    assert blobs.read(name) == b"".join(parts)


def test_an_upload_that_is_not_there_or_complete_already_is_not_found(
    blobs: Blobs, name: str
) -> None:
    with pytest.raises(NotFound):
        blobs.complete_parts(name, "no-such-upload", {1: "x"}, 1)
    upload_id, etags = uploaded(blobs, name, [b"x"])
    blobs.complete_parts(name, upload_id, etags, 1)
    with pytest.raises(NotFound):
        blobs.complete_parts(name, upload_id, etags, 1)


@pytest.mark.parametrize(
    "wrong", [{1: '"0123456789abcdef0123456789abcdef"'}, {2: '"0123"'}, {}], ids=str
)
def test_parts_that_do_not_match_are_refused_and_the_upload_stays(
    blobs: Blobs, name: str, wrong: dict[int, str]
) -> None:
    upload_id, etags = uploaded(blobs, name, [b"x"])
    with pytest.raises(InvalidRequest):
        blobs.complete_parts(name, upload_id, wrong, 1)
    assert blobs.complete_parts(name, upload_id, etags, 1).size_bytes == 1


def test_parts_of_another_size_than_said_are_refused_and_the_upload_stays(
    blobs: Blobs, name: str
) -> None:
    upload_id, etags = uploaded(blobs, name, [b"x"])
    with pytest.raises(InvalidRequest):
        blobs.complete_parts(name, upload_id, etags, 2)
    assert blobs.stat([name]) == {}
    assert blobs.complete_parts(name, upload_id, etags, 1).size_bytes == 1


# Trouble

CALLS: list[Callable[[Blobs, str], Any]] = [
    lambda blobs, name: blobs.write(name, b"x", "text/plain"),
    lambda blobs, name: blobs.read(name),
    lambda blobs, name: blobs.stat([name]),
    lambda blobs, name: list(blobs.names(name)),
    lambda blobs, name: blobs.begin_parts(name),
    lambda blobs, name: blobs.delete(f"{name}-missing"),
]


# A client that was refused leaves its socket to the collector, which may come in the middle of another test.
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("status", "error"), [(503, Unreachable), (429, RateLimited)])
def test_a_provider_that_fails_is_either_outlasted_or_told(
    rig: Rig, name: str, call: Callable[[Blobs, str], Any], status: int, error: type[CloudError]
) -> None:
    rig.blobs.write(name, b"x", "text/plain")
    rig.fail_next(1, status)
    try:
        call(rig.blobs, name)
    except CloudError as exc:
        assert type(exc) is error  # noqa: PT017  either is right
    rig.fail_next(3, 403)
    with pytest.raises(CloudError):
        call(rig.blobs, name)
    rig.heal()
    call(rig.blobs, name)


@pytest.mark.parametrize("call", CALLS)
def test_a_provider_that_does_not_answer_is_unreachable(
    rig: Rig, name: str, call: Callable[[Blobs, str], Any]
) -> None:
    with pytest.raises(Unreachable):
        call(rig.unreachable(), name)


def test_an_operator_whose_own_credentials_cannot_sign_still_reads_and_writes(
    rig: Rig, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(rig, GcsRig):
        pytest.skip("S3's credentials always sign")
    person = {
        "type": "authorized_user",
        "client_id": "c",
        "client_secret": "s",
        "refresh_token": "r",
        "token_uri": f"{nobody()}/token",
    }
    path = tmp_path / "person.json"
    path.write_text(json.dumps(person))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", rig.url)
    blobs = GcsBlobs.connect(project="p", bucket="baton-test")
    blobs.write(name, b"x", "text/plain")
    assert blobs.read(name) == b"x"
