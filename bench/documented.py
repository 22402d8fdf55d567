"""The way that the documentation of `eventsourcing` shows: `save` a command, a ProjectionRunner a read model.

As documented: an `Application` with a method that loads by `repository.get`, decides and calls `save` once; stable
topics by a mapper of its own; views that are `PostgresTrackingRecorder`s and write rows and tracking in one
transaction; `Projection`s that name the topics they need, so that the database filters; each runner in a process of its
own, so that they do not share an interpreter. Settings are the library's own; POSTGRES_ENABLE_DB_FUNCTIONS is not set,
for with it subscribers miss events. No snapshots and no cache: streams are short.

The same as in the product: the commands, parsing them from JSON, the rules that decide, the events and their bytes.
Left out, all of which the product does and all of which favours this side: Kafka on the way in and out, one recorded
answer a command, answering a repeated command with its first answer, the chain of digests, encryption of personal data,
and the guard tables (two partners claiming one customer or one tax id are not noticed here).
"""

import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event as Flag
from signal import SIG_BLOCK, SIG_UNBLOCK, SIGINT, pthread_sigmask
from time import monotonic, sleep
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.persistence import IntegrityError, Mapper, StoredEvent, Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from prm_es.aggregates import catalogue, partner
from prm_es.aggregates import opportunity as o
from prm_es.aggregates.base import NONE, Aggregate, Event, Facts, FollowUp, Refused, authorise, decide_follow_up
from prm_es.aggregates.partner import Partner
from prm_es.aggregates.policy import in_force
from prm_es.errors import Unavailable
from prm_es.messages import Envelope, recorded, stored_state

START_S: Final = 60
SETTLE_S: Final = 120
POLL_S: Final = 0.02


# Writing


@dataclass(frozen=True)
class Happened:
    """A domain event in the library's sense, around one of the product's; `cause` is known only while it is new."""

    originator_id: UUID
    originator_version: int
    at: datetime
    event: Event
    cause: Envelope | None = None


class PartnerHappened(Happened):
    pass


class LeadHappened(Happened):
    pass


class OpportunityHappened(Happened):
    pass


_HAPPENED: Final = {"partner": PartnerHappened, "lead": LeadHappened, "opportunity": OpportunityHappened}


def _topics(aggregate: str) -> tuple[str, ...]:
    return tuple(catalogue.wire_type(event) for event in catalogue.AGGREGATES[aggregate].events)


class WireMapper(Mapper[UUID]):
    """Stores what the product stores."""

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        event, data = domain_event.event, domain_event.event.model_dump_json(exclude_none=True).encode()
        state = stored_state(domain_event.at, datetime.now(UTC), domain_event.cause, data)
        wire = catalogue.wire_type(event)
        return StoredEvent(domain_event.originator_id, domain_event.originator_version, wire, state)

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        subject = UUID(str(stored_event.originator_id))
        row = recorded(0, subject, stored_event.originator_version, stored_event.topic, stored_event.state)
        return _HAPPENED[row.aggregate](subject, row.version, row.at, catalogue.parse_event(row.type, row.data))


@dataclass(frozen=True)
class Loaded:
    """An aggregate as the repository gives it."""

    id: UUID
    version: int
    state: Any


def _project(aggregate: Aggregate, loaded: Loaded | None, events: Iterable[Happened]) -> Loaded | None:
    for one in events:
        state = aggregate.evolve(loaded.state if loaded else aggregate.initial, one.event)
        loaded = Loaded(one.originator_id, one.originator_version, state)
    return loaded


@dataclass
class _Change:
    """What one command does: the aggregates it met, and the events that one `save` will record."""

    sent: Envelope
    at: datetime
    loaded: dict[UUID, Loaded] = field(default_factory=dict)
    events: list[Happened] = field(default_factory=list)


