"""The command line: one verb, one function call.

Exit codes: 0 done, 1 it ran and something was refused or differs, 2 wrong usage, 3 a server is unavailable.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import psycopg
import psycopg2
import psycopg2.errors
import typer
from kafka.errors import KafkaError
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from prm_es import logs
from prm_es.errors import PrmError, Unavailable, Usage
from prm_es.messages import aggregate_id, utc_text
from prm_es.settings import AGGREGATES, Settings
from prm_es.tabular import Format, write

app = typer.Typer(
    name="prm-es",
    help="An event-sourced backend for managing a sales channel: partners, leads, opportunities.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DIFFERS, WRONG_USAGE, UNAVAILABLE = 1, 2, 3

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data folder of `prm-es up` (PRM_DATA).", show_default=".prm-es")
]
KafkaOption = Annotated[
    str | None, typer.Option("--kafka", help="HOST:PORT of a broker that is already there (PRM_KAFKA).")
]
PostgresOption = Annotated[
    str | None,
    typer.Option("--postgres", help="Connection string of a PostgreSQL that is already there (PRM_POSTGRES)."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to write the rows.")]
TimeoutOption = Annotated[float, typer.Option(min=0.1, help="Seconds to wait at the most.")]

_console = Console(stderr=True, highlight=False)


def main() -> None:
    """Run the command line; turns errors into one line and an exit code."""
    try:
        app()
    except Usage as error:
        _fail(str(error), WRONG_USAGE)
    except ValidationError as error:
        settings = (f"PRM_{str(e['loc'][0]).upper()}: {e['msg']}" if e["loc"] else e["msg"] for e in error.errors())
        _fail("; ".join(settings), WRONG_USAGE)
    except (psycopg.OperationalError, psycopg2.OperationalError) as error:
        _fail(f"PostgreSQL: {str(error).strip()}", UNAVAILABLE)
    except (psycopg.errors.InsufficientPrivilege, psycopg2.errors.InsufficientPrivilege) as error:
        _fail(f"PostgreSQL: {str(error).splitlines()[0]}", WRONG_USAGE)
    except KafkaError as error:
        _fail(f"Kafka: {type(error).__name__}: {error}", UNAVAILABLE)
    except Unavailable as error:
        _fail(str(error), UNAVAILABLE)
    except PrmError as error:
        _fail(str(error), UNAVAILABLE)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def _fail(sentence: str, code: int) -> None:
    _console.print(f"prm-es: {escape(sentence)}", soft_wrap=True)
    sys.exit(code)


def _settings(data: Path | None = None, kafka: str | None = None, postgres: str | None = None) -> Settings:
    """Read PRM_*; flags go first."""
    given = {"data": data, "kafka": kafka, "postgres": postgres}
    return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _connected(data: Path | None = None) -> Settings:
    """Give settings with the servers of a running `prm-es up` filled in; raises Unavailable if nothing runs."""
    from prm_es.local.connect import settings_for  # noqa: PLC0415

    settings = _settings(data)
    logs.configure("cli", level="warning", quiet=True)
    return settings_for(settings.data, settings)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, show_version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> None:
    if show_version:
        typer.echo(f"prm-es {installed_version('prm-es')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise typer.Exit(WRONG_USAGE)


# The stack


@app.command()
def up(
    data: DataOption = None,
    kafka: KafkaOption = None,
    postgres: PostgresOption = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Remove all data first; asks.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Run everything here: PostgreSQL, Kafka, every worker. Ctrl-C stops it in order.

    Example: prm-es up --detach
    """
    from prm_es.local import run  # noqa: PLC0415

    settings = _settings(data, kafka, postgres)
    if reset:
        if not yes:
            typer.confirm(f"Remove everything in {settings.data}?", abort=True, err=True)
        run.reset(settings.data)
    steps = _install_steps()
    if detach:
        run.run_detached(settings)
    else:
        run.run_foreground(settings, steps=steps)


def _install_steps() -> Any:  # noqa: ANN401
    from prm_es.consumers import topics  # noqa: PLC0415
    from prm_es.install import install  # noqa: PLC0415

    return install, topics.create


@app.command()
def down(data: DataOption = None) -> None:
    """Stop what `prm-es up` runs.

    Example: prm-es down
    """
    from prm_es.local import run  # noqa: PLC0415

    typer.echo(run.stop(_settings(data).data), err=True)


@app.command()
def status(
    data: DataOption = None, as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False
) -> None:
    """Say what runs, what is away, each since when, and how far behind everything is; exits with 3 if a server is away.

    Example: prm-es status --json
    """
    from prm_es.local.connect import running  # noqa: PLC0415
    from prm_es.local.lookout import healths  # noqa: PLC0415
    from prm_es.status import look  # noqa: PLC0415

    settings = _connected(data)
    record = running(settings.data)
    found, gone = look(settings)
    told = healths(record) if record else {}
    room = shutil.disk_usage(settings.data).free if record else None
    servers = {name: _server(at, gone.get(name), record and record.away.get(name)) for name, at in _servers(settings)}
    if as_json:
        stack = json.loads(record.model_dump_json()) if record else None
        addresses = {"kafka": settings.kafka, "postgres": _address(settings)}
        if record and record.api:
            addresses["api"] = record.api
        shown = {"addresses": addresses, "servers": servers, "stack": stack, "health": told, "disk_free": room}
        typer.echo(json.dumps({**shown, **(found.as_json() if found else {"settled": False})}, indent=1))
    else:
        lines = (*_stack_lines(record, told), *_room_lines(room), *_server_lines(servers))
        for line in (*lines, *(_status_lines(found) if found else ())):
            typer.echo(line)
    if gone:
        raise typer.Exit(UNAVAILABLE)


def _servers(settings: Settings) -> list[tuple[str, str]]:
    from prm_es.presence import KAFKA, POSTGRES  # noqa: PLC0415

    return [(KAFKA, settings.kafka), (POSTGRES, _address(settings))]


def _address(settings: Settings) -> str:
    from prm_es.local.stack import address  # noqa: PLC0415

    return address(settings.dsn("auditor"))


def _server(address: str, reason: str | None, seen: Any) -> dict[str, Any]:  # noqa: ANN401
    """Describe a server; a supervisor has seen since when it has been away, else nobody knows."""
    since = utc_text(seen.since) if reason and seen else None
    return {"address": address, "answers": reason is None, "away_since": since, "reason": reason}


