"""`do`, `policy`, `replay`, `state` and `doctor` as people type them: words out, and exit codes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prm_es.aggregates import policy
from prm_es.install import install
from prm_es.messages import aggregate_id
from prm_es.policies import as_yaml
from prm_es.settings import Settings
from tests.test_cli import Prm, Ran, environment, in_process
from tests.workers import Crew

ACME = aggregate_id("partner", "crm", "ACME")


@pytest.fixture(scope="module")
def prm(migrated: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prm]:
    install(migrated)

    def run(*arguments: str, stdin: bytes = b"") -> Ran:
        return in_process(environment(migrated), *arguments, stdin=stdin)

    words = ["legal_name=Acme", "country=BR", "types[]=reseller", "status=active"]
    with Crew(migrated, tmp_path_factory.mktemp("handler")) as crew:
        crew.start("handle")
        done = run("do", "partner.import", "--external", "crm:ACME", "--as", "crm:integration", *words)
        assert done.out.startswith(f"accepted: import; partner {ACME} is at version 1"), done.err
        yield run


def test_a_command_in_words(prm: Prm) -> None:
    here = ["--external", "crm:ACME", "--as", "ana:channel_manager"]
    refused = prm("do", "partner.set_capacity", *here, "open_leads=-1")
    assert (refused.code, refused.out.startswith("refused: set capacity of partner")) == (1, True)
    assert "  open_leads: " in refused.out
    done = prm("do", "partner.set_capacity", *here, "open_leads=5", "--json")
    assert [event["type"] for event in done.json()["events"]] == ["prm.partner.capacity_set.v1"]
    for wrong in (["partner.set_capacty", *here], ["partner.set_capacity", *here, "five"], ["partner.set_capacity"]):
        assert prm("do", *wrong).code == 2
    state = prm("state", "partner", str(ACME))
    assert state.json()["state"]["capacity"]["open_leads"] == 5
    assert prm("state", "partner", str(ACME), "--position", "1").json()["state"]["capacity"]["open_leads"] is None
    assert prm("state", "partner", str(ACME), "--position", "1", "--recorded-at", "2026-01-01").code == 2
    assert prm("state", "partner", str(ACME), "--recorded-at", "2001-01-01").code == 2


def test_the_log_on_standard_output_and_in_a_file(prm: Prm, tmp_path: Path) -> None:
    seen = prm("replay", "--aggregate", "partner", "--to", "1")
    assert (seen.code, len(seen.out.splitlines()), "1 event\n" in seen.err) == (0, 1, True)
    file = tmp_path / "log.csv"
    assert prm("replay", "--type", "partner.imp*", "-o", str(file)).code == 0
    assert file.read_text().splitlines()[0].startswith("position,version,type,subject")
    assert len(file.read_text().splitlines()) == 2
    for wrong in (
        ["--aggregate", "boat"],
        ["--at-from", "soon"],
        ["--format", "xml"],
        ["-o", str(tmp_path / "no" / "x")],
    ):
        assert prm("replay", *wrong).code == 2


def test_policies(prm: Prm, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(as_yaml(policy.default()).replace("zone: UTC", "zone: Mars"))
    wrong = prm("policy", "check", str(file))
    assert (wrong.code, "zone: " in wrong.err) == (2, True)
    assert prm("policy", "load", str(file), "--as", "vera").code == 2
    text = prm("policy", "show").out.replace("version: 0", "version: 1").replace("1970-01-01", "2031-01-01")
    file.write_text(text)
    assert prm("policy", "check", str(file)).code == 0
    assert "loaded at position" in prm("policy", "load", str(file), "--as", "vera").out
    assert "was loaded before" in prm("policy", "load", str(file), "--as", "vera").out
    file.write_text(text.replace("zone: UTC", "zone: Europe/Berlin"))
    refused = prm("policy", "load", str(file), "--as", "vera")
    assert (refused.code, "make it version 2" in refused.out) == (1, True)
    assert prm("policy", "show", "--format", "json").json()["version"] == 0
    assert prm("policy", "show", "--at", "2031-01-01", "--format", "json").json()["version"] == 1
    assert prm("policy", "show", "--version", "1").out == text
    assert prm("policy", "show", "--version", "2").code == 2


def test_a_person_is_forgotten_by_its_email_once_and_by_a_vendor_admin_alone(prm: Prm) -> None:
    here = ["--external", "crm:BOB", "--as", "crm:integration"]
    words = ["customer.name=Padaria Sol", "contact.name=Bob Braun", "contact.email=bob@example.com"]
    assert prm("do", "lead.capture", *here, *words).code == 0
    bob = ["forget", "--email", "bob@example.com", "--reason"]
    for wrong in (["forget", "--reason", "request"], [*bob, "boredom"], [*bob, "request", "--phone", "+5511999"]):
        assert prm(*wrong, "--as", "vera:vendor_admin").code == 2
    refused = prm(*bob, "request", "--as", "ana:channel_manager")
    assert (refused.code, "vendor_admin may" in refused.err) == (1, True)
    done = prm(*bob, "request", "--as", "vera:vendor_admin")
    assert (done.code, "forgotten at position" in done.out) == (0, True)
    again = prm(*bob, "request", "--as", "vera:vendor_admin")
    assert (again.code, "nothing was changed" in again.out) == (0, True)


def test_the_doctor(prm: Prm, migrated: Settings) -> None:
    whole = prm("doctor")
    assert whole.code == 0, whole.out
    assert {line.split()[0] for line in whole.out.splitlines()} <= {"ok", "warn"}
    broken = in_process(environment(migrated) | {"PRM_PREFIX": "nobody"}, "doctor")
    assert broken.code == 1
    assert "run `prm-es migrate`" in broken.out
