"""What an installation may choose. Read by `main`, `worker`, `cli` and `migrations/env.py`; others are passed values.

Every field is set by the environment variable of the same name in upper case (DATABASE_URL, MODEL_PATH …) or in `.env`.
No field holds a default password: the embedded database makes its own on first start.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import InvalidInput
from schemas.push import PushPolicy


class Settings(BaseSettings):
    """One reading of the environment; frozen, so that two parts of a process cannot see different values."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        protected_namespaces=("settings_",),
    )

    database_url: str | None = Field(None, repr=False, pattern=r"^postgres(ql)?(\+psycopg)?://")
    """PostgreSQL 15 or later: postgresql://user:password@host:5432/hyojun. None: the embedded one in `data_dir`."""
    broker_url: str | None = Field(None, repr=False)
    """Celery broker: amqp://… (quorum queue), redis://… or pgmq://…. None: pgmq on the same database."""
    data_dir: Path = Path(".hyojun")
    """Embedded database, its password and log, and exported files."""

    models_file: Path = Path("weights/models.toml")
    """The base model, the use cases with their adapters or models, prompts, context and slots."""
    model_path: Path | None = None
    """One GGUF file that is the base and reads notes, instead of `models_file`."""
    model_gpu_layers: int = Field(0, ge=-1)
    """Layers kept on the GPU; 0: CPU only, -1: all."""
    model_threads: int | None = Field(None, ge=1)
    """CPU threads of the engine; None: one a core, 8 at most."""
    model_context_tokens: int | None = Field(None, ge=512)
    """Longest prompt and answer together, in tokens of the model. None: as `models_file` says."""
    model_slots: int | None = Field(None, ge=1, le=256)
    """Generations that one process runs at the same time. None: as `models_file` says."""
    model_lanes: int | None = Field(None, ge=1, le=64)
    """KV caches that decode side by side, each with its share of slots and threads. None: one a thread on the CPU where the
    weights stay in the processor's cache (32 MiB), else one."""
    model_kv_tokens: int | None = Field(None, ge=512)
    """Room of the KV cache for all slots together, in tokens. None: slots times context."""
    model_kv_type: Literal["auto", "f32", "f16", "bf16", "q8_0", "q4_0"] = "auto"
    """Numbers in the KV cache; auto: f16 on a GPU, bf16 on the CPU. Quantized ones (q8_0, q4_0) take half the memory and
    less, need flash attention and change the answers a little."""
    model_kv_unified: Literal["auto", "on", "off"] = "auto"
    """on: one room for all slots, in which a shared beginning of prompts lies once; off: each slot has its own part; auto:
    on with a GPU."""
    model_flash_attention: Literal["auto", "on", "off"] = "auto"
    """auto: where llama.cpp finds it faster."""
    model_server: Literal["llama-server", "vllm", "hyojun"] | None = None
    """Kind of the server that runs the model that reads notes; None: it runs in the worker's own process."""
    model_server_url: str | None = Field(None, repr=False, pattern=r"^https?://")
    """http(s)://host:port of that server, with or without /v1. Use https: notes travel in the requests."""
    model_server_model: str = "base"
    """Name of the model there."""
    model_server_key: SecretStr | None = None
    """API key of that server."""
    model_server_ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    model_server_connect_seconds: float = Field(5.0, gt=0)
    """Longest wait for a connection."""
    model_server_max_seconds: float = Field(600.0, gt=0)
    """Longest generation there, all tries together."""
    model_server_tries: int = Field(4, ge=1)
    """Tries of one generation, the first included."""
    model_socket: Path | None = None
    """Unix socket at which a worker serves its models to the API (/v1), at most 107 bytes. None: `model.sock` in
    `data_dir`."""
    completion_max_seconds: float = Field(600.0, gt=0)
    """Longest completion of /v1, waiting included."""

    worker_processes: int = Field(1, ge=1)
    """Processes of one worker; each loads the model once."""
    job_lease_seconds: float = Field(60.0, gt=0)
    """A job whose worker has not shown life for this long is given to another one. Long jobs are fine: the lease is
    extended every third of it while the worker lives."""
    job_max_attempts: int = Field(3, ge=1)
    """Starts of one job before it is failed, lost workers included."""
    job_batch_seconds: float = Field(300.0, gt=0)
    """For so long a pool process goes on taking jobs before it looks at its messages again. A stop does not wait for it."""
    job_redispatch_seconds: float = Field(60.0, gt=0)
    """A message is sent again when nobody claimed the job for this long; doubles with every sending."""
    dispatch_window: int = Field(200, ge=1)
    """Most messages in the broker that nobody has claimed yet."""
    dispatch_interval_seconds: float = Field(0.2, gt=0)
    """Pause between two looks of the dispatcher at the queue."""
    batch_window_notes: int = Field(200, ge=1)
    """Notes of one batch that are queued ahead of the workers; the rest waits in its input."""
    batch_max_bytes: int = Field(20_000_000_000, ge=1)
    """Longest input of a batch, as sent, and unpacked where it is an archive. It lies in the database until it is read."""
    broker_visibility_seconds: int = Field(1800, ge=1)
    """pgmq and Redis: after this long an unacknowledged message is delivered again. Harmless when too short, since a
    claimed job is not claimed twice; choose it above `job_batch_seconds` and the longest job together, to save the useless
    delivery."""

    api_host: str = "127.0.0.1"
    """Address that the API and the pages listen on; anything but the loopback address shows them to the network."""
    api_port: int = Field(8484, ge=1, le=65535)
    public_url: str | None = Field(None, pattern=r"^https?://[^/?#@]+$")
    """https://host under which people and clients reach the API, e.g. behind a reverse proxy: audience of assertions, origin of
    forms, base of links. None: as each request says."""
    allowed_hosts: str | None = None
    """Names accepted in the header Host beside localhost, joined by commas. None: the one of `public_url`; without it any."""
    trusted_proxy: str | None = None
    """Addresses or networks of reverse proxies whose X-Forwarded-For, -Proto and -Host are believed, joined by commas. None:
    nobody's are."""
    rate_limit_requests_per_second: float = Field(200.0, gt=0)
    """Of each client or person, and of each address that has not signed in; in each API process."""
    rate_limit_burst: int = Field(2000, ge=1)
    """So many requests at once, before the rate counts."""
    rate_limit_sign_ins_per_minute: int = Field(120, ge=1)
    """Tries to sign in or to get a token, of each address."""
    session_idle_minutes: int = Field(30, ge=1)
    """A person who asks for nothing for this long is signed out."""
    session_max_hours: int = Field(12, ge=1)
    """After this long a person signs in again, whatever he did."""
    metrics_token: SecretStr | None = Field(None, min_length=16)
    """With it as bearer token `/metrics` is read, and nothing else. None: a client with the right `metrics` reads it."""
    oidc_issuer: str | None = Field(None, pattern=r"^https?://")
    """OpenID provider that keeps people's accounts; the API's process connects to it. None: local accounts alone."""
    oidc_client_id: str | None = None
    """Hyojun's client id there. The redirect address is `public_url` with /login/oidc/callback behind it."""
    oidc_client_secret: SecretStr | None = None
    """Hyojun's secret there; None: a public client, with PKCE alone."""
    oidc_roles_claim: str = "roles"
    """Claim of the ID token that names the roles (integrator, reviewer, admin, or the same behind `hyojun-`); steps into it
    are joined by dots: realm_access.roles."""
    oidc_ca_file: Path | None = None
    """Certificates to trust for it instead of the system's."""
    facility_name: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    """Name of the medical institution, written into documents and SS-MIX2 headers."""
    institution_number: Annotated[str, StringConstraints(pattern=r"^[0-4][0-9][1-3][0-9]{7}$")] | None = None
    """保険医療機関番号 of ten digits: prefecture 2, fee table 1, institution 7."""
    facility_address: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    facility_phone: Annotated[str, StringConstraints(pattern=r"^[0-9+() -]{1,30}$")] | None = None
    patient_id_oid: Annotated[str, StringConstraints(pattern=r"^[0-2](\.(0|[1-9][0-9]*))+$")] | None = None
    """OID of the facility's patient numbers. None: 1.2.392.100495.20.3.51.1 with the institution number behind it, which
    JP-CLINS asks for; with another one resources of the patient claim JP Core."""
    profiles_path: Path | None = None
    """File that `hyojun import-profiles` writes: the official FHIR profiles. None: `profiles.hyojun` in `data_dir`, if
    it is there. Without it resources are checked by Hyojun's own rules alone."""
    release_without_review: bool = False
    """Resources without an error are released when they are stored. Off: every one stays a draft until a person accepts
    it. Resources with an error are never released."""
    review_second_reader_share: float = Field(0.0, ge=0, le=1)
    """Share of the results that a second person reviews too, without seeing what the first one says, before they can be
    released; 0.1: one in ten, by chance. Others are chosen one by one."""
    coding_min_score: float = Field(0.85, ge=0, le=1)
    """A disease, test or infection whose name no table has is coded by the nearest name from this likeness on, if that
    name is alone; below it, it stays uncoded and its candidates go to review. Drugs and allergens are never coded so."""
    hold_uncertain: bool = True
    """A statement that is rather wrong than right, by the model's calibration, is in no resource and no SS-MIX2 message; it
    is stored and waits for review. Allergies are never held. Without a calibration nothing is."""
    push_enabled: bool = True
    """Does a worker send what waits in the outbox? Nothing waits there before a destination is added (`hyojun push add`)."""
    push_allowed_hosts: str = ""
    """Hosts, as `name` or `name:port` with commas between, that users of the API may name as destinations and endpoints of
    Subscriptions; none: only `hyojun push add` makes destinations."""
    push_secrets_dir: Path | None = None
    """Folder of the tokens, passwords, keys and certificates that destinations name. None: `push-secrets` in `data_dir`."""
    push_interval_seconds: float = Field(1.0, gt=0)
    """Pause between two looks at the outbox."""
    push_timeout_seconds: float = Field(60.0, gt=0)
    """Longest delivery, with its login and the whole of the answer."""
    push_max_attempts: int = Field(10, ge=1)
    """Failures of one delivery before it is dead, and in a row before a Subscription is in error."""
    push_max_hours: float = Field(168.0, gt=0)
    """For so long a delivery waits for a destination that is away; then it is dead."""
    export_keep_hours: float = Field(24.0, gt=0)
    """For so long a bulk export can be fetched, and the answer to a note that $standardize took in."""
    standardize_max_seconds: float = Field(30.0, ge=0)
    """Longest wait of one $standardize request; what takes longer is answered 202 and fetched later."""
    standardize_max_characters: int = Field(4000, ge=0)
    """Longest note that $standardize waits for."""
    note_retention_days: int | None = Field(None, ge=1)
    """`hyojun purge` deletes notes that came in longer ago than this, when it is not told otherwise. None: it must be told."""
    migration_lock_seconds: float = Field(5.0, gt=0)
    """Longest wait of `hyojun migrate` for a table that somebody uses; for so long others may have to wait behind it."""
    migration_max_seconds: float = Field(120.0, gt=0)
    """For so long it tries again, with pauses; then it gives up, with nothing half done."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def profiles_file(self) -> Path:
        return self.profiles_path or self.data_dir / "profiles.hyojun"

    @property
    def push_hosts(self) -> frozenset[str]:
        return frozenset(host.strip().lower() for host in self.push_allowed_hosts.split(",") if host.strip())

    @property
    def push_policy(self) -> PushPolicy:
        return PushPolicy(
            interval_seconds=self.push_interval_seconds,
            timeout_seconds=self.push_timeout_seconds,
            max_attempts=self.push_max_attempts,
            max_hours=self.push_max_hours,
        )

    @property
    def secrets_dir(self) -> Path:
        return self.push_secrets_dir or self.data_dir / "push-secrets"

    @property
    def socket_file(self) -> Path:
        return self.model_socket or self.data_dir / "model.sock"

    def require_database_url(self) -> str:
        """For a process that does not start the embedded server itself.

        Raises: InvalidInput when DATABASE_URL is not set.
        """
        if self.database_url is None:
            raise InvalidInput("DATABASE_URL is not set; start this process with `hyojun up`, or set it")
        return self.database_url