class Channel(Application[UUID]):
    """Partners, leads and opportunities, decided by the product's rules."""

    name = "channel"

    def construct_mapper(self) -> WireMapper:
        return WireMapper(self.construct_transcoder())

    def handle(self, sent: Envelope) -> Refused | None:
        """Load, decide, save once; gives the refusal if there is one."""
        command = catalogue.parse_command(sent.type, sent.data)
        if isinstance(command, Refused):
            return command
        aggregate = _aggregate(sent.type)
        change = _Change(sent, min(sent.time or datetime.now(UTC), datetime.now(UTC)))
        creates = set(aggregate.table[type(command)]) == {NONE}
        loaded = Loaded(sent.subject, 0, aggregate.initial) if creates else self._get(aggregate, sent.subject)
        facts = self._facts(change, sent.subject, aggregate.needs(loaded.state, command))
        refused = authorise(aggregate, loaded.state, command, facts)
        decision = refused or aggregate.decide(loaded.state, command, facts)
        refused = decision if isinstance(decision, Refused) else self._collect(change, aggregate, loaded, decision)
        if refused is not None:
            return refused
        try:
            self.save(*change.events)
        except IntegrityError:
            return Refused("aggregate.already_exists", "somebody was first")
        return None

    def _get(self, aggregate: Aggregate, subject: UUID) -> Loaded:
        try:
            found: Loaded = self.repository.get(subject, projector_func=partial(_project, aggregate))
        except AggregateNotFoundError:
            return Loaded(subject, 0, aggregate.initial)
        return found

    def _facts(self, change: _Change, subject: UUID, needs: Any) -> Facts:
        policy = in_force((), change.at)
        wanted = catalogue.AGGREGATES["opportunity"]
        return Facts(
            now=change.at,
            today=policy.date_of(change.at),
            actor=change.sent.actor,
            policy=policy,
            subject=subject,
            partners=self._partners(needs.partners),
            opportunities={one: self._get(wanted, one).state for one in needs.opportunities},
        )

    def _partners(self, ids: Iterable[UUID]) -> dict[UUID, Partner]:
        states = {one: self._get(partner.AGGREGATE, one).state for one in ids}
        found = {one: state for one, state in states.items() if state.status != NONE}
        parents = {state.parent for state in found.values() if state.parent} - set(found)
        return found | self._partners(parents) if parents else found

    def _collect(
        self, change: _Change, aggregate: Aggregate, loaded: Loaded, decision: Iterable[Event | FollowUp]
    ) -> Refused | None:
        """Add what was decided, and what that implies for other aggregates."""
        version = loaded.version
        for one in decision:
            if isinstance(one, Event):
                version += 1
                happened = _HAPPENED[aggregate.name]
                change.events.append(happened(loaded.id, version, change.at, one, change.sent))
            elif refused := self._follow_up(change, one):
                return refused
        return None

    def _follow_up(self, change: _Change, one: FollowUp) -> Refused | None:
        aggregate = _aggregate(catalogue.wire_type(one.command))
        loaded = self._get(aggregate, one.subject)
        facts = self._facts(change, one.subject, aggregate.needs(loaded.state, one.command))
        decision = decide_follow_up(aggregate, loaded.state, one.command, facts)
        if isinstance(decision, Refused):
            return decision if one.required else None
        return self._collect(change, aggregate, loaded, decision)


def _aggregate(wire: str) -> Aggregate:
    return catalogue.AGGREGATES[catalogue.aggregate_of(wire)]


# Reading


class View(PostgresTrackingRecorder):
    """A view with tables of its own; rows and tracking are written in one transaction."""

    tables: tuple[LiteralString, ...] = ()

    def __init__(self, datastore: PostgresDatastore, **kwargs: Any) -> None:
        super().__init__(datastore, **kwargs)
        self.sql_create_statements += [SQL("CREATE TABLE IF NOT EXISTS {}").format(SQL(one)) for one in self.tables]

    def write(self, tracking: Tracking, statement: Any, values: Mapping[str, object]) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(statement, values, prepare=True)

    def upsert(self, tracking: Tracking, table: str, key: str, values: Mapping[str, object]) -> None:
        others = [name for name in values if name != key]
        self.write(
            tracking,
            SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}").format(
                Identifier(table),
                SQL(", ").join(map(Identifier, values)),
                SQL(", ").join(SQL(f"%({name})s") for name in values),
                Identifier(key),
                SQL(", ").join(SQL("{0} = excluded.{0}").format(Identifier(name)) for name in others),
            ),
            values,
        )

    def update(self, tracking: Tracking, table: str, key: str, values: Mapping[str, object]) -> None:
        pairs = (SQL("{} = {}").format(Identifier(name), SQL(f"%({name})s")) for name in values if name != key)
        where = SQL("{} = {}").format(Identifier(key), SQL(f"%({key})s"))
        self.write(
            tracking, SQL("UPDATE {} SET {} WHERE {}").format(Identifier(table), SQL(", ").join(pairs), where), values
        )


