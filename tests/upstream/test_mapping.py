"""Mapping files, tables, and the commands that are made of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from prm_es.errors import Usage
from prm_es.messages import Envelope, Role, aggregate_id
from prm_es.upstream.mapping import CsvMapping, parse, resolve, shipped
from prm_es.upstream.planning import Plan, plan
from prm_es.upstream.tables import BadRow, parse_table, read_tables

from .folding import Fold

TEAMS = """sales_agent,manager,regional_office
Ann Agent,Mia Manager,Central
Bob Broker,Mia Manager,West
"""
ACCOUNTS = """account,sector,year_established,revenue,employees,office_location,subsidiary_of
Acme,retail,1999,1.5,10,United States,
Kappa,retail,1999,1.5,10,Norway,Acme
"""
PRODUCTS = """product,series,sales_price
GTX Pro,GTX,4821
MG Special,MG,55
"""
PIPELINE = """opportunity_id,sales_agent,product,account,deal_stage,engage_date,close_date,close_value
O1,Ann Agent,GTXPro,Acme,Won,2017-01-02,2017-03-04,4514
O2,Bob Broker,MG Special,,Lost,2017-01-03,2017-01-03,0
O3,Ann Agent,GTX Pro,Kappa,Engaging,2017-02-01,,
O4,Bob Broker,MG Special,,Prospecting,,,
"""
FILES = {"accounts": ACCOUNTS, "products": PRODUCTS, "sales_teams": TEAMS, "sales_pipeline": PIPELINE}


def planned(files: Mapping[str, str] = FILES, mapping: CsvMapping | None = None) -> Plan:
    mapping = mapping or resolve("crm_export")
    return plan(mapping, {name: parse_table(files[name], file.file) for name, file in mapping.files.items()})


def changed(name: str, old: str, new: str) -> dict[str, str]:
    assert old in FILES[name]
    return {**FILES, name: FILES[name].replace(old, new)}


def bad(files: Mapping[str, str], mapping: CsvMapping | None = None) -> list[BadRow]:
    found = planned(files, mapping)
    assert not found.commands
    return list(found.bad)


def data(command: Envelope) -> Any:
    return orjson.loads(command.data)


def of(commands: Plan, external_id: str) -> list[Envelope]:
    subject = aggregate_id("opportunity", "crm", external_id)
    return [command for command in commands.commands if command.subject == subject]


# The shipped mapping


def test_an_agent_becomes_a_partner() -> None:
    partners = [c for c in planned().commands if c.type == "prm.partner.import"]
    assert [c.subject for c in partners] == [
        aggregate_id("partner", "crm", name) for name in ("Ann Agent", "Bob Broker")
    ]
    assert data(partners[0]) == {
        "legal_name": "Ann Agent",
        "external_id": "Ann Agent",
        "status": "active",
        "types": ["reseller"],
        "territories": ["Central"],
        "channel_manager": "mia-manager",
    }
    assert partners[0].time == datetime(2017, 1, 2, tzinfo=UTC)  # the earliest engagement
    assert partners[0].id == "crm_export/1/sales_teams/Ann Agent/import"
    assert partners[0].actor.role is Role.INTEGRATION
    assert partners[0].actor.on_behalf_of == "mia-manager"


def test_a_won_row_is_opened_as_qualified_and_won_at_its_close() -> None:
    opened, won = of(planned(), "O1")
    assert (opened.type, won.type) == ("prm.opportunity.open", "prm.opportunity.win")
    assert data(opened) == {
        "external_id": "O1",
        "name": "GTX Pro for Acme",
        "partner_id": str(aggregate_id("partner", "crm", "Ann Agent")),
        "stage": "qualified",
        "customer": {"name": "Acme", "country": "US"},
        "products": [{"line": "GTX", "name": "GTX Pro", "quantity": 1}],
    }
    assert opened.time == datetime(2017, 1, 2, 0, 0, 1, tzinfo=UTC)
    assert opened.actor.on_behalf_of == "ann-agent"
    assert data(won) == {"final_amount": {"amount": "4514", "currency": "USD"}, "closed_on": "2017-03-04"}
    assert won.time == datetime(2017, 3, 4, 0, 0, 2, tzinfo=UTC)


def test_a_lost_row_without_account_gives_no_reason_and_no_customer_and_keeps_its_order_on_one_day() -> None:
    opened, lost = of(planned(), "O2")
    assert "customer" not in data(opened)
    assert data(opened)["name"] == "MG Special"
    assert data(lost) == {"reason": "not_given", "closed_on": "2017-01-03"}
    assert opened.time is not None
    assert lost.time is not None
    assert opened.time.date() == lost.time.date()
    assert opened.time < lost.time


def test_open_rows_stay_open_and_those_without_a_date_have_the_latest_of_the_file() -> None:
    (engaging,), (prospect,) = of(planned(), "O3"), of(planned(), "O4")
    assert data(engaging)["stage"] == "qualified"
    assert data(engaging)["customer"] == {"name": "Kappa", "country": "NO"}
    assert data(prospect)["stage"] == "prospect"
    assert prospect.time == datetime(2017, 3, 4, 0, 0, 1, tzinfo=UTC)


def test_commands_are_in_order_of_time_and_all_are_accepted() -> None:
    commands = planned().commands
    times = [command.time for command in commands if command.time]
    assert times == sorted(times)
    assert len(times) == len(commands) == 8
    fold = Fold().take(commands)
    assert not fold.refused
    statuses = {name: fold.states[aggregate_id("opportunity", "crm", name)].status for name in ("O1", "O2", "O3", "O4")}
    assert statuses == {"O1": "won", "O2": "lost", "O3": "open", "O4": "open"}


def test_twice_gives_the_same_commands_in_whatever_order_the_rows_stand() -> None:
    assert planned() == planned()
    head, *rows = PIPELINE.splitlines()
    turned = planned({**FILES, "sales_pipeline": "\n".join([head, *reversed(rows)])})
    assert set(turned.commands) == set(planned().commands)


# Bad rows: file, line, column, reason


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            changed("sales_pipeline", "GTXPro", "GTX Nope"),
            BadRow("sales_pipeline.csv", 2, "product", "no row of products.csv has the key 'GTX Nope'"),
        ),
        (
            changed("sales_pipeline", "O2,Bob Broker", "O2,Nobody"),
            BadRow("sales_pipeline.csv", 3, "sales_agent", "no row of sales_teams.csv has this key"),
        ),
        (
            changed("sales_pipeline", "O2,Bob Broker", "O2,"),
            BadRow("sales_pipeline.csv", 3, "sales_agent", "empty, but required"),
        ),
        (
            changed("sales_pipeline", "Engaging", "Dreaming"),
            BadRow("sales_pipeline.csv", 4, "deal_stage", "the translation stage does not know 'Dreaming'"),
        ),
        (
            changed("accounts", "Norway", "Atlantis"),
            BadRow("accounts.csv", 3, "office_location", "the translation country does not know 'Atlantis'"),
        ),
        (
            changed("sales_pipeline", "2017-02-01", "01.02.2017"),
            BadRow("sales_pipeline.csv", 4, "engage_date", "not a date written as %Y-%m-%d"),
        ),
        (
            changed("sales_pipeline", "2017-03-04,4514", ",4514"),
            BadRow("sales_pipeline.csv", 2, "close_date", "no date here, and the mapping gives no default"),
        ),
        (
            changed("sales_pipeline", "2017-03-04,4514", "2016-03-04,4514"),
            BadRow("sales_pipeline.csv", 2, "close_date", "win lies before the step that it follows"),
        ),
        (changed("sales_pipeline", "4514", "much"), BadRow("sales_pipeline.csv", 2, "close_value", "not a number")),
        (changed("sales_pipeline", "4514", "NaN"), BadRow("sales_pipeline.csv", 2, "close_value", "not a number")),
        (changed("sales_pipeline", "4514", ""), BadRow("sales_pipeline.csv", 2, "close_value", "empty, but required")),
        (
            changed("sales_pipeline", "4514", "4.514"),
            BadRow(
                "sales_pipeline.csv",
                2,
                "close_value",
                "prm.opportunity.win final_amount: more decimals than the currency has",
            ),
        ),
        (
            changed("sales_pipeline", "O2,", "O1,"),
            BadRow("sales_pipeline.csv", 3, "opportunity_id", "the key stands on line 2 already"),
        ),
        (changed("sales_pipeline", "O2,", ","), BadRow("sales_pipeline.csv", 3, "opportunity_id", "the key is empty")),
        (
            changed("sales_pipeline", "O3,", "O3,x,"),
            BadRow("sales_pipeline.csv", 4, "", "has 9 cells, the first line has 8"),
        ),
        (
            changed("sales_teams", "Mia Manager,West", "???,West"),
            BadRow("sales_teams.csv", 3, "manager", "has no letter or digit to make a name from"),
        ),
        (
            changed("products", "sales_price", "price"),
            BadRow("products.csv", 1, "price", "the mapping neither reads nor ignores this column"),
        ),
        (
            changed("sales_teams", "regional_office", "office"),
            BadRow("sales_teams.csv", 1, "regional_office", "the mapping reads this column, the file does not have it"),
        ),
        (
            changed("sales_teams", "sales_agent,manager", "sales_agent,sales_agent"),
            BadRow("sales_teams.csv", 1, "sales_agent", "this column stands twice"),
        ),
        ({**FILES, "products": ""}, BadRow("products.csv", 1, "", "has no columns")),
        (
            changed("sales_teams", "Ann Agent,", '"Ann,'),
            BadRow("sales_teams.csv", 2, "", "not CSV: unexpected end of data"),
        ),
    ],
)
def test_a_bad_row_is_reported_with_its_place(files: Mapping[str, str], expected: BadRow) -> None:
    assert expected in bad(files)


def test_a_key_too_long_for_an_id() -> None:
    long = "x" * 250 + "@x.example"
    people = PEOPLE.replace("bob@x.example", long)
    (row,) = bad({"people": people}, small(SMALL.replace("personal: [email, kind]", "personal: [kind]")))
    assert row == BadRow("people.csv", 3, "email", "the key makes an id that is not a text of 1 to 255 characters")
    assert planned({"people": people}, small()).commands


def test_all_bad_rows_are_reported_at_once_in_order() -> None:
    files = {
        **changed("sales_pipeline", "Engaging", "Dreaming"),
        "sales_teams": TEAMS.replace("Mia Manager,West", "???,West"),
    }
    files["sales_pipeline"] = files["sales_pipeline"].replace("4514", "much").replace("O2,", ",")
    assert [(row.file, row.line, row.column) for row in bad(files)] == [
        ("sales_pipeline.csv", 2, "close_value"),
        ("sales_pipeline.csv", 3, "opportunity_id"),
        ("sales_pipeline.csv", 4, "deal_stage"),
        ("sales_teams.csv", 3, "manager"),
    ]


def test_a_file_without_any_date_gives_no_default() -> None:
    files = changed("sales_pipeline", "2017-01-02", "")
    files["sales_pipeline"] = "\n".join([PIPELINE.splitlines()[0], "O4,Bob Broker,MG Special,,Prospecting,,,"])
    assert BadRow("sales_pipeline.csv", 0, "engage_date", "no date in this column to take the default from") in bad(
        files
    )


def test_lines_are_counted_over_cells_with_line_feeds_and_a_row_begins_at_its_first() -> None:
    table = parse_table('a,b\n"x\ny",1\n\nz,2\nw\n', "f.csv")
    assert [row.line for row in table.rows] == [2, 5]
    assert table.bad == (BadRow("f.csv", 6, "", "has 1 cells, the first line has 2"),)


def test_a_bad_row_reads_as_a_place_and_a_reason() -> None:
    assert str(BadRow("f.csv", 3, "c", "wrong")) == "f.csv:3: c: wrong"
    assert str(BadRow("f.csv", 0, "", "is missing")) == "f.csv: is missing"


# Reading


def test_files_are_read_with_or_without_a_byte_order_mark_and_missing_ones_are_named(tmp_path: Path) -> None:
    mapping = resolve("crm_export")
    for name, text in FILES.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8-sig")
    assert plan(mapping, read_tables(mapping, tmp_path)) == planned()
    (tmp_path / "products.csv").unlink()
    (tmp_path / "accounts.csv").write_bytes(b"account\nfine\n\xff\n")
    found = plan(mapping, read_tables(mapping, tmp_path)).bad
    assert BadRow("products.csv", 0, "", "No such file or directory") in found
    assert BadRow("accounts.csv", 3, "", "not UTF-8") in found


def test_a_mapping_is_named_or_given_by_its_path(tmp_path: Path) -> None:
    assert "crm_export" in shipped()
    own = tmp_path / "own.yaml"
    own.write_text(SMALL, encoding="utf-8")
    assert resolve(str(own)).name == "small"
    with pytest.raises(Usage, match=r"there is no mapping nope; shipped are: .*crm_export"):
        resolve("nope")
    with pytest.raises(Usage, match="No such file"):
        resolve(str(tmp_path / "nope.yaml"))


# Mappings of one's own

SMALL = """
name: small
version: 2
source: legacy
actor: bot
date_format: "%d/%m/%Y"
files:
  people: {file: people.csv, key: [email], personal: [email, kind]}