def _server_lines(servers: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name, one in servers.items():
        since = f" since {one['away_since']}" if one["away_since"] else ""
        away = "" if one["answers"] else f", away{since}: {one['reason']}"
        yield f"{name.lower():<13}{one['address']}{away}"


QUIET_S = 5.0  # whoever has finished nothing for so long is worth a word
LITTLE_ROOM = 100_000_000


def _stack_lines(record: Any, told: dict[str, Any]) -> Iterator[str]:  # noqa: ANN401
    if not record:
        return
    yield f"supervisor   process {record.supervisor.pid}, {record.state}, since {utc_text(record.started_at)}"
    for name, child in record.children.items():
        process = f"process {child.process.pid}" if child.process else "not running"
        since = f", since {utc_text(child.since)}" if child.since and child.process else ""
        last = f", last at {utc_text(child.ended_at)} ({child.ended})" if child.ended_at else ""
        restarts = f", started again {child.restarts} times{last}" if child.restarts else ""
        watch = f", {child.watch}/health" if child.watch else ""
        yield f"  {name:<11}{process}{since}{_doing(name, told)}{restarts}{watch}"
    if record.api:
        yield f"pages        {record.api}"


def _room_lines(free: int | None) -> Iterator[str]:
    if free is not None and free < LITTLE_ROOM:
        yield f"disk         {free / 1_000_000:.0f} MB free in the data folder: make room"


def _doing(name: str, told: dict[str, Any]) -> str:
    if name not in told:
        return ""
    if (health := told[name]) is None:
        return ", does not answer"
    if health["status"] == "ok" and health["last_progress_seconds_ago"] < QUIET_S:
        return ""
    stuck = "" if health["status"] == "ok" else "stuck: "
    return f", {stuck}{health['doing']} since {health['doing_since']}"


def _status_lines(found: Any) -> Iterator[str]:  # noqa: ANN401
    unanswered = "unknown how many" if found.unanswered is None else found.unanswered
    yield f"store        {found.store_id}, position {found.head}, last commit {utc_text(found.recorded_at)}"
    yield f"commands     {found.accepted} accepted, {found.refused} refused, {unanswered} unanswered"
    yield f"published    position {found.published}, {found.unpublished} events behind"
    if found.foreign:
        yield f"topics       another history: {found.foreign}"
    for model in found.read_models:
        parked = f", {model.parked} events parked from position {model.parked_from} on" if model.parked else ""
        yield (
            f"{model.name:<13}position {model.as_of}, {model.behind_events} events and"
            f" {model.behind_seconds:.1f} s behind{parked} (generation {model.generation})"
        )
    events = sum(model.parked_streams for model in found.read_models)
    of_commands = f"{found.open_dead_letters} of commands open ({found.dead_letters} in all)"
    yield f"dead letters {of_commands}, {events} of events open"


@app.command()
def wait(
    names: Annotated[list[str] | None, typer.Argument(help="Read models to wait for; all if none is named.")] = None,
    data: DataOption = None,
    timeout: TimeoutOption = 300.0,
) -> None:
    """Wait until every sent command is answered and every read model has caught up.

    Example: prm-es wait pipeline --timeout 60
    """
    from prm_es.projections.registry import named  # noqa: PLC0415
    from prm_es.status import wait as wait_until_settled  # noqa: PLC0415

    chosen = {named(name).name for name in names} if names else None
    found = wait_until_settled(_connected(data), timeout, chosen)
    typer.echo(f"settled at position {found.head}", err=True)


@app.command()
def doctor(
    data: DataOption = None,
    kafka: KafkaOption = None,
    postgres: PostgresOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Check this machine and what runs on it, and say what to do; exits with 1 if something fails.

    Example: prm-es doctor
    """
    from prm_es.local.doctor import Grade, examine  # noqa: PLC0415

    logs.configure("doctor", level="error")
    found = []
    for finding in examine(_settings(data, kafka, postgres)):
        found.append(finding)
        if not as_json:
            typer.echo(str(finding))
    if as_json:
        typer.echo(json.dumps([{"name": f.name, "grade": f.grade, "sentence": f.sentence} for f in found], indent=1))
    raise typer.Exit(DIFFERS if any(finding.grade is Grade.FAIL for finding in found) else 0)


# Sending


@app.command()
def send(
    file: Annotated[
        Path | None, typer.Argument(help="JSON Lines, a CloudEvent each; standard input if left out or -.")
    ] = None,
    data: DataOption = None,
    wait_for: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for every outcome and report.")] = False,
    refusals: Annotated[Path | None, typer.Option(help="File for refusals, JSON Lines.")] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Check every line before the first is sent.")
    ] = True,
    timeout: TimeoutOption = 60.0,
) -> None:
    """Send commands in bulk; those that depend on others are sent after these are answered.

    Example: prm-es send commands.jsonl --wait --refusals refused.jsonl
    """
    from prm_es.upstream.lines import read_lines, read_path  # noqa: PLC0415

    settings = _connected(data)
    stdin = file is None or str(file) == "-"
    records = read_lines(sys.stdin.buffer, "<stdin>", check=check) if stdin else read_path(Path(str(file)), check=check)
    _send(settings, records, wait_for=wait_for, refusals=refusals, timeout=timeout)


def _send(
    settings: Settings,
    commands: Any,  # noqa: ANN401
    *,
    wait_for: bool,
    refusals: Path | None,
    timeout: float,
    resume: bool = False,
) -> None:
    from prm_es.upstream.progress import bar  # noqa: PLC0415
    from prm_es.upstream.sending import refusals_file  # noqa: PLC0415
    from prm_es.upstream.sending import send as send_all  # noqa: PLC0415

    with (
        refusals_file(refusals) if refusals else nullcontext(None) as on_refusal,
        bar("sending", len(commands), answers=wait_for) as on_progress,
    ):
        report = send_all(
            settings,
            commands,
            wait=wait_for,
            timeout=timeout,
            on_progress=on_progress,
            on_refusal=on_refusal,
            on_resume=_say_resumed if resume else None,
        )
    for refusal in report.refusals[:20]:
        typer.echo(json.dumps(refusal, ensure_ascii=False), err=True)
    typer.echo(
        f"{report.sent} sent, {report.accepted} accepted, {report.refused} refused,"
        f" {report.dead_lettered} dead-lettered, {report.unanswered} not waited for",
        err=True,
    )
    if report.refused or report.dead_lettered:
        if refusals:
            typer.echo(f"refusals are in {refusals}", err=True)
        raise typer.Exit(DIFFERS)


def _say_resumed(before: int, total: int) -> None:
    if before:
        rest = "going on" if before < total else "nothing is left to send"
        typer.echo(f"{before:,} of {total:,} answered before; {rest}", err=True)


@app.command("do")
def do_(
    name: Annotated[str, typer.Argument(metavar="COMMAND", help="Aggregate and command, as opportunity.win.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE…", help="Fields; a.b=x and list[0]=x reach inside, and x may be JSON."),
    ] = None,
    actor: Annotated[
        str, typer.Option("--as", metavar="ID:ROLE[:PARTNER]", help="Who asks, in which role, of which partner.")
    ] = "",
    subject: Annotated[str | None, typer.Option(help="Aggregate id, or new for a new one.")] = None,
    external: Annotated[str | None, typer.Option(metavar="SOURCE:KEY", help="Its key in another system.")] = None,
    data: DataOption = None,
    id_given: Annotated[str | None, typer.Option("--id", help="The command's own id.", show_default="random")] = None,
    source: Annotated[str, typer.Option(help="The system that sends.")] = "prm-es-cli",
    time: Annotated[str | None, typer.Option(help="When it happened; heeded for role integration only.")] = None,
    on_behalf_of: Annotated[str | None, typer.Option(help="For imports: who did it then.")] = None,
    expected_version: Annotated[int | None, typer.Option(help="Refuse unless the aggregate has this version.")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="Yours, for tracing.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the outcome as JSON.")] = False,
    timeout: TimeoutOption = 60.0,
) -> None:
    """Send one command, wait, and say what became of it; exits with 1 if it was not accepted.

    Example: prm-es do opportunity.comment --subject ID --as ana:channel_manager text="Good news"
    """
    from prm_es.upstream import doing  # noqa: PLC0415
    from prm_es.upstream.sending import send_one  # noqa: PLC0415

    wire = doing.wire_of(name)
    who, aggregate = doing.actor_of(actor), doing.subject_of(wire, subject, external)
    given = doing.Given(source, id_given, time, on_behalf_of, expected_version, correlation_id)
    sent = doing.command(wire, aggregate, who, words or [], given)
    outcome = send_one(_connected(data), sent, timeout)
    if as_json:
        typer.echo(json.dumps(outcome, ensure_ascii=False, indent=1))
    else:
        for line in doing.in_words(sent, outcome):
            typer.echo(line)
    raise typer.Exit(0 if outcome["outcome"] == "accepted" else DIFFERS)


@app.command("id")
def id_(
    aggregate: Annotated[str, typer.Argument(help="partner, lead, opportunity or conflict.")],
    source: Annotated[str, typer.Argument(help="The system that knows it, as in the commands' source.")],
    external_id: Annotated[str, typer.Argument(help="Its key there.")],
) -> None:
    """Print the aggregate id for a key of another system.

    Example: prm-es id opportunity crm 1C1I7A6R
    """
    if aggregate not in AGGREGATES:
        raise Usage(f"there is no aggregate {aggregate}; there are: {', '.join(AGGREGATES)}")
    typer.echo(aggregate_id(aggregate, source, external_id))


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder with the CSV files.", exists=True, file_okay=False)],
    mapping: Annotated[str, typer.Option(help="Mapping file, or the name of a shipped one.")],
    data: DataOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Validate and count; send nothing.")] = False,
    refusals: Annotated[Path | None, typer.Option(help="File for refusals, JSON Lines.")] = None,
    timeout: TimeoutOption = 60.0,
) -> None:
    """Turn CSV files of another system into commands; nothing is sent while any row is bad.

    Twice changes nothing; one that was interrupted, run again, sends what has no outcome yet.

    Example: prm-es import --mapping crm_export exports/
    """
    from prm_es.upstream import mapping as mappings  # noqa: PLC0415
    from prm_es.upstream.planning import plan  # noqa: PLC0415
    from prm_es.upstream.tables import read_tables  # noqa: PLC0415

    chosen = mappings.resolve(mapping)
    planned = plan(chosen, read_tables(chosen, folder))
    if planned.bad:
        for bad in planned.bad[:100]:
            typer.echo(str(bad), err=True)
        more = f" ({len(planned.bad) - 100} more)" if len(planned.bad) > 100 else ""  # noqa: PLR2004
        typer.echo(f"{len(planned.bad)} problems{more}; nothing was sent", err=True)
        raise typer.Exit(DIFFERS)
    if dry_run:
        typer.echo(f"{len(planned.commands)} commands would be sent", err=True)
        return
    _send(_connected(data), planned.commands, wait_for=True, refusals=refusals, timeout=timeout, resume=True)


@app.command()
def demo(
    data: DataOption = None,
    seed: Annotated[int, typer.Option(help="Another seed, another scenario.")] = 1,
    until: Annotated[str | None, typer.Option(help="Last day of the scenario.", show_default="today")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running.")] = False,
) -> None:
    """Run a generated scenario through the whole path and print what the read model says.

    Example: prm-es demo --seed 7 --until 2026-06-30
    """
    from prm_es.local.demo import run_demo  # noqa: PLC0415

    settings = _settings(data)
    logs.configure("demo", level="warning", quiet=True)
    raise typer.Exit(run_demo(settings, seed, until, keep=keep))


# Matching

match_app = typer.Typer(
    help="How customers are recognised under other spellings: score labelled pairs, fit the weights to them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(match_app, name="match")
PairsFile = Annotated[
    Path, typer.Argument(metavar="PAIRS", help="Pairs of records, a line each as JSON: left, right, label.")
]
WeightsOption = Annotated[Path | None, typer.Option("--weights", help="Weights as YAML; without it those shipped.")]


@match_app.command("score")
def match_score(file: PairsFile, weights: WeightsOption = None, form: FormatOption = Format.TABLE) -> None:
    """Score pairs, say why, and how well the scores agree with the labels; needs no server.

    Example: prm-es match score pairs.jsonl --format csv
    """
    from prm_es import fitting  # noqa: PLC0415

    given = fitting.known(fitting.pairs_in(file))
    scored = fitting.scored(given, fitting.weights_in(weights))
    write(fitting.COLUMNS, (one.row for one in scored), form)
    for line in fitting.summary(scored):
        _console.print(line, soft_wrap=True)


@match_app.command("fit")
def match_fit(
    file: PairsFile,
    out: Annotated[Path, typer.Option("--out", help="Where to write the weights, as YAML.")],
    version: Annotated[int, typer.Option(min=1, help="The version that they are given.")] = 1,
    persons: Annotated[
        Path | None, typer.Option("--persons", help="Pairs of private persons, who get weights of their own.")
    ] = None,
) -> None:
    """Fit the weights to labelled pairs; what is written goes under `matching` of a policy. Needs the extra `fit`.

    Example: prm-es match fit pairs.jsonl --out weights.yaml --version 2
    """
    from prm_es import fitting  # noqa: PLC0415

    given = fitting.known(fitting.labelled(fitting.pairs_in(file)))
    own = fitting.known(fitting.labelled(fitting.pairs_in(persons))) if persons else None
    found = fitting.fit(given, version, own)
    out.write_text(fitting.as_yaml(found), encoding="utf-8")
    for line in fitting.summary(fitting.scored(given, found)):
        _console.print(line, soft_wrap=True)
    typer.echo(f"{out}: weights version {found.version}, fitted to {len(given.pairs)} pairs")


# Policies

policies_app = typer.Typer(
    help="The rules' numbers: check a file, load a version, show the one in force.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(policies_app, name="policy")
PolicyFile = Annotated[Path, typer.Argument(metavar="FILE", help="A policy, whole, as YAML.")]


class PolicyFormat(StrEnum):
    """How a policy is written."""

    YAML = "yaml"
    JSON = "json"


@policies_app.command("check")
def policy_check(file: PolicyFile) -> None:
    """Say what is wrong with a policy file, a line each; needs no server.

    Example: prm-es policy check policy.yaml
    """
    from prm_es.aggregates.policy import read  # noqa: PLC0415
    from prm_es.policies import headline  # noqa: PLC0415

    typer.echo(f"{file}: {headline(read(file))}, is well formed")


@policies_app.command("load")
def policy_load(
    file: PolicyFile,
    actor: Annotated[str, typer.Option("--as", metavar="ID[:ROLE]", help="Who loads it: a vendor_admin.")],
    data: DataOption = None,
) -> None:
    """Load a new version; decisions dated from its effective_from on go by it. Twice changes nothing.

    Example: prm-es policy load policy.yaml --as vera:vendor_admin
    """
    from prm_es.aggregates.policy import read  # noqa: PLC0415
    from prm_es.messages import Role  # noqa: PLC0415
    from prm_es.policies import NotLoaded, headline, load_policy  # noqa: PLC0415
    from prm_es.store.store import Store  # noqa: PLC0415
    from prm_es.upstream.doing import actor_of  # noqa: PLC0415

    given, who = read(file), actor_of(actor, Role.VENDOR_ADMIN)
    with Store(_connected(data)) as store:
        done = load_policy(store, given, who)
    if isinstance(done, NotLoaded):
        typer.echo(f"not loaded: {done.sentence}")
        raise typer.Exit(DIFFERS)
    how = f"loaded at position {done.position}" if done.position else "was loaded before"
    typer.echo(f"{headline(given)}: {how}")


@policies_app.command("show")
def policy_show(
    at: Annotated[str | None, typer.Option(help="The one in force at this time.", show_default="now")] = None,
    version: Annotated[int | None, typer.Option(min=0, help="This version; 0 is the shipped one.")] = None,
    data: DataOption = None,
    form: Annotated[PolicyFormat, typer.Option("--format", help="How to write it.")] = PolicyFormat.YAML,
) -> None:
    """Show the policy in force, ready to be changed and loaded as the next version.

    Example: prm-es policy show --at 2026-07-01T00:00:00Z
    """
    from prm_es.aggregates.policy import in_force  # noqa: PLC0415
    from prm_es.policies import as_json, as_yaml, headline, known_policies  # noqa: PLC0415
    from prm_es.store.store import Store  # noqa: PLC0415

    if at is not None and version is not None:
        raise Usage("give --at or --version, not both")
    moment = _moment(at, "--at") or datetime.now(UTC)
    with Store(_connected(data), "auditor") as store:
        known = known_policies(store)
    by_version = {one.version: one for one in known}
    if version is not None and version not in by_version:
        raise Usage(f"there is no policy version {version}; there are: {', '.join(map(str, by_version))}")
    shown = in_force(known, moment) if version is None else by_version[version]
    typer.echo(headline(shown), err=True)
    typer.echo((as_json if form is PolicyFormat.JSON else as_yaml)(shown).rstrip())


def _moment(text: str | None, flag: str) -> datetime | None:
    """Read a date or a time; one that names no offset is UTC."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Usage(f"{flag}: {text} is no time, write 2026-06-30 or 2026-06-30T12:00:00Z") from None


# Reading


class AnswerFormat(StrEnum):
    """How an answer is written."""

    WORDS = "words"
    JSON = "json"


@app.command()
def available(
    actor: Annotated[str, typer.Option("--as", metavar="ID:ROLE[:PARTNER]", help="Who asks.")],
    tax_ids: Annotated[
        list[str] | None,
        typer.Option("--tax-id", metavar="COUNTRY:NUMBER", help="A company's tax id; may be repeated."),
    ] = None,
    customer_ids: Annotated[
        list[str] | None, typer.Option("--customer-id", help="The vendor's own id of the customer; may be repeated.")
    ] = None,
    product_lines: Annotated[
        list[str] | None, typer.Option("--product-line", help="May be repeated.", show_default="all")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name: other spellings of it answer too.")] = None,
    trade_name: Annotated[str | None, typer.Option(help="Its trade name.")] = None,
    country: Annotated[str | None, typer.Option(help="ISO 3166 code.")] = None,
    city: Annotated[str | None, typer.Option()] = None,
    address: Annotated[str | None, typer.Option(help="Street and number.")] = None,
    postcode: Annotated[str | None, typer.Option()] = None,
    phone: Annotated[str | None, typer.Option()] = None,
    domains: Annotated[list[str] | None, typer.Option("--domain", help="Web domain; may be repeated.")] = None,
    data: DataOption = None,
    form: Annotated[AnswerFormat, typer.Option("--format", help="How to write it.")] = AnswerFormat.WORDS,
) -> None:
    """Say whether a customer is free for an approval; each question is logged, and counted for partners.

    Example: prm-es available --tax-id BR:11222333000181 --as bia:partner_rep:3f0c9f9e-1a52-5d3f-8a43-2f1f6f6f6f6f
    Example: prm-es available --name "Padaria Sao Jose" --city Pelotas --as ana:channel_manager
    """
    from prm_es import availability  # noqa: PLC0415
    from prm_es.aggregates.base import Refused  # noqa: PLC0415
    from prm_es.availability import Spellings  # noqa: PLC0415
    from prm_es.store.store import Store  # noqa: PLC0415
    from prm_es.upstream.doing import actor_of  # noqa: PLC0415

    who = actor_of(actor)
    question = availability.question_of(
        tax_ids or (),
        customer_ids or (),
        product_lines or (),
        name=name,
        trade_name=trade_name,
        country=country,
        city=city,
        address=address,
        postcode=postcode,
        phone=phone,
        domains=tuple(domains) if domains else None,
    )
    settings = _connected(data)
    with Store(settings) as store, closing(Spellings(settings)) as spellings:
        done = availability.ask(store, question, who, spellings)
    if form is AnswerFormat.JSON:
        typer.echo(json.dumps(availability.as_json(done), ensure_ascii=False, indent=1))
    else:
        for line in availability.in_words(done):
            typer.echo(line)
    raise typer.Exit(DIFFERS if isinstance(done, Refused) else 0)


@app.command()
def forget(
    reason: Annotated[str, typer.Option(help="Why: request, consent_withdrawn, retention or other.")],
    actor: Annotated[str, typer.Option("--as", metavar="ID:ROLE", help="Who decides: a vendor_admin.")],
    person: Annotated[
        UUID | None, typer.Argument(metavar="[PERSON]", help="The person's id, as events name it.")
    ] = None,
    email: Annotated[str | None, typer.Option()] = None,
    phone: Annotated[str | None, typer.Option(help="As it was sent.")] = None,
    tax_id: Annotated[str | None, typer.Option(metavar="COUNTRY:NUMBER", help="An individual's.")] = None,
    data: DataOption = None,
) -> None:
    """Forget a person: what was sealed for it can never be read again, and nothing is found by it.

    Example: prm-es forget --email bob@example.com --reason request --as vera:vendor_admin
    """
    from prm_es import forgetting  # noqa: PLC0415
    from prm_es.upstream.doing import actor_of  # noqa: PLC0415

    who = person or forgetting.known_by(email=email, phone=phone, tax_id=tax_id)
    done = forgetting.forget(_connected(data), who, reason, actor_of(actor))
    if isinstance(done, forgetting.NotDone):
        _fail(done.sentence, DIFFERS)
    elif done.position is None:
        typer.echo(f"person {done.person_id}: no key of it is there; nothing was changed")
    else:
        typer.echo(f"person {done.person_id} forgotten at position {done.position}; {done.values} values in clear went")


@app.command()
def screen(
    given: Annotated[
        str, typer.Option("--policy", metavar="FILE|VERSION", help="A policy file, or the version of one loaded.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Must be given: nothing is written, nobody is told.")
    ] = False,
    data: DataOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare everything in the log under any policy and print the pairs that match at its end.

    Example: prm-es screen --policy policy.yaml --dry-run --format csv
    """
    from prm_es.policies import chosen  # noqa: PLC0415
    from prm_es.screening import COLUMNS, Screening, summary  # noqa: PLC0415
    from prm_es.store.store import Store  # noqa: PLC0415

    if not dry_run:
        raise Usage("screen only tries a policy: give --dry-run. Leads are screened by `prm-es conflicts`")
    with Store(_connected(data), "auditor") as store:
        screening, head, position = Screening(chosen(store, given)), store.head(), 0
        while events := store.events(position, 2000, head):
            screening.take(events)
            position = events[-1].position
    pairs = screening.pairs()
    write(COLUMNS, (one.row for one in pairs), form)
    for line in summary(pairs):
        typer.echo(line, err=True)


_SHOWN = (
    "pipeline, opportunities, partners, leads, registrations, protected-customers, offers, conflicts, deadlines,"
    " performance, scorecard or goals."
)


@app.command()
def show(
    what: Annotated[str, typer.Argument(help=_SHOWN)],
    data: DataOption = None,
    stage: Annotated[str | None, typer.Option(help="Only this stage.")] = None,
    partner: Annotated[str | None, typer.Option(help="Only this partner: part of its name, or its id.")] = None,
    status_: Annotated[
        str | None,
        typer.Option("--status", help="open, won or lost; a partner's, lead's or goal's status; an offer's answer."),
    ] = None,
    territory: Annotated[str | None, typer.Option(help="Only this territory.")] = None,
    period: Annotated[
        str | None,
        typer.Option(
            help="2026, 2026-Q1, 2026-03, this-month or FROM..TO: when closed or expected to close; for leads when they"
            " came in, for protected-customers when it ends, for offers when they were made, for conflicts when found,"
            " for deadlines when due; months and goals."
        ),
    ] = None,
    by: Annotated[
        str, typer.Option(help="For pipeline, comma-separated: stage, status, partner, territory, forecast, month.")
    ] = "stage",
    sort: Annotated[str | None, typer.Option(help="Column to sort by; -COLUMN for descending.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many rows.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show a read model.

    Example: prm-es show opportunities --stage qualified --sort -amount --format csv
    """
    from prm_es.api.show import SHOWN, Filters  # noqa: PLC0415

    if what not in SHOWN:
        raise Usage(f"there is no {what} to show; there are: {', '.join(SHOWN)}")
    filters = Filters(stage, partner, status_, territory, period, sort, tuple(filter(None, by.split(","))), limit)
    answer = SHOWN[what](_connected(data), filters)
    write(answer.columns, answer.rows, form)


@app.command()
def history(
    aggregate: Annotated[str, typer.Argument(help="partner or opportunity.")],
    subject: Annotated[UUID, typer.Argument(metavar="ID", help="Aggregate id.")],
    data: DataOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show every event of an aggregate, with who, when it happened and when it was recorded.

    Example: prm-es history opportunity 4b0c9f9e-1a52-5d3f-8a43-2f1f6f6f6f6f
    """
    from prm_es.audit.history import history as read  # noqa: PLC0415
    from prm_es.store.store import Store  # noqa: PLC0415

    with Store(_connected(data), "auditor") as store:
        entries = read(store, aggregate, subject)
    columns = ["position", "version", "at", "recorded_at", "actor", "what", "details"]
    write(columns, [[getattr(entry, name) for name in columns] for entry in entries], form)


@app.command("sql")
def sql_(
    query: Annotated[str, typer.Argument(help="One statement.")],
    data: DataOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Run one read-only statement as the reader role, over the views in schema read.

    Example: prm-es sql "SELECT partner, sum(amount) FROM read.opportunities WHERE status = 'won' GROUP BY 1"
    """
    from prm_es.projections.sql import run_sql  # noqa: PLC0415

    columns, rows = run_sql(_connected(data), query)
    write(columns, rows, form)


# Auditing


@app.command()
def replay(
    first: Annotated[int, typer.Option("--from", min=1, help="First position.")] = 1,
    last: Annotated[int | None, typer.Option("--to", min=0, help="Last position.", show_default="the end")] = None,
    recorded_from: Annotated[str | None, typer.Option(help="Recorded at this time or later.")] = None,
    recorded_to: Annotated[str | None, typer.Option(help="Recorded before this time.")] = None,
    at_from: Annotated[str | None, typer.Option(help="Business time: this or later.")] = None,
    at_to: Annotated[str | None, typer.Option(help="Business time: before this.")] = None,
    aggregate: Annotated[str | None, typer.Option(help="Only this kind: partner, lead, opportunity, policy.")] = None,
    subject: Annotated[UUID | None, typer.Option("--id", help="Only the aggregate with this id.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only these events: 'opportunity.*', '*.won'.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this user did, or had imported.")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="Only what carries this id.")] = None,
    reveal: Annotated[bool, typer.Option("--open", help="Read personal data; else it stays encrypted.")] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="jsonl or csv.", show_default="by FILE, else jsonl")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write here.")] = None,
    data: DataOption = None,
) -> None:
    """Write the log's events in order, as JSON Lines or CSV; every condition narrows it. Times without offset are UTC.

    Example: prm-es replay --aggregate opportunity --at-from 2026-01-01 --at-to 2026-04-01 --output quarter.csv
    """
    from prm_es.audit import replay as replaying  # noqa: PLC0415
    from prm_es.store.store import Store  # noqa: PLC0415
    from prm_es.upstream.progress import counter  # noqa: PLC0415

    written_as = _log_format(form, output)
    if aggregate is not None and aggregate not in (*AGGREGATES, "policy", "person"):
        raise Usage(f"there is no aggregate {aggregate}; there are: {', '.join(AGGREGATES)}, policy")
    chosen = replaying.Selection(
        first=first,
        last=last,
        recorded_from=_moment(recorded_from, "--recorded-from"),
        recorded_to=_moment(recorded_to, "--recorded-to"),
        at_from=_moment(at_from, "--at-from"),
        at_to=_moment(at_to, "--at-to"),
        aggregate=aggregate,
        subject=subject,
        type=kind,
        actor=actor,
        correlation_id=correlation_id,
    )
    quiet = output is None and sys.stdout.isatty()  # a bar would stand between the lines
    with (
        Store(_connected(data), "auditor") as store,
        nullcontext(sys.stdout) if output is None else replaying.output(output) as file,
        nullcontext(lambda _done, _total: None) if quiet else counter("events") as on_progress,
    ):
        written = replaying.write_events(
            store, replaying.select(store, chosen, on_progress), written_as, file, reveal=reveal
        )
    typer.echo(f"{written} event{'s' * (written != 1)}", err=True)


def _log_format(form: str | None, output: Path | None) -> Any:  # noqa: ANN401
    from prm_es.audit.replay import LogFormat  # noqa: PLC0415

    name = form or ("csv" if output and output.suffix.lower() == ".csv" else "jsonl")
    if name not in set(LogFormat):
        raise Usage(f"--format: {name} is none of {', '.join(LogFormat)}")
    return LogFormat(name)


@app.command()
def state(
    aggregate: Annotated[str, typer.Argument(help="partner, lead or opportunity.")],
    subject: Annotated[UUID, typer.Argument(metavar="ID", help="Aggregate id.")],
    position: Annotated[int | None, typer.Option(min=1, help="As of this position of the log.")] = None,
    recorded_at: Annotated[str | None, typer.Option(help="As recorded by this time.", show_default="now")] = None,
    reveal: Annotated[bool, typer.Option("--open", help="Read personal data; else it stays encrypted.")] = False,
    data: DataOption = None,
    form: Annotated[str, typer.Option("--format", help="json.")] = "json",
) -> None:
    """Show an aggregate as it was, folded from its events up to there, as JSON.

    Example: prm-es state opportunity 4b0c9f9e-1a52-5d3f-8a43-2f1f6f6f6f6f --recorded-at 2026-06-30T12:00:00Z
    """
    from prm_es.audit.replay import state_at  # noqa: PLC0415
    from prm_es.store.store import Store  # noqa: PLC0415

    if form != "json":
        raise Usage("a state is shown as json only")
    if position is not None and recorded_at is not None:
        raise Usage("give --position or --recorded-at, not both")
    moment = _moment(recorded_at, "--recorded-at")
    with Store(_connected(data), "auditor") as store:
        past = state_at(store, aggregate, subject, position=position, recorded_at=moment, reveal=reveal)
    typer.echo(past.as_json())


# Dead letters

letters_app = typer.Typer(
    help="What no command could be read from or decided of, and events that a read model could not take.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(letters_app, name="dead-letters")
LettersArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[LETTER]…", help="As list names them: topic/partition/offset or read-model/position."),
]
AllOption = Annotated[bool, typer.Option("--all", help="All that are open, narrowed by --kind, --read-model, --code.")]
KindOption = Annotated[str | None, typer.Option("--kind", help="Only those of this kind: command or event.")]
ReadModelOption = Annotated[str | None, typer.Option("--read-model", help="Only events that this one could not take.")]
CodeOption = Annotated[str | None, typer.Option("--code", help="Only those with this code, as message.not_json.")]
ActorOption = Annotated[str, typer.Option("--as", metavar="ID", help="Who does it; recorded for ever.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; recorded for ever, so without personal data.")]


@letters_app.command("list")
def letters_list(
    kind: KindOption = None,
    read_model: ReadModelOption = None,
    code: CodeOption = None,
    state: Annotated[str, typer.Option("--state", help="open, closed or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1000,
    data: DataOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List dead letters, the open ones unless said otherwise, oldest first.

    Example: prm-es dead-letters list --kind command --code command.failed
    """
    from itertools import islice  # noqa: PLC0415

    from prm_es.letters.listing import COLUMNS, listed  # noqa: PLC0415

    found = listed(_connected(data), _chosen_letters(kind, read_model, code, state))
    rows = [one.row for one in islice(found, limit)]
    write(COLUMNS, rows, form)
    if next(found, None) is not None:
        typer.echo(f"there are more: --limit {limit} was reached", err=True)


def _chosen_letters(kind: str | None, read_model: str | None, code: str | None, state: str) -> Any:  # noqa: ANN401
    from prm_es.letters.listing import COMMAND, EVENT, STATES, Chosen  # noqa: PLC0415
    from prm_es.projections.registry import named  # noqa: PLC0415

    if kind not in (None, COMMAND, EVENT):
        raise Usage(f"--kind: {kind} is none of {COMMAND}, {EVENT}")
    if state not in STATES:
        raise Usage(f"--state: {state} is none of {', '.join(STATES)}")
    return Chosen(kind, named(read_model).name if read_model else None, code, state)


@letters_app.command("show")
def letters_show(
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="As list names it.")],
    data: DataOption = None,
    form: Annotated[AnswerFormat, typer.Option("--format", help="How to write it.")] = AnswerFormat.WORDS,
) -> None:
    """Show all about a dead letter: place, reason, history, and its content in clear, personal data included.

    Example: prm-es dead-letters show prm.commands.lead/3/1017
    """
    from prm_es.letters.showing import show as show_letter  # noqa: PLC0415

    shown = show_letter(_connected(data), letter)
    if form is AnswerFormat.JSON:
        typer.echo(json.dumps(shown.as_json(), ensure_ascii=False, indent=1))
    else:
        for line in shown.in_words():
            typer.echo(line)
    if shown.content:
        typer.echo("decrypted for you: this may hold personal data", err=True)


@letters_app.command("retry")
def letters_retry(
    actor: ActorOption,
    reason: ReasonOption,
    letters: LettersArgument = None,
    every: AllOption = False,
    kind: KindOption = None,
    read_model: ReadModelOption = None,
    code: CodeOption = None,
    data: DataOption = None,
    timeout: TimeoutOption = 15.0,
) -> None:
    """Send a record to its topic again to be decided anew, or fold parked events again, those that wait in order.

    Exits with 1 if one was refused, is dead again, cannot be folded or was not answered in time: that stays open.

    Example: prm-es dead-letters retry --all --code command.failed --as olga --reason "fixed in 0.2.1"
    """
    chosen = _letters(letters, every, _chosen_letters(kind, read_model, code, "open"), _connected(data))
    _act_on_letters(_connected(data), chosen, "retry", actor, reason, timeout)


@letters_app.command("discard")
def letters_discard(
    actor: ActorOption,
    reason: ReasonOption,
    letters: LettersArgument = None,
    every: AllOption = False,
    kind: KindOption = None,
    read_model: ReadModelOption = None,
    code: CodeOption = None,
    data: DataOption = None,
    timeout: TimeoutOption = 15.0,
) -> None:
    """Close dead letters for good. The read model skips a discarded event, and folds those that wait behind it.

    Example: prm-es dead-letters discard pipeline/4711 --as olga --reason "a test that was never a deal"
    """
    chosen = _letters(letters, every, _chosen_letters(kind, read_model, code, "open"), _connected(data))
    _act_on_letters(_connected(data), chosen, "discard", actor, reason, timeout)


def _letters(letters: list[str] | None, every: bool, chosen: Any, settings: Settings) -> list[str]:  # noqa: ANN401
    from prm_es.letters.listing import Chosen, listed  # noqa: PLC0415

    if bool(letters) == every:
        raise Usage("name letters, or give --all")
    if letters and chosen != Chosen():
        raise Usage("--kind, --read-model and --code narrow --all, and no letters that are named")
    return letters or [one.letter for one in listed(settings, chosen)]


def _act_on_letters(
    settings: Settings,
    letters: list[str],
    action: Any,  # noqa: ANN401
    actor: str,
    reason: str,
    timeout: float,
) -> None:
    from prm_es.letters.acting import act, noted  # noqa: PLC0415
    from prm_es.upstream.progress import counter  # noqa: PLC0415

    wrong = 0
    with counter(action) as progress:
        for done in act(settings, letters, action, noted(actor, reason), timeout, progress):
            typer.echo(f"{done.letter}: {done.sentence}")
            wrong += not done.well
    typer.echo(f"{len(letters) - wrong} of {len(letters)} as wanted", err=True)
    raise typer.Exit(DIFFERS if wrong else 0)


# Running the parts


def _worker(
    name: str,
    load: Callable[[], Callable[..., None]],
    *arguments: object,
    given: Mapping[str, object] | None = None,
) -> None:
    from prm_es.consumers.runtime import run  # noqa: PLC0415

    work = load()
    told: Any = {key: value for key, value in (given or {}).items() if value is not None}
    run(name, Settings(**told), lambda settings, stop: work(settings, *arguments, stop))


@app.command()
def handle() -> None:
    """Run a command handler; several may run.

    Example: prm-es handle
    """

    def load() -> Callable[..., None]:
        from prm_es.consumers import commands  # noqa: PLC0415

        return commands.work

    _worker("handle", load)


@app.command()
def publish() -> None:
    """Run the publisher; a second one stands by.

    Example: prm-es publish
    """

    def load() -> Callable[..., None]:
        from prm_es.consumers import publisher  # noqa: PLC0415

        return publisher.work

    _worker("publish", load)


@app.command()
def project(names: Annotated[list[str], typer.Argument(help="Read models that this process hosts.")]) -> None:
    """Run a projector of one or more read models; several may run.

    Example: prm-es project pipeline
    """
    from prm_es.projections.registry import ORDERED, named  # noqa: PLC0415

    if ordered := sorted(set(names) & set(ORDERED)):
        raise Usage(f"{ordered[0]} has a worker of its own: prm-es {ordered[0]}")
    models = [named(name) for name in names]

    def load() -> Callable[..., None]:
        from prm_es.consumers import projector  # noqa: PLC0415

        return projector.work

    _worker("+".join(names), load, models)


@app.command()
def conflicts() -> None:
    """Run the worker that compares every lead with all live ones and screens it; a second one stands by.

    Example: prm-es conflicts
    """
    _ordered("conflicts")


@app.command()
def reactions() -> None:
    """Run the worker that revokes and recalls what a terminated partner has; a second one stands by.

    Example: prm-es reactions
    """
    _ordered("reactions")


@app.command()
def api(
    host: Annotated[str | None, typer.Option(help="Where to listen (PRM_API_HOST).", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Where to listen (PRM_API_PORT).", show_default="8080")] = None,
) -> None:
    """Serve the pages, queries and commands over HTTP, for people whom PRM_OIDC_ISSUER lets in.

    Example: PRM_OIDC_ISSUER=https://login.example.com/realms/channel prm-es api --port 8080
    """

    def load() -> Callable[..., None]:
        from prm_es.api.serve import work  # noqa: PLC0415

        return work

    _worker("api", load, given={"api_host": host, "api_port": port})


@app.command("dev-issuer")
def dev_issuer(
    host: Annotated[str | None, typer.Option(help="A loopback address.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Where to listen.", show_default="8081")] = None,
) -> None:
    """Let people in without passwords, a login a role, on loopback only: for development.

    Example: prm-es dev-issuer --port 8081
    """

    def load() -> Callable[..., None]:
        from prm_es.api.issuer.app import work  # noqa: PLC0415

        return work

    _worker("issuer", load, given={"issuer_host": host, "issuer_port": port})


@app.command()
def token(
    login: Annotated[str, typer.Argument(help="A login of the development issuer, as carla.")],
    partner: Annotated[UUID | None, typer.Option(help="Partner id, in place of a partner login's own.")] = None,
    data: DataOption = None,
) -> None:
    """Print a bearer token for a login of the development issuer that `prm-es up` runs; it lasts an hour.

    Example: prm-es token carla
    It goes with a request as: curl -H "Authorization: Bearer $(prm-es token carla)" http://127.0.0.1:8080/api/me
    """
    from prm_es.local.connect import running  # noqa: PLC0415
    from prm_es.local.logins import token_for  # noqa: PLC0415

    settings = _connected(data)
    typer.echo(token_for(settings, running(settings.data), login, partner))


@app.command()
def deadlines() -> None:
    """Run the worker that sends what is due: expiries, reminders, warnings, recalls; a second one stands by.

    Example: prm-es deadlines
    """
    _ordered("deadlines")


def _ordered(name: str) -> None:
    def load() -> Callable[..., None]:
        from prm_es.consumers.ordered import follow  # noqa: PLC0415
        from prm_es.projections.registry import ORDERED  # noqa: PLC0415

        return lambda settings, stop: follow(settings, ORDERED[name], stop)

    _worker(name, load)


@app.command()
def migrate(
    data: DataOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what is pending, and exit with 1 if anything is.")
    ] = False,
) -> None:
    """Bring the database and the read models up to this program; safe to run again.

    Example: PRM_POSTGRES=postgresql://owner@db/prm prm-es migrate
    """
    from prm_es.install import install, pending  # noqa: PLC0415

    settings = _settings(data)
    settings = settings if settings.postgres or settings.postgres_owner else _connected(data)
    if check:
        todo = pending(settings)
        typer.echo(
            f"migrations pending: {todo.migrations or 'none'}; read models to be made: {todo.read_models or 'none'},"
            f" to be made anew: {todo.rebuilt or 'none'}"
        )
        raise typer.Exit(DIFFERS if todo.anything else 0)
    done = install(settings)
    typer.echo(
        f"migrations applied: {done.migrations or 'none'}; read models made: {done.read_models or 'none'},"
        f" made anew: {done.rebuilt or 'none'}",
        err=True,
    )


@app.command()
def topics(data: DataOption = None) -> None:
    """Make the topics that are missing; safe to run again.

    Example: PRM_KAFKA=kafka:9092 prm-es topics
    """
    from prm_es.consumers.topics import create  # noqa: PLC0415

    settings = _settings(data)
    made = create(settings if settings.kafka else _connected(data))
    typer.echo(f"topics made: {', '.join(made) or 'none'}", err=True)


@app.command("repair-topics")
def repair_topics(
    data: DataOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Empty the events topics and begin a new history: the publisher then fills them from the store.

    For a store that was restored from a backup older than its topics, or topics with another store's events. Refused
    while a publisher is active. Read models that contain more than the log are made anew.

    Example: prm-es repair-topics
    """
    from prm_es.consumers.renewal import held, renew  # noqa: PLC0415

    settings = _connected(data)
    for one in held(settings):
        typer.echo(
            f"{one.partitions} partitions end with events of store {one.store_id}, up to position {one.position}, the"
            f" last sent {utc_text(one.sent_at)}",
            err=True,
        )
    if not yes:
        question = f"Delete all events on {settings.event_topic('*')} at {settings.kafka} and fill them from the store?"
        typer.confirm(question, abort=True, err=True)
    done = renew(settings)
    again = f"; read models made anew: {', '.join(done.rebuilt)}" if done.rebuilt else ""
    typer.echo(f"the store is {done.store_id} from now on, and its publisher fills the topics{again}", err=True)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A new file, or a folder to put one in.")],
    data: DataOption = None,
) -> None:
    """Back the store up into one file, while everything runs. Keep it safe: it holds the keys of personal data.

    Example: prm-es backup backups/
    """
    from prm_es.backup.dump import back_up  # noqa: PLC0415
    from prm_es.backup.servers import postgres  # noqa: PLC0415
    from prm_es.upstream.progress import counter  # noqa: PLC0415

    logs.configure("backup", level="warning", quiet=True)
    with postgres(_settings(data)) as settings, counter("rows") as progress:
        done = back_up(settings, target, progress)
    typer.echo(str(done.file))
    typer.echo(
        f"{done.size:,} bytes: the log up to position {done.position}, commit {done.commits} of"
        f" {utc_text(done.recorded_at)}, digest {done.digest.hex()}",
        err=True,
    )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What backup wrote.", exists=True, dir_okay=False)],
    data: DataOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of a store that holds commits.")
    ] = False,
) -> None:
    """Restore a backup, check it whole, and make the read models from it. No worker may run.

    What was there is dropped at the end, and is back again if anything goes wrong before. Afterwards: prm-es
    repair-topics.

    Example: prm-es restore backups/prm-20260630T120000Z.backup --replace
    """
    from prm_es.backup.restore import restore as put_back  # noqa: PLC0415
    from prm_es.backup.servers import postgres  # noqa: PLC0415
    from prm_es.upstream.progress import steps  # noqa: PLC0415

    logs.configure("restore", level="warning", quiet=True)
    with postgres(_settings(data)) as settings, steps() as on_step:
        done = put_back(settings, file, replace=replace, on_step=on_step)
    found = done.verified
    typer.echo(
        f"verified up to position {found.position}, commit {found.commits}, digest {found.digest.hex()}", err=True
    )
    if done.forgotten is None:
        typer.echo("who was forgotten since the backup can be read again: run `prm-es forget` anew for them", err=True)
    elif done.forgotten:
        typer.echo(f"{done.forgotten} keys that were destroyed since the backup are destroyed again", err=True)
    typer.echo(
        f"the store is {done.store_id} from now on; topics that hold what it was before are filled anew by"
        " `prm-es repair-topics`; commands sent since the backup must be sent again",
        err=True,
    )


@app.command()
def verify(data: DataOption = None) -> None:
    """Check that the log is as it was written: every commit's digest, each linked to the one before.

    Exits with 1 if it is not, and names the first commit that differs.

    Example: prm-es verify
    """
    from prm_es.audit.verify import verify as check_log  # noqa: PLC0415
    from prm_es.upstream.progress import counter  # noqa: PLC0415

    settings = _connected(data)
    with counter("commits") as progress:
        found = check_log(settings, progress)
    if found.fault:
        typer.echo(found.fault)
        raise typer.Exit(DIFFERS)
    typer.echo(f"{found.commits} commits, {found.position} events: as they were written, digest {found.digest.hex()}")


@app.command()
def rebuild(
    name: Annotated[str, typer.Argument(help="Read model.")],
    data: DataOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count the rows that differ from the live ones.")
    ] = False,
) -> None:
    """Make a read model anew from the log and swap it in; readers see the old rows until then.

    Example: prm-es rebuild pipeline --dry-run
    """
    from prm_es import rebuild as rebuilding  # noqa: PLC0415
    from prm_es.projections.registry import named  # noqa: PLC0415
    from prm_es.upstream.progress import counter  # noqa: PLC0415

    settings, model = _connected(data), named(name)
    with counter("events") as progress:
        done = (rebuilding.compare if dry_run else rebuilding.rebuild)(settings, model, progress)
    rate = done.events / done.seconds if done.seconds else 0
    typer.echo(f"{done.events} events in {done.seconds:.1f} s ({rate:,.0f} a second)", err=True)
    if dry_run:
        for table, rows in done.differs.items():
            typer.echo(f"{table}: {rows} rows differ")
        raise typer.Exit(DIFFERS if any(done.differs.values()) else 0)


@app.command()
def reconcile(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="guards, or a read model.", show_default="all")
    ] = None,
    data: DataOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Name at most so many differences, of each.")] = 50,
    repair_guards: Annotated[
        bool, typer.Option("--repair-guards", help="Write the guard rows that differ anew; handlers wait for it.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare guard tables and read models with a fresh fold of the log; exits with 1 if something differs.

    Example: prm-es reconcile guards pipeline --format json
    """
    from prm_es import reconcile as reconciling  # noqa: PLC0415
    from prm_es.upstream.progress import counter  # noqa: PLC0415

    chosen, settings = reconciling.chosen(names or ()), _connected(data)
    found = []
    for name in chosen:
        with counter(name) as progress:
            one = reconciling.reconcile(settings, name, limit, progress)
        found.append(one)
        rate = one.events / one.seconds if one.seconds else 0
        typer.echo(f"{name}: {one.events} events in {one.seconds:.1f} s ({rate:,.0f} a second)", err=True)
    write(reconciling.COLUMNS, [row for one in found for row in reconciling.as_rows(one)], form)
    for one in found:
        for line in reconciling.in_words(one):
            typer.echo(line, err=True)
    wrong = frozenset().union(*(one.owners for one in found))
    if repair_guards and wrong:
        reconciling.repair_guards(settings, wrong)
        typer.echo(f"guard rows of {len(wrong)} aggregates written anew; run it again to see", err=True)
    raise typer.Exit(DIFFERS if any(one.total for one in found) else 0)


@app.command()
def schemas(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path("schemas"),
    check: Annotated[bool, typer.Option("--check", help="Only say whether they are as they should be.")] = False,
) -> None:
    """Write the JSON Schema of every message, asyncapi.yaml and openapi.json.

    Example: prm-es schemas schemas/
    """
    from prm_es.api import openapi  # noqa: PLC0415
    from prm_es.schemas import drift, generate  # noqa: PLC0415

    if check:
        differences = [*drift(folder), *openapi.drift(folder)]
        for line in differences:
            typer.echo(line, err=True)
        raise typer.Exit(DIFFERS if differences else 0)
    number = generate(folder)
    openapi.generate(folder)
    typer.echo(f"{number + 1} files written to {folder}", err=True)
