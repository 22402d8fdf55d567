"""The judge: reads the log in plain SQL and the topics with kafka-python, and shares no code with what it judges.

It is called when everything has settled and the workers have stopped. What it finds is counted under the four words of
the last line: lost, doubled, unanswered, differ; each finding is told in a sentence as well.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from struct import pack
from typing import Any, Final
from uuid import UUID

from kafka import KafkaConsumer, TopicPartition

from tests.chaos import folds
from tests.chaos.rivals import Rivals

PARTITIONS: Final = 12
KINDS: Final = ("partner", "lead", "opportunity", "conflict")
SYSTEM: Final = "prm-es:"

Place = tuple[str, int, int]
Name = tuple[str, str]
Row = dict[str, Any]
Rows = Callable[..., list[Row]]


@dataclass
class Verdict:
    """What is wrong, counted and told."""

    commands: int = 0
    rows: int = 0  # of read models, that were compared
    counts: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    rule: str = "settles"
    by_rule: Counter[str] = field(default_factory=Counter)

    def found(self, word: str, sentence: str, amount: int = 1) -> None:
        self.counts[word] += amount
        self.by_rule[self.rule] += amount
        self.told.append(f"{word}: {sentence}")

    def compare(self, what: str, there: Counter[Any], wanted: Counter[Any]) -> None:
        """Book what should be there and is not as lost, what is there too often as doubled."""
        if missing := wanted - there:
            self.found("lost", f"{what}: {_some(missing)}", missing.total())
        if extra := there - wanted:
            self.found("doubled", f"{what}: {_some(extra)}", extra.total())

    @property
    def well(self) -> bool:
        return not self.told


@dataclass(frozen=True)
class Record:
    """A record as a reader of what is committed sees it."""

    place: Place
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    value: bytes | None

    @property
    def head(self) -> dict[str, str]:
        return {name: raw.decode("utf-8", "replace") for name, raw in self.headers}


@dataclass(frozen=True)
class Given:
    """What the judge is told of the sender: the name of the command in each content (None: garbage), and its places."""

    names: Mapping[Any, Name | None]
    places: Iterable[Place]


def read(client: Mapping[str, Any], topics: Sequence[str]) -> list[Record]:
    """Read everything that is committed on the topics, each partition in its order."""
    partitions = [TopicPartition(name, number) for name in topics for number in range(PARTITIONS)]
    consumer: Any = KafkaConsumer(**client, group_id=None, isolation_level="read_committed", max_poll_records=5000)
    found = []
    with closing(consumer):
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning(*partitions)
        while any(consumer.position(one) < ends[one] for one in partitions):
            for partition, records in consumer.poll(200).items():
                found += [
                    Record((partition.topic, partition.partition, one.offset), one.key, tuple(one.headers), one.value)
                    for one in records
                ]
    return found


def left(client: Mapping[str, Any], group: str, topics: Sequence[str]) -> int:
    """Count the records that a worker of the group would be given if it started now."""
    partitions = [TopicPartition(name, number) for name in topics for number in range(PARTITIONS)]
    consumer: Any = KafkaConsumer(
        **client, group_id=group, enable_auto_commit=False, isolation_level="read_committed", max_poll_records=5000
    )
    with closing(consumer):
        begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        consumer.assign(partitions)
        for one in partitions:
            committed = consumer.committed(one)
            consumer.seek(one, begins[one] if committed is None else committed)
        count = 0
        while any(consumer.position(one) < ends[one] for one in partitions):
            count += sum(map(len, consumer.poll(200).values()))
        return count


class Judge:
    """Everything that must hold, a rule a method."""

    def __init__(self, rows: Rows, client: Mapping[str, Any], prefix: str, given: Given, verdict: Verdict) -> None:
        self._rows, self._client, self._prefix, self._given = rows, client, prefix, given
        self._commands = read(client, [f"{prefix}.commands.{kind}" for kind in KINDS])
        self._results = read(client, [f"{prefix}.results"])
        self._letters = read(client, [f"{prefix}.dead-letters"])
        self._events = read(client, [f"{prefix}.events.{kind}" for kind in KINDS])
        self._log = rows("SELECT * FROM events ORDER BY notification_id")
        for row in self._log:
            row["content"] = json.loads(row["state"])
        self._outcomes = {
            (row["source"], row["id"]): row
            for row in rows("SELECT source, id, outcome, code, response, first_position, last_position FROM commands")
        }
        self.verdict = verdict

    def judge(self) -> None:
        """Note everything that is wrong in the verdict."""
        for rule in (
            self._every_record_is_there,
            self._one_outcome_a_command,
            self._reused_ids,
            self._results_are_the_outcomes,
            self._dead_letters_are_the_garbage,
            self._events_are_the_outcomes,
            self._chain,
            self._topics_hold_the_log,
            self._nobody_registers_while_suspended,
            self._one_partner_a_tax_id,
            self._nothing_is_parked,
            self._read_models,
        ):
            self.verdict.rule = rule.__name__.strip("_").replace("_", " ")
            rule()

    # Commands and answers

    def _name(self, record: Record) -> Name | None:
        """Give the command's name, None of garbage; a record of the service itself carries it in its headers."""
        content = (record.value, record.headers)
        if content in self._given.names:
            return self._given.names[content]
        head = record.head
        if head.get("ce_source", "").startswith(SYSTEM):
            return head["ce_source"], head["ce_id"]
        self.verdict.found("differ", f"a record that nobody sent lies at {record.place}")
        return None

    def _every_record_is_there(self) -> None:
        there = {record.place for record in self._commands}
        if gone := set(self._given.places) - there:
            self.verdict.found("lost", f"confirmed records that are on no topic: {_some(gone)}", len(gone))

    def _one_outcome_a_command(self) -> None:
        names = {name for record in self._commands if (name := self._name(record))}
        self.verdict.commands = len(names)
        if missing := names - self._outcomes.keys():
            self.verdict.found("unanswered", f"commands without an outcome: {_some(missing)}", len(missing))
        if extra := self._outcomes.keys() - names:
            self.verdict.found("doubled", f"outcomes of what nobody sent: {_some(extra)}", len(extra))

    def _variants(self) -> dict[Name, dict[bytes, list[Place]]]:
        """Give for each command its different contents, in the order of their places."""
        found: dict[Name, dict[bytes, list[Place]]] = defaultdict(dict)
        for record in self._commands:
            if name := self._name(record):
                found[name].setdefault(_meaning(record), []).append(record.place)
        return found

    def _reused_ids(self) -> None:
        wanted: Counter[Place] = Counter()
        for variants in self._variants().values():
            _first, *others = variants.values()
            wanted.update(place for places in others for place in places)
        there = Counter(
            (row["topic"], row["partition"], row["record_offset"])
            for row in self._rows("SELECT topic, partition, record_offset FROM reused_ids")
        )
        self.verdict.compare("records with a reused id", there, wanted)

    def _results_are_the_outcomes(self) -> None:
        allowed: dict[Name, set[bytes]] = {name: {bytes(row["response"])} for name, row in self._outcomes.items()}
        for row in self._rows("SELECT source, id, response FROM reused_ids"):
            allowed.setdefault((row["source"], row["id"]), set()).add(bytes(row["response"]))
        told: Counter[Name] = Counter()
        first_told: set[Name] = set()
        for record in self._results:
            head = record.head
            name = (head["ce_commandsource"], head["ce_causationid"])
            told[name] += 1
            if record.value not in allowed.get(name, set()):
                self.verdict.found("differ", f"the result at {record.place} is not the outcome of {name}")
            outcome = self._outcomes.get(name)
            if outcome and record.value == bytes(outcome["response"]):
                first_told.add(name)
        sent = Counter(one for record in self._commands if (one := self._name(record)))
        silent = (sent - told).total() + len(self._outcomes.keys() - first_told)
        if silent:
            self.verdict.found("unanswered", f"records without a result on the topic: {_some(sent - told)}", silent)

    def _dead_letters_are_the_garbage(self) -> None:
        garbage = Counter(record.place for record in self._commands if self._name(record) is None)
        rows = self._rows("SELECT topic, partition, record_offset, code FROM dead_letters")
        stored = Counter((row["topic"], row["partition"], row["record_offset"]) for row in rows)
        self.verdict.compare("dead letters", stored, garbage)
        heads = [record.head for record in self._letters]
        told = {(head["prm_topic"], int(head["prm_partition"]), int(head["prm_offset"])) for head in heads}
        self.verdict.compare("dead letters on their topic", Counter(told), Counter(garbage.keys()))

    # The log

    def _events_are_the_outcomes(self) -> None:
        """Every event is of the one command whose outcome names its position, and the log has no hole."""
        positions = [row["notification_id"] for row in self._log]
        self.verdict.compare("positions", Counter(positions), Counter(range(1, len(positions) + 1)))
        versions: Counter[UUID] = Counter()
        causes: dict[Name, list[int]] = defaultdict(list)
        for row in self._log:
            versions[row["originator_id"]] += 1
            if row["originator_version"] != versions[row["originator_id"]]:
                self.verdict.found("differ", f"event {row['notification_id']} is not the next of its aggregate")
            causes[row["content"]["commandsource"], row["content"]["causationid"]].append(row["notification_id"])
        for name, row in self._outcomes.items():
            response = json.loads(bytes(row["response"]))
            if response["outcome"] != row["outcome"] or response.get("code") != row["code"]:
                self.verdict.found("differ", f"the response of {name} is not what its row says")
            first, last = row["first_position"], row["last_position"]
            wanted = list(range(first, last + 1)) if first is not None else []
            if [one["position"] for one in response.get("events", [])] != wanted:
                self.verdict.found("differ", f"the response of {name} names other positions than its row")
            there = causes.pop(name, [])
            if row["outcome"] == "refused" and wanted:
                self.verdict.found("differ", f"{name} was refused and has events")
            if there != wanted:
                word = "doubled" if len(there) > len(wanted) else "lost" if len(there) < len(wanted) else "differ"
                self.verdict.found(word, f"{name} has the events {there[:5]}, its outcome names {wanted[:5]}")
        if causes:
            self.verdict.found("doubled", f"events of commands without an outcome: {_some(causes)}", len(causes))

    def _chain(self) -> None:
        """Compute every commit's digest anew: SHA-256 over the last digest and the framed rows, as documented."""
        parts = {
            table: _by_commit(self._rows(f"SELECT * FROM {table}"))
            for table in ("commands", "reused_ids", "dead_letters")
        }
        last, *commits = self._rows("SELECT * FROM commits ORDER BY number")
        if (last["number"], bytes(last["digest"])) != (0, sha256(b"prm-es").digest()):
            self.verdict.found("differ", "the chain does not begin as it should")
        for commit in commits:
            events = self._log[last["last_position"] : commit["last_position"]]
            rest = {table: found.get(commit["number"], []) for table, found in parts.items()}
            chained = commit["number"] == last["number"] + 1 and commit["recorded_at"] >= last["recorded_at"]
            times = {datetime.fromisoformat(event["content"]["recordedtime"]) for event in events}
            if not chained or times - {commit["recorded_at"]}:
                self.verdict.found("differ", f"commit {commit['number']} does not follow the one before")
            if bytes(commit["digest"]) != _digest(bytes(last["digest"]), commit, events, rest):
                self.verdict.found("differ", f"the digest of commit {commit['number']} is not that of its rows")
            last = commit
        if last["last_position"] != len(self._log):
            self.verdict.found("differ", "the chain does not end where the log ends")

    def _nobody_registers_while_suspended(self) -> None:
        """A registration behind a suspension or a termination was decided on what was no longer so."""
        status: dict[str, str] = {}
        names = {"suspended", "reinstated", "terminated"}
        for row in self._log:
            _prm, kind, name, _version = row["topic"].split(".")
            content, subject = row["content"], str(row["originator_id"])
            if kind == "partner" and name in names:
                status[subject] = name
            elif name == "registered" and content["actorrole"] != "integration":
                held = status.get(content["data"]["partner_id"], "active")
                if held in ("suspended", "terminated"):
                    self.verdict.found("differ", f"event {row['notification_id']}: registered for a {held} partner")

    def _one_partner_a_tax_id(self) -> None:
        holders: dict[tuple[str, str], str] = {}
        for row in self._log:
            subject, data = str(row["originator_id"]), row["content"]["data"]
            if row["topic"] == "prm.partner.terminated.v1":
                holders = {key: one for key, one in holders.items() if one != subject}
            if row["topic"] not in ("prm.partner.imported.v1", "prm.partner.application_submitted.v1"):
                continue
            for tax_id in data.get("tax_ids", ()):
                key = (tax_id["country"], tax_id["value"])
                if holders.setdefault(key, subject) != subject:
                    self.verdict.found("doubled", f"event {row['notification_id']}: another partner has its tax id")

    # Topics

    def _topics_hold_the_log(self) -> None:
        log = {row["notification_id"]: row for row in self._log}
        public = Counter(n for n, row in log.items() if row["topic"].split(".")[1] in KINDS)
        self.verdict.compare("events on their topics", Counter(_position(one) for one in self._events), public)
        last: dict[tuple[str, int], int] = {}
        versions: dict[str, int] = {}
        for record in self._events:
            head, position, home = record.head, _position(record), record.place[:2]
            row = log.get(position)
            if row is None:
                continue
            if position <= last.get(home, 0) or int(head["ce_previous"]) != last.get(home, 0):
                self.verdict.found("differ", f"event {position} at {record.place} is not behind the one before it")
            last[home] = position
            subject = str(row["originator_id"])
            if row["originator_version"] <= versions.get(subject, 0):
                self.verdict.found("differ", f"event {position} at {record.place} is out of its aggregate's order")
            versions[subject] = row["originator_version"]
            if not _same_event(record, row):
                self.verdict.found("differ", f"event {position} at {record.place} is not the store's")

    # Read models

    def _nothing_is_parked(self) -> None:
        for row in self._rows(f"SELECT name, position, reason FROM {self._prefix}_projections.dead_letters"):
            self.verdict.found("lost", f"{row['name']} has parked event {row['position']}: {row['reason']}")

    def _read_models(self) -> None:
        live = {
            row["name"]: f"{self._prefix}_{row['name']}_{row['generation']}"
            for row in self._rows(
                f"SELECT name, generation FROM {self._prefix}_projections.generations WHERE status = 'live'"
            )
        }
        reading = folds.read(self._log)
        for model, table, wanted in reading.tables():
            there = {folds.key(row, table): row for row in self._rows(f"SELECT * FROM {live[model]}.{table}")}
            self.verdict.rows += len(there)
            for key in wanted.keys() - there.keys():
                self.verdict.found("lost", f"{model}.{table} has no row {key}")
            for key in there.keys() - wanted.keys():
                self.verdict.found("doubled", f"{model}.{table} has a row {key} that the log does not give")
            for key in there.keys() & wanted.keys():
                differing = [name for name, value in wanted[key].items() if folds.plain(there[key][name]) != value]
                if differing:
                    first = differing[0]
                    self.verdict.found(
                        "differ",
                        f"{model}.{table} {key}: {', '.join(differing)};"
                        f" {first} is {folds.plain(there[key][first])!r}, should be {wanted[key][first]!r}",
                    )
        self._hard_conflicts(live["conflicts"], reading.rivals)

    def _hard_conflicts(self, schema: str, rivals: Rivals) -> None:
        there = {
            (str(row["low_lead_id"]), str(row["high_lead_id"])): str(row["first_lead_id"])
            for row in self._rows(f"SELECT * FROM {schema}.conflict WHERE ended_position IS NULL AND strength = 'hard'")
        }
        self.verdict.rows += len(there)
        wanted = {pair: (first, must) for pair, first, must in rivals.hard()}
        for pair in there.keys() - wanted.keys():
            self.verdict.found("doubled", f"conflicts.conflict holds {pair}, who are no rivals for one customer")
        for pair, (first, must) in wanted.items():
            if pair not in there:
                if must:
                    self.verdict.found("lost", f"conflicts.conflict lacks {pair}")
            elif there[pair] != first:
                self.verdict.found("differ", f"conflicts.conflict {pair}: first is {there[pair]}, should be {first}")


