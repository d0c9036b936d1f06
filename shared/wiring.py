"""The composition root: environment to adapters.

The only reader of the environment; everything is made on first use.
"""

import os
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from flask import Request
from google.cloud import firestore

from shared.buses.pubsub import PubSubBus, PubSubDeadLetters
from shared.errors import InvalidRequest
from shared.http import Reply
from shared.models.account import Gpus
from shared.models.farm import Orchestrator
from shared.orchestrators.nomad import NomadScheduler
from shared.ports import Blobs, Bus, DeadLetters, Fleet, Identity, Ports, Scheduler
from shared.services.limits import CallLimits, SignInLimits
from shared.services.sign_in import ApiKeys
from shared.services.standing import Standing
from shared.services.uploads import PartSizes
from shared.stores.accounts import FirestoreAccountStore
from shared.stores.admission import FirestoreAdmissionStore
from shared.stores.catalog import FirestoreCatalogStore
from shared.stores.downloads import FirestoreDownloadStore
from shared.stores.jobs import FirestoreJobStore
from shared.stores.ledger import FirestoreLedgerStore
from shared.stores.orchestrators import FirestoreOrchestratorStore
from shared.stores.transfers import FirestoreTransferStore
from shared.stores.uploads import FirestoreUploadStore
from shared.tokens import Tokens

if TYPE_CHECKING:
    from shared.blobs.gcs import GcsBlobs


def setting(name: str) -> str:
    """Return a variable that must be set. Raises: RuntimeError naming it."""
    value = os.environ.get(name, "")
    if not value:
        raise RuntimeError(f"the environment variable {name} is not set")
    return value


def _token_of(variable: str, orchestrator: Orchestrator) -> str:
    """Return the token of an orchestrator's cluster: its own, else that of all clusters of this kind, else none."""
    suffix = orchestrator.orchestrator_id.upper().replace("-", "_")
    return os.environ.get(f"{variable}_{suffix}") or os.environ.get(variable, "")


def now() -> datetime:
    """Return the present moment, UTC."""
    return datetime.now(UTC)


def healthz(_: Request) -> Reply:
    """Tell a supervisor that the function is there; anybody may ask, and learns nothing else."""
    return {"status": "ok"}


def push_token() -> str:
    """Return what Pub/Sub's pushes and the scheduler's calls carry."""
    return setting("BATON_PUSH_TOKEN")


@cache
def tokens() -> Tokens:
    """Return the signer of clients' and attempts' tokens."""
    return Tokens.parse(setting("BATON_SIGNING_KEYS"))


@cache
def firestore_client() -> firestore.Client:
    """Return the database's client."""
    return firestore.Client(project=setting("GOOGLE_CLOUD_PROJECT"))


@cache
def job_store() -> FirestoreJobStore:
    """Return the jobs."""
    return FirestoreJobStore(firestore_client())


@cache
def ledger_store() -> FirestoreLedgerStore:
    """Return the ledger's sums."""
    return FirestoreLedgerStore(firestore_client())


@cache
def admission_store() -> FirestoreAdmissionStore:
    """Return the active jobs."""
    return FirestoreAdmissionStore(firestore_client())


@cache
def account_store() -> FirestoreAccountStore:
    """Return accounts, projects, users and keys."""
    return FirestoreAccountStore(firestore_client())


@cache
def catalog_store() -> FirestoreCatalogStore:
    """Return the catalogue."""
    return FirestoreCatalogStore(firestore_client())


@cache
def download_store() -> FirestoreDownloadStore:
    """Return what download daemons may be handed."""
    return FirestoreDownloadStore(firestore_client())


@cache
def transfer_store() -> FirestoreTransferStore:
    """Return the work of up- and downloaders."""
    return FirestoreTransferStore(firestore_client())


@cache
def upload_store() -> FirestoreUploadStore:
    """Return the queue of uploads."""
    return FirestoreUploadStore(firestore_client())


@cache
def orchestrator_store() -> FirestoreOrchestratorStore:
    """Return the orchestrators."""
    return FirestoreOrchestratorStore(firestore_client())


