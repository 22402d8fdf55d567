"""Settings: one frozen object, read from PRM_* once.

Functions receive the values they need, not this object, except the mains of workers and the command line.
"""

from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from prm_es.errors import Usage

DbRole = Literal["owner", "writer", "projector", "reader", "portal", "auditor"]
DB_ROLES: Final[tuple[DbRole, ...]] = get_args(DbRole)
AGGREGATES: Final = ("partner", "lead", "opportunity", "conflict")
PARTITIONS: Final = 12
RECONNECT_MS: Final = 1000  # kafka-python doubles its pause to half a minute: a broker that is back would not be seen
# Workers look rows up by key, a batch at a time. Of a young table the planner knows nothing, and would read all of it.
BY_KEY: Final = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
SESSION_S: Final = 6  # how long a group waits for a worker that was killed; no less is allowed by brokers' default


class Settings(BaseSettings):
    """What a process needs to know of its surroundings.

    `postgres` is a libpq connection string for every database role; a role's own string (`postgres_writer`, …) goes
    first. TLS and passwords may also come through libpq's PG* variables. `kafka` is host:port[,host:port]. The embedded
    Kafka takes its jars from the folder `kafka_jars`, or from `maven`'s address by way of the folder `cache`.
    After `import_quiet` seconds without imports of the past, deadlines that such an import has set to a time already
    over are acted upon.
    Each worker says how it is at `metrics_host` and `metrics_port` (0: a free one); it counts as stuck when it has
    finished nothing for `stuck_after` seconds.
    The API listens at `api_host` and `api_port`; browsers know it as `api_url`, where a proxy of `api_proxies` stands
    before it. It believes tokens of `oidc_issuer` for `oidc_audience`; the `oidc_…_claim`s say where in a token who it
    is, the role, the partner, the name and the language stand. `session_secret` signs the cookie of the pages.
    """

    model_config = SettingsConfigDict(env_prefix="PRM_", frozen=True, extra="ignore")

    data: Path = Path(".prm-es")
    prefix: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,19}$")] = "prm"
    kafka: str = ""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: str | None = None
    kafka_ssl_cafile: str | None = None
    kafka_ssl_certfile: str | None = None
    kafka_ssl_keyfile: str | None = None
    kafka_replication: Annotated[int, Field(ge=1, le=9)] = 1
    postgres: str = ""
    postgres_owner: str = ""
    postgres_writer: str = ""
    postgres_projector: str = ""
    postgres_reader: str = ""
    postgres_portal: str = ""
    postgres_auditor: str = ""
    cache: Path | None = None
    maven: str = "https://repo.maven.apache.org/maven2"
    kafka_jars: Path | None = None
    kafka_heap: Annotated[str, Field(pattern=r"^[1-9][0-9]*[mg]$")] = "192m"
    report_tz: str = "UTC"
    import_quiet: Annotated[float, Field(ge=0)] = 30.0
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    stuck_after: Annotated[float, Field(gt=0)] = 60.0
    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    api_url: str = ""
    api_proxies: str = "127.0.0.1"
    api_connections: Annotated[int, Field(ge=1)] = 20
    api_timeout: Annotated[float, Field(gt=0)] = 30.0
    api_rate: str = "3000/minute"
    api_failures: str = "120/minute"
    api_body: Annotated[int, Field(ge=1024)] = 512_000
    session_secret: str = ""
    oidc_issuer: str = ""
    oidc_jwks: str = ""
    oidc_audience: str = "prm-es-api"
    oidc_algorithms: str = "RS256,ES256"
    oidc_leeway: Annotated[int, Field(ge=0, le=300)] = 30
    oidc_client_id: str = "prm-es"
    oidc_client_secret: str = ""
    oidc_scope: str = "openid profile"
    oidc_actor_claim: str = "sub"
    oidc_role_claim: str = "role"
    oidc_org_claim: str = "org"
    oidc_name_claim: str = "name"
    oidc_locale_claim: str = "locale"
    issuer_host: str = "127.0.0.1"
    issuer_port: Annotated[int, Field(ge=0, le=65_535)] = 8081
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def dsn(self, role: DbRole) -> str:
        """Give the connection string for a database role; raises Usage if none is set.

        With one string for all, the session takes the role itself (`-c role=`), so that a worker never has more
        rights than its own.
        """
        own: str = getattr(self, f"postgres_{role}")
        if not (own or self.postgres):
            raise Usage("no PostgreSQL is configured: run `prm-es up` first, or set PRM_POSTGRES")
        parameters = conninfo_to_dict(own or self.postgres)
        options = [str(parameters.pop("options", "") or ""), f"-c search_path={self.store_schema} -c timezone=UTC"]
        options += [BY_KEY] if role in {"writer", "projector"} else []
        if not own:
            options.append(f"-c role={self.db_role(role)}")
        parameters |= {"options": " ".join(filter(None, options)), "application_name": f"{self.prefix}-{role}"}
        return make_conninfo("", **parameters)

    @property
    def admin_dsn(self) -> str:
        """Give the connection string of who migrates, as it was given, without taking a role; raises Usage."""
        if not (self.postgres_owner or self.postgres):
            raise Usage("no PostgreSQL is configured: run `prm-es up` first, or set PRM_POSTGRES")
        return self.postgres_owner or self.postgres

    def db_role(self, role: DbRole) -> str:
        """Give the name of a database role of this installation."""
        return f"{self.prefix}_{role}"

    @property
    def store_schema(self) -> str:
        """Schema of the log and everything derived from it under the append lock."""
        return self.prefix

    @property
    def projections_schema(self) -> str:
        """Schema of the bookkeeping of the read models: generations, checkpoints, dead letters."""
        return f"{self.prefix}_projections"

    @property
    def read_schema(self) -> str:
        """Schema of the views that people query; plain `read` for the default prefix."""
        return "read" if self.prefix == "prm" else f"{self.prefix}_read"

    @property
    def bootstrap(self) -> list[str]:
        """Give the addresses of the brokers; raises Usage if none is set."""
        if not self.kafka:
            raise Usage("no Kafka is configured: run `prm-es up` first, or set PRM_KAFKA")
        return [address.strip() for address in self.kafka.split(",")]

    @property
    def kafka_client(self) -> dict[str, object]:
        """Give what every kafka-python client is made with."""
        given = {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": self.kafka_security_protocol,
            "sasl_mechanism": self.kafka_sasl_mechanism,
            "sasl_plain_username": self.kafka_sasl_username,
            "sasl_plain_password": self.kafka_sasl_password,
            "ssl_cafile": self.kafka_ssl_cafile,
            "ssl_certfile": self.kafka_ssl_certfile,
            "ssl_keyfile": self.kafka_ssl_keyfile,
        }
        known = {name: value for name, value in given.items() if value is not None}
        return {**known, "reconnect_backoff_max_ms": RECONNECT_MS}

    def command_topic(self, aggregate: str) -> str:
        """Name the topic that takes an aggregate's commands."""
        return f"{self.prefix}.commands.{aggregate}"

    def event_topic(self, aggregate: str) -> str:
        """Name the topic that an aggregate's events are published to."""
        return f"{self.prefix}.events.{aggregate}"

    @property
    def command_topics(self) -> list[str]:
        """All topics that take commands."""
        return [self.command_topic(aggregate) for aggregate in AGGREGATES]

    @property
    def event_topics(self) -> list[str]:
        """All topics that carry events."""
        return [self.event_topic(aggregate) for aggregate in AGGREGATES]

    @property
    def results_topic(self) -> str:
        """Where every command's outcome goes."""
        return f"{self.prefix}.results"

    @property
    def dead_letters_topic(self) -> str:
        """Where records go that no command could be read from."""
        return f"{self.prefix}.dead-letters"