translations:
  kind: {values: {R: reseller}}
  tier: {others: leave_out, values: {A: gold}}
commands:
  - step: import
    file: people
    type: prm.partner.import
    id: [email]
    at: {column: since, default: 2020-02-03}
    fields:
      legal_name: {column: name, required: true}
      status: {constant: active}
      types.0: {column: kind, translate: kind}
      tier: {column: rank, translate: tier}
      capacity.open_leads: {column: leads, as: integer}
      agreement.reference: {column: contract}
      agreement.signed_on: {column: since, as: date, when: contract}
"""
PEOPLE = "email,name,kind,rank,leads,contract,since\nann@x.example,Ann,R,A,7,C1,31/12/2019\nbob@x.example,Bob,R,Z,,,\n"


def small(text: str = SMALL) -> CsvMapping:
    return parse(text, "small.yaml")


def test_integers_other_dates_conditions_default_dates_and_values_left_out() -> None:
    ann, bob = planned({"people": PEOPLE}, small()).commands
    assert data(ann) == {
        "legal_name": "Ann",
        "status": "active",
        "types": ["reseller"],
        "tier": "gold",
        "capacity": {"open_leads": 7},
        "agreement": {"reference": "C1", "signed_on": "2019-12-31"},
    }
    assert data(bob) == {"legal_name": "Bob", "status": "active", "types": ["reseller"]}
    assert bob.time == datetime(2020, 2, 3, tzinfo=UTC)
    assert bob.actor.on_behalf_of is None


def test_personal_values_stand_neither_in_ids_nor_in_reports() -> None:
    assert not [c for c in planned({"people": PEOPLE}, small()).commands if "@" in c.id]
    (row,) = bad({"people": PEOPLE.replace("Ann,R", "Ann,Secret")}, small())
    assert row == BadRow("people.csv", 2, "kind", "the translation kind does not know this value")
    (row,) = bad({"people": PEOPLE.replace(",7,", ",seven,")}, small())
    assert row == BadRow("people.csv", 2, "leads", "not a whole number")
    (row,) = bad({"people": PEOPLE.replace(",7,", ",-7,")}, small())
    assert row.column == "leads"
    assert "greater than or equal to 0" in row.reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("name: small", "nome: small", "nome: Extra inputs are not permitted"),
        ("translate: tier", "translate: rank", "no translation rank"),
        ("file: people\n", "file: folks\n", "no file folks"),
        ("prm.partner.import", "prm.partner.importe", "there is no command prm.partner.importe"),
        ("legal_name:", "illegal_name:", "prm.partner.import has no field illegal_name"),
        ("status: {constant: active}", "status: {}", "needs one of column, columns, constant, id"),
        ("as: integer", "as: money", "currency belongs to"),
        ("at: {column: since, default: 2020-02-03}", "at: {}", "needs a column or a default"),
        ("default: 2020-02-03", "default: {file: people}", "needs one of earliest, latest"),
        ("name: small", "name: [", "is not YAML"),
        ("version: 2", "version: 0", "version: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong(old: str, new: str, reason: str) -> None:
    assert old in SMALL
    with pytest.raises(Usage, match=r"small\.yaml") as raised:
        small(SMALL.replace(old, new))
    assert reason in str(raised.value)