class DealsView(View):
    tables = (
        (
            "opportunities (opportunity_id uuid PRIMARY KEY, name text, partner_id uuid NOT NULL, stage text NOT NULL,"
            " probability int NOT NULL, amount numeric, currency text, owner text, expected_close_on date,"
            " closed_on date, opened_at timestamptz NOT NULL, touched_at timestamptz NOT NULL) WITH (fillfactor = 80)"
        ),
        (
            "leads (lead_id uuid PRIMARY KEY, last_event text NOT NULL, touched_at timestamptz NOT NULL)"
            " WITH (fillfactor = 80)"
        ),
    )


class Deals(Projection[DealsView]):
    """Every opportunity with its stage, every lead with what happened to it last."""

    name = "deals"
    topics = _topics("opportunity") + _topics("lead")

    @singledispatchmethod
    def process_event(self, _event: Any, _tracking: Tracking) -> None:
        raise NotImplementedError

    @process_event.register
    def _opportunity(self, happened: OpportunityHappened, tracking: Tracking) -> None:
        values = {"opportunity_id": happened.originator_id, "touched_at": happened.at, **_columns(happened.event)}
        if isinstance(happened.event, o.Opened):
            self.view.upsert(tracking, "opportunities", "opportunity_id", {**values, "opened_at": happened.at})
        else:
            self.view.update(tracking, "opportunities", "opportunity_id", values)

    @process_event.register
    def _lead(self, happened: LeadHappened, tracking: Tracking) -> None:
        values = {
            "lead_id": happened.originator_id,
            "last_event": happened.event.TYPE.split(".")[1],
            "touched_at": happened.at,
        }
        self.view.upsert(tracking, "leads", "lead_id", values)


def _columns(event: Event) -> dict[str, object]:
    """Give what an event changes of an opportunity's row."""
    match event:
        case o.Opened():
            return {
                "name": event.name,
                "partner_id": event.partner_id,
                "stage": event.stage,
                "probability": event.probability,
                **_money(event.amount),
                "owner": event.owner,
                "expected_close_on": event.expected_close_on,
            }
        case o.StageChanged():
            return {"stage": event.stage, "probability": event.probability}
        case o.Reopened():
            return {"stage": event.stage, "probability": event.probability, "closed_on": None}
        case o.Won() | o.Lost():
            amount = _money(event.amount) if event.amount else {}
            return {"stage": event.stage, "probability": event.probability, "closed_on": event.closed_on, **amount}
        case o.AmountChanged():
            return _money(event.amount)
        case o.CloseDateChanged():
            return {"expected_close_on": event.expected_close_on}
        case o.DetailsChanged():
            return {"name": event.name} if "name" in event.changed else {}
        case o.OwnerAssigned():
            return {"owner": event.owner}
        case o.PartnerOfRecordChanged():
            return {"partner_id": event.partner_id}
        case _:
            return {}


def _money(money: Any) -> dict[str, object]:
    return {"amount": money.amount if money else None, "currency": money.currency if money else None}


class PartnersView(View):
    tables = (
        (
            "partners (partner_id uuid PRIMARY KEY, legal_name text, country text, tier text, last_event text NOT NULL,"
            " touched_at timestamptz NOT NULL) WITH (fillfactor = 80)"
        ),
    )


