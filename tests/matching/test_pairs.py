"""Files of pairs are read whatever their fields are called, scored with reasons, and weights fitted to them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prm_es import fitting
from prm_es.cli import app
from prm_es.errors import Usage
from prm_es.matching.compare import Strength
from prm_es.matching.identity import Record
from prm_es.matching.weights import default
from prm_es.pairs import GivenPair, country_of, pair_of, read_pairs

ACME = {"name": "Acme Metalúrgica Ltda", "city": "Joinville", "phone": "(47) 3433-1200", "country": "Brazil"}
OTHER = {"name": "ACME METALURGICA", "city": "JOINVILLE"}


@pytest.mark.parametrize(
    "line",
    [
        {"left": ACME, "right": OTHER, "label": True},
        {"a": ACME, "b": OTHER, "match": 1},
        {"records": [ACME, OTHER], "is_match": "true"},
        [ACME, OTHER, "1"],
        {
            "name_left": ACME["name"],
            "name_right": OTHER["name"],
            "city_left": "Joinville",
            "city_right": "Joinville",
            "label": 1.0,
        },
        {"left_name": ACME["name"], "right_name": OTHER["name"], "same": "yes"},
        {"name1": ACME["name"], "name2": OTHER["name"], "y": None, "target": "match"},
        {"Name_x": ACME["name"], "Name_y": OTHER["name"], "Targets": 1},
    ],
)
def test_two_records_are_found_however_the_line_names_them(line: object) -> None:
    found = pair_of(line)
    assert (found.left.name, found.right.name, found.same) == (ACME["name"], OTHER["name"], True)


def test_fields_are_known_by_many_names() -> None:
    given = {
        "razao_social": "Acme SA",
        "Nome Fantasia": "Acme",
        "CNPJ": "11.222.333/0001-81",
        "logradouro": "Rua A",
        "numero": 12,
        "CEP": "01000-000",
        "municipio": "Campinas",
        "uf": "SP",
        "telefone": ["19 3232-1000", None],
        "e-mail": "a@acme.com.br",
        "site": "acme.com.br",
        "pais": "Brasil",
        "shoe_size": 44,
    }
    assert pair_of({"left": given, "right": given}).left == Record(
        name="Acme SA",
        trade_name="Acme",
        keys=("tax:BR:cnpj:11222333",),
        country="BR",
        state="SP",
        city="Campinas",
        address="Rua A, 12",
        postcode="01000-000",
        phones=("19 3232-1000",),
        emails=("a@acme.com.br",),
        domains=("acme.com.br",),
    )


def test_an_address_may_be_an_object_of_its_own() -> None:
    one = {"name": "Acme", "address": {"street": "Main St", "number": "5", "zip": "12345", "city": "Austin"}}
    found = pair_of([one, one]).left
    assert (found.address, found.postcode, found.city) == ("Main St, 5", "12345", "Austin")


@pytest.mark.parametrize(
    ("text", "code"), [("BRA", "BR"), ("Alemanha", "DE"), ("uk", "GB"), ("Mexico", "MX"), ("?", None)]
)
def test_countries_are_known_by_codes_and_names(text: str, code: str | None) -> None:
    assert country_of(text) == code


@pytest.mark.parametrize("line", ["{", "[]", '{"left": {}}', '{"left": {}, "right": {}, "label": "perhaps"}', "3"])
def test_a_line_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(Usage, match=r"pairs.jsonl: line 2: "):
        list(read_pairs(["", line], "pairs.jsonl"))


def test_a_pair_is_read_as_it_is_written() -> None:
    pair = GivenPair(Record(name="Acme", phones=("1", "2")), Record(name="B", city="C", domains=("b.com",)), same=False)
    assert pair_of(json.loads(json.dumps(pair.line()))) == pair


NAMES = ("Zanqueta", "Pomerode", "Bravalt", "Quixeral", "Tomazoni", "Wizenhut", "Farrukh", "Odebrand")


def made_pairs() -> list[GivenPair]:
    same = [GivenPair(Record(name=f"{name} Ltda"), Record(name=name.upper()), same=True) for name in NAMES]
    other = [GivenPair(Record(name=a), Record(name=b), same=False) for a in NAMES for b in NAMES if a < b]
    return same + other


def test_fitted_weights_tell_the_pairs_apart_that_they_were_fitted_to() -> None:
    pytest.importorskip("scipy")
    given = fitting.known(made_pairs())
    weights = fitting.fit(given, 3)
    found = fitting.scored(given, weights)
    assert weights.version == 3
    assert {one.match.strength for one in found if one.pair.same} == {Strength.PROBABLE}
    assert not any(one.match.strength is Strength.PROBABLE for one in found if not one.pair.same)


def test_persons_get_weights_of_their_own() -> None:
    pytest.importorskip("scipy")
    persons = [Record(name=f"Ana {name}", postcode=f"{1000 + 77 * place}") for place, name in enumerate(NAMES)]
    at_home = [GivenPair(one, other, same=one == other) for one in persons for other in persons]
    given = fitting.known(made_pairs())
    weights = fitting.fit(given, 3, fitting.known(at_home))
    assert weights.persons
    assert weights.model_copy(update={"persons": None}) == fitting.fit(given, 3)


def test_persons_without_a_home_cannot_be_fitted_to() -> None:
    pytest.importorskip("scipy")
    given = fitting.known(made_pairs())
    with pytest.raises(Usage, match="with their homes"):
        fitting.fit(given, 3, given)


def test_written_weights_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "weights.yaml"
    path.write_text(fitting.as_yaml(default()), encoding="utf-8")
    assert fitting.weights_in(path) == default()


def test_f1_is_taken_at_its_best_threshold_and_never_between_equal_scores() -> None:
    top = fitting.best([0.9, 0.8, 0.8, 0.1], [True, True, False, False])
    assert (top.threshold, top.precision, top.recall) == (0.8, 2 / 3, 1.0)


def test_pairs_are_scored_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(pair.line()) for pair in made_pairs()), encoding="utf-8")
    done = CliRunner().invoke(app, ["match", "score", str(path), "--format", "json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["strength"] for row in rows[:8]] == ["probable"] * 8
    assert "same name" in rows[0]["sentence"]


def test_fitting_refuses_pairs_of_one_kind() -> None:
    with pytest.raises(Usage, match="both kinds"):
        fitting.labelled(made_pairs()[:8])