@cache
def blobs() -> Blobs:
    """Return the object storage. Raises: RuntimeError when there is no driver for it."""
    kind = os.environ.get("BATON_BLOBS", "gcs")
    if kind == "s3":
        from shared.blobs.s3 import S3Blobs

        endpoint = os.environ.get("BATON_S3_ENDPOINT", "")
        return S3Blobs.connect(bucket=setting("BATON_BUCKET"), endpoint=endpoint)
    if kind != "gcs":
        raise RuntimeError(f"BATON_BLOBS: no driver for {kind!r}")
    return _gcs()


@cache
def _gcs() -> "GcsBlobs":
    from shared.blobs.gcs import GcsBlobs

    return GcsBlobs.connect(
        project=setting("GOOGLE_CLOUD_PROJECT"),
        bucket=setting("BATON_BUCKET"),
        credentials_path=os.environ.get("BATON_STORAGE_CREDENTIALS", ""),
    )


@cache
def bus() -> Bus:
    """Return the message bus."""
    return PubSubBus.connect(project=setting("GOOGLE_CLOUD_PROJECT"))


@cache
def dead_letters() -> DeadLetters:
    """Return the messages that no handler took."""
    return PubSubDeadLetters.connect(project=setting("GOOGLE_CLOUD_PROJECT"))


def _machine_types() -> tuple[dict[str, str], dict[str, Gpus]]:
    """Return the provider's name of every instance type, and the GPUs of those that have any."""
    known = catalog_store().known_instance_types()
    return (
        {each.name: each.machine_type for each in known},
        {each.name: each.gpus for each in known if each.gpus is not None},
    )


_schedulers: dict[tuple[object, ...], Scheduler] = {}


def scheduler(orchestrator: Orchestrator) -> Scheduler:
    """Return the scheduler of an orchestrator. Raises: InvalidRequest when there is no driver for it."""
    if orchestrator.scheduler == "kubernetes":
        return _kubernetes(orchestrator)
    if orchestrator.scheduler == "batch":
        return _batch(orchestrator)
    if orchestrator.scheduler != "nomad":
        raise InvalidRequest({"scheduler": f"no driver for {orchestrator.scheduler!r}"})
    key = (orchestrator.orchestrator_id, orchestrator.scheduler_address)
    if key not in _schedulers:
        _schedulers[key] = NomadScheduler(
            orchestrator.scheduler_address,
            token=_token_of("NOMAD_TOKEN", orchestrator),
            orchestrator_id=orchestrator.orchestrator_id,
        )
    return _schedulers[key]


def _batch(orchestrator: Orchestrator) -> Scheduler:
    """Return the scheduler of an orchestrator on AWS Batch; its address is empty where the API is Amazon's own."""
    from shared.orchestrators.batch import BatchScheduler

    _, gpus = _machine_types()
    key = (
        f"{orchestrator.orchestrator_id}:{orchestrator.region}",
        orchestrator.scheduler_address,
        frozenset(gpus.items()),
    )
    if key not in _schedulers:
        _schedulers[key] = BatchScheduler(
            orchestrator.region,
            orchestrator_id=orchestrator.orchestrator_id,
            endpoint=orchestrator.scheduler_address,
            gpus=gpus,
        )
    return _schedulers[key]


def _kubernetes(orchestrator: Orchestrator) -> Scheduler:
    """Return the scheduler of an orchestrator on Kubernetes, whose client takes a while to import."""
    from shared.orchestrators.kubernetes import KubernetesScheduler
    from shared.orchestrators.kubernetes_bodies import Site

    types, gpus = _machine_types()
    address = orchestrator.scheduler_address
    catalog = frozenset(types.items()), frozenset(gpus.items())
    key = (orchestrator.orchestrator_id, address, catalog)
    if key not in _schedulers:
        site = Site(
            orchestrator_id=orchestrator.orchestrator_id,
            address=address,
            namespace=os.environ.get("KUBERNETES_NAMESPACE", "baton"),
            image=setting("BATON_AGENT_IMAGE"),
            machine_types=types,
            gpus=gpus,
        )
        _schedulers[key] = KubernetesScheduler(
            site,
            token=_token_of("KUBERNETES_TOKEN", orchestrator),
            ca_path=os.environ.get("KUBERNETES_CA_FILE", ""),
        )
    return _schedulers[key]


_fleets: dict[tuple[object, ...], Fleet] = {}