class Partners(Projection[PartnersView]):
    """Every partner as it stands."""

    name = "partners"
    topics = _topics("partner")

    @singledispatchmethod
    def process_event(self, _event: Any, _tracking: Tracking) -> None:
        raise NotImplementedError

    @process_event.register
    def _partner(self, happened: PartnerHappened, tracking: Tracking) -> None:
        event = happened.event
        told = {name: getattr(event, name) for name in ("legal_name", "country", "tier") if getattr(event, name, None)}
        values = {
            "partner_id": happened.originator_id,
            "last_event": event.TYPE.split(".")[1],
            "touched_at": happened.at,
            **told,
        }
        self.view.upsert(tracking, "partners", "partner_id", values)


class SumsView(View):
    tables = (
        (
            "deals (opportunity_id uuid PRIMARY KEY, partner_id uuid NOT NULL, stage text NOT NULL, amount numeric)"
            " WITH (fillfactor = 80)"
        ),
        (
            "partner_sums (partner_id uuid PRIMARY KEY, opened int NOT NULL, won int NOT NULL, lost int NOT NULL,"
            " won_amount numeric NOT NULL, last_activity timestamptz NOT NULL) WITH (fillfactor = 80)"
        ),
    )


class Sums(Projection[SumsView]):
    """Deals opened, won and lost by partner, counted for the partner that opened them, and its last activity."""

    name = "sums"
    topics = _topics("opportunity")

    @singledispatchmethod
    def process_event(self, _event: Any, _tracking: Tracking) -> None:
        raise NotImplementedError

    @process_event.register
    def _opportunity(self, happened: OpportunityHappened, tracking: Tracking) -> None:
        event = happened.event
        amount = getattr(event, "amount", None)
        values = {
            "id": happened.originator_id,
            "at": happened.at,
            "partner": getattr(event, "partner_id", None),
            "stage": getattr(event, "stage", None),
            "amount": amount.amount if amount else None,
        }
        self.view.write(tracking, _OPENED if isinstance(event, o.Opened) else _MOVED, values)


_OPENED: Final = SQL(
    "WITH deal AS (INSERT INTO deals VALUES (%(id)s, %(partner)s, %(stage)s, %(amount)s) RETURNING *)"
    " INSERT INTO partner_sums AS s"
    " SELECT partner_id, 1, (stage = 'won')::int, (stage = 'lost')::int,"
    " CASE WHEN stage = 'won' THEN coalesce(amount, 0) ELSE 0 END, %(at)s FROM deal"
    " ON CONFLICT (partner_id) DO UPDATE SET opened = s.opened + 1, won = s.won + excluded.won,"
    " lost = s.lost + excluded.lost, won_amount = s.won_amount + excluded.won_amount,"
    " last_activity = greatest(s.last_activity, excluded.last_activity)"
)
_MOVED: Final = SQL(
    "WITH before AS (SELECT * FROM deals WHERE opportunity_id = %(id)s),"
    " after AS (UPDATE deals SET stage = coalesce(%(stage)s::text, stage), amount = coalesce(%(amount)s, amount)"
    " WHERE opportunity_id = %(id)s RETURNING *)"
    " UPDATE partner_sums s SET won = won + (a.stage = 'won')::int - (b.stage = 'won')::int,"
    " lost = lost + (a.stage = 'lost')::int - (b.stage = 'lost')::int,"
    " won_amount = won_amount + CASE WHEN a.stage = 'won' THEN coalesce(a.amount, 0) ELSE 0 END"
    " - CASE WHEN b.stage = 'won' THEN coalesce(b.amount, 0) ELSE 0 END,"
    " last_activity = greatest(last_activity, %(at)s)"
    " FROM before b, after a WHERE s.partner_id = b.partner_id"
)


# Running

PROJECTIONS: Final[Sequence[tuple[type[Projection[Any]], type[View]]]] = (
    (Deals, DealsView),
    (Partners, PartnersView),
    (Sums, SumsView),
)