def _meaning(record: Record) -> bytes:
    """Give what makes a command the same command, whatever way it is written."""
    head = record.head
    if "ce_id" in head:
        attributes = {name[3:]: text for name, text in head.items() if name.startswith("ce_")}
        data = json.loads(record.value or b"{}")
    else:
        attributes = json.loads(record.value or b"{}")
        data = attributes.pop("data", {})
    names = ("type", "subject", "actor", "actorrole", "actororg", "expectedversion")
    return json.dumps([[attributes.get(name) for name in names], data], sort_keys=True).encode()


def _position(record: Record) -> int:
    return int(record.head["ce_sequence"])


def _same_event(record: Record, row: Row) -> bool:
    head, content = record.head, row["content"]
    metadata = {f"ce_{name}": text for name, text in content.items() if name != "data"}
    subject, version = str(row["originator_id"]), str(row["originator_version"])
    metadata |= {"ce_subject": subject, "ce_type": row["topic"], "ce_aggregateversion": version}
    same = all(head.get(name) == text for name, text in metadata.items())
    value = record.value or b""
    return same and record.key == subject.encode() and bytes(row["state"]).endswith(b',"data":' + value + b"}")


def _by_commit(rows: Iterable[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["commit_number"]].append(row)
    return found


_PLACE: Final = ("topic", "partition", "record_offset", "digest")
_FRAMED: Final = (
    (
        "command",
        "commands",
        ("source", "id"),
        (
            *("source", "id", "digest", "type", "subject", "actor", "actor_role", "actor_org", "on_behalf_of"),
            *("sent_time", "outcome", "code", "response", "first_position", "last_position"),
        ),
    ),
    ("reused", "reused_ids", _PLACE, (*_PLACE, "source", "id", "actor", "response")),
    ("dead", "dead_letters", _PLACE, (*_PLACE, "code", "sentence", "source", "id", "sealed", "key_id")),
)


def _digest(last: bytes, commit: Row, events: Iterable[Row], rest: Mapping[str, list[Row]]) -> bytes:
    digest = sha256(last)

    def frame(*parts: object) -> None:
        for part in parts:
            raw = part if isinstance(part, bytes) else str(part).encode()
            digest.update(pack(">q", len(raw)) + raw)

    frame(commit["number"], commit["recorded_at"].isoformat())
    for event in events:
        frame("event", event["notification_id"], event["originator_id"], event["originator_version"])
        frame(event["topic"], event["state"])
    for kind, table, key, columns in _FRAMED:
        for row in sorted(rest[table], key=lambda row: tuple(row[name] for name in key)):
            frame(kind, *(row[name] for name in columns))
    return digest.digest()


def _some(things: Iterable[Any]) -> str:
    shown = sorted(map(str, things))
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