def fleet(orchestrator: Orchestrator) -> Fleet:
    """Return the fleet of an orchestrator; its client takes a second to import, so only autoscale ever asks.

    Raises: InvalidRequest when there is no driver for it.
    """
    if orchestrator.fleet == "managed":
        from shared.fleets.managed import ManagedFleet

        return ManagedFleet()
    if orchestrator.fleet == "ec2":
        return _ec2(orchestrator)
    if orchestrator.fleet != "gce":
        raise InvalidRequest({"fleet": f"no driver for {orchestrator.fleet!r}"})
    from shared.fleets.gce import GceFleet
    from shared.fleets.gce_resources import Machine

    types, gpus = _machine_types()
    key = (
        orchestrator.orchestrator_id,
        orchestrator.project,
        orchestrator.scheduler_address,
        frozenset(types.items()),
        frozenset(gpus.items()),
    )
    if key not in _fleets:
        endpoint = os.environ.get("BATON_COMPUTE_ENDPOINT", "")
        machine = Machine(machine_types=types, gpus=gpus)
        _fleets[key] = GceFleet(orchestrator, endpoint=endpoint, machine=machine)
    return _fleets[key]


def _ec2(orchestrator: Orchestrator) -> Fleet:
    """Return the fleet of an orchestrator on Amazon EC2."""
    from shared.fleets.ec2 import Ec2Fleet
    from shared.fleets.ec2_resources import Machine

    types, _ = _machine_types()  # a type of EC2's comes with its GPUs
    key = (
        f"{orchestrator.orchestrator_id}:{orchestrator.max_per_pool}",
        orchestrator.region,
        f"{orchestrator.scheduler}:{orchestrator.scheduler_address}",
        frozenset(types.items()),
    )
    if key not in _fleets:
        _fleets[key] = Ec2Fleet(orchestrator, machine=Machine(machine_types=types))
    return _fleets[key]


@cache
def ports() -> Ports:
    """Return all that the services of dispatch need."""
    return Ports(
        jobs=job_store(),
        ledger=ledger_store(),
        admission=admission_store(),
        accounts=account_store(),
        orchestrators=orchestrator_store(),
        uploads=upload_store(),
        blobs=blobs(),
        bus=bus(),
        schedulers=scheduler,
        attempt_token=lambda ref, shape: tokens().issue_attempt(ref, now(), shape.name),
        agent_url=setting("BATON_AGENT_URL"),
        now=now,
        store_region=os.environ.get("BATON_BUCKET_REGION", ""),
    )


@cache
def identity() -> Identity:
    """Return the people who sign in with a browser; its library takes a while to import, so only sign-ins ever ask."""
    from shared.stores.identity import FirebaseIdentity

    return FirebaseIdentity.connect(project=setting("GOOGLE_CLOUD_PROJECT"))


@cache
def api_keys() -> ApiKeys:
    """Return the verifier of API keys, with its memory of good ones."""
    return ApiKeys(account_store(), standing())


@cache
def standing() -> Standing:
    """Return what becomes of tokens whose user or key has changed since."""
    return Standing(account_store(), now)


@cache
def call_limits() -> CallLimits:
    """Return how often clients may call, as this process has counted."""
    return CallLimits(account_store().account)


@cache
def sign_in_limits() -> SignInLimits:
    """Return how often sign-ins may fail, as this process has counted."""
    return SignInLimits()


def trusted_proxies() -> int:
    """Return how many proxies of ours, at least one, write their caller's address behind X-Forwarded-For."""
    return max(int(os.environ.get("BATON_TRUSTED_PROXIES", "1")), 1)


@cache
def part_sizes() -> PartSizes:
    """Return from which size on, and in which parts, a file goes up in parts."""
    usual = PartSizes()
    return PartSizes(
        threshold_bytes=int(
            os.environ.get("BATON_MULTIPART_THRESHOLD_BYTES", usual.threshold_bytes)
        ),
        part_bytes=int(os.environ.get("BATON_MULTIPART_PART_BYTES", usual.part_bytes)),
    )


@cache
def storage_price() -> int:
    """Return what a GiB stored for a month costs, in micro-dollars.

    Source: cloud.google.com/storage/pricing, Standard, us-central1, 2026-11: 0.020 US dollars.
    """
    return int(os.environ.get("BATON_STORAGE_MICROS_PER_GIB_MONTH", 20_000))