def environment(dsn: str) -> dict[str, str]:
    """Give the library's settings for a database."""
    parts = conninfo_to_dict(dsn)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(parts["dbname"]),
        "POSTGRES_HOST": str(parts["host"]),
        "POSTGRES_PORT": str(parts["port"]),
        "POSTGRES_USER": str(parts["user"]),
        "POSTGRES_PASSWORD": str(parts["password"]),
        "POSTGRES_SCHEMA": "public",
    }


def _run_projection(number: int, env: dict[str, str], ready: Flag, stop: Flag) -> None:
    projection, view = PROJECTIONS[number]
    starter = multiprocessing.parent_process()
    with ProjectionRunner(application_class=Channel, projection_class=projection, view_class=view, env=env) as runner:
        ready.set()
        while not stop.is_set() and starter is not None and starter.is_alive():
            runner.run_forever(timeout=0.5)


@dataclass(frozen=True)
class Installation:
    """The application, and its projections in processes of their own."""

    channel: Channel
    connection: psycopg.Connection[Any]
    processes: Sequence[SpawnProcess]

    def settle(self) -> None:
        """Wait until each projection has processed the last event that it subscribed to; raises Unavailable."""
        for projection, _view in PROJECTIONS:
            newest = "SELECT coalesce(max(notification_id), 0) FROM channel_events WHERE topic = ANY(%s)"
            (wanted,) = self._row(newest, (list(projection.topics),))
            query = SQL("SELECT coalesce(max(notification_id), 0) FROM {} WHERE application_name = %s").format(
                Identifier(f"{projection.name}_tracking")
            )
            deadline = monotonic() + SETTLE_S
            while self._row(query, (Channel.name,))[0] < wanted:
                if monotonic() > deadline or not all(process.is_alive() for process in self.processes):
                    raise Unavailable(f"projection {projection.name} does not catch up")
                sleep(POLL_S)

    def wrong(self) -> list[str]:
        """Say where the read models do not agree with each other and the log."""
        counts = (
            ("opportunities", "SELECT count(*) FROM channel_events WHERE topic = 'prm.opportunity.opened.v1'"),
            ("deals", "SELECT count(*) FROM opportunities"),
            ("partners", "SELECT count(DISTINCT originator_id) FROM channel_events WHERE topic LIKE 'prm.partner.%'"),
        )
        found = [
            f"{table}: {rows} rows, not {wanted}"
            for table, query in counts
            if (rows := self._row(f"SELECT count(*) FROM {table}")[0]) != (wanted := self._row(query)[0])
        ]
        won = "SELECT count(*), coalesce(sum(amount), 0) FROM opportunities WHERE stage = 'won'"
        sums = "SELECT coalesce(sum(won), 0), coalesce(sum(won_amount), 0) FROM partner_sums"
        return found + ([] if self._row(won) == self._row(sums) else ["the sums by partner differ"])

    def _row(self, query: Any, values: tuple[object, ...] | None = None) -> tuple[Any, ...]:
        row = self.connection.execute(query, values).fetchone()
        assert row is not None
        return tuple(row)


@contextmanager
def installation(dsn: str) -> Iterator[Installation]:
    """Make the tables in an empty database and start the projections; ends them afterwards."""
    env = environment(dsn)
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    processes: list[SpawnProcess] = []
    connection = psycopg.connect(dsn, autocommit=True)
    channel = Channel(env)
    try:
        for number in range(len(PROJECTIONS)):  # one after another: the library's DDL does not bear company
            ready = spawn.Event()
            process = spawn.Process(target=_run_projection, args=(number, env, ready, stop), daemon=True)
            processes.append(process)
            pthread_sigmask(SIG_BLOCK, {SIGINT})  # inherited: Ctrl-C is for whoever started it, who stops it
            process.start()
            pthread_sigmask(SIG_UNBLOCK, {SIGINT})
            if not ready.wait(START_S):
                raise Unavailable("a projection did not start")
        yield Installation(channel, connection, processes)
    finally:
        stop.set()
        for process in processes:
            process.join(10)
            process.kill()
        channel.close()
        connection.close()
