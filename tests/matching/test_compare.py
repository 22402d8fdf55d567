"""How strongly two records match, and what each reader is told of it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import ValidationError

from prm_es.aggregates.fields import Customer, TaxId, record_of
from prm_es.matching.compare import Match, Strength, compare
from prm_es.matching.frequencies import Counted, Frequencies, General
from prm_es.matching.identity import Record, identity_of
from prm_es.matching.sentence import sentence
from prm_es.matching.weights import Weights, default

ACME = Record(
    name="Metalúrgica Zanqueta Ltda",
    country="BR",
    city="Joinville",
    address="Rua Blumenau, 120",
    postcode="89204-250",
    phones=("(47) 3433-1200",),
    domains=("zanqueta.com.br",),
)
MARIANA = Record(
    name="Mariana Tomazoni", country="BR", city="Joinville", address="Rua Blumenau, 120", postcode="89204-250"
)


def match(one: Record, other: Record, facts: Frequencies | None = None) -> Match:
    return compare(identity_of(one), identity_of(other), facts or General(), default())


def registered(name: str, cnpj: str) -> Record:
    return record_of(Customer(name=name, tax_ids=(TaxId(country="BR", value=cnpj, kind="cnpj"),)), "root")


def test_a_common_tax_root_is_hard_whatever_else_differs() -> None:
    ids = (
        TaxId(country="BR", value="12ABC34501DE35", kind="cnpj"),
        TaxId(country="BR", value="12ABC34500DE99", kind="cnpj"),
    )
    one, other = (
        record_of(Customer(name=name, tax_ids=(tax_id,)), "root") for name, tax_id in zip(("A", "B"), ids, strict=True)
    )
    found = match(one, other)
    assert (found.strength, found.score, found.keys) == (Strength.HARD, 1.0, ("tax:BR:cnpj:12ABC345",))
    assert sentence(found, earlier_by=timedelta(minutes=41)) == "same tax id; registered 41 minutes earlier"


def test_another_spelling_with_the_same_phone_is_probable() -> None:
    other = replace(ACME, name="ZANQUETTA METALURGICA", address=None, domains=(), postcode=None)
    assert match(ACME, other).strength is Strength.PROBABLE


def test_two_spellings_of_a_person_at_one_home_are_probable() -> None:
    other = Record(
        name="TOMAZONI MARIANNA", country="BR", city="JOINVILE", address="R. Blumenau 120", postcode="89204-205"
    )
    for one in (other, replace(MARIANA, name="M. Tomazoni"), replace(MARIANA, name="Mariana Pereira")):
        assert match(MARIANA, one).strength is Strength.PROBABLE


def test_a_home_says_more_of_a_person_than_an_address_of_a_company() -> None:
    def moved(one: Record) -> Match:
        there = replace(one, city="Manaus", address="Avenida Djalma Batista, 45", postcode="69050-010")
        return match(one, there)

    for name in ("Mariana Tomazoni", "Maria Silva"):
        assert moved(replace(MARIANA, name=name)).strength is not Strength.PROBABLE
    assert moved(replace(MARIANA, name="Tomazoni Zanqueta Ltda")).score > moved(MARIANA).score


@pytest.mark.parametrize("phones", [(), ("(47) 3433-1200",)])
@pytest.mark.parametrize("names", [("Mariana Tomazoni", "Ricardo Tomazoni"), ("Maria Silva", "José Silva")])
def test_two_of_a_household_are_for_review_and_not_probable(names: tuple[str, str], phones: tuple[str, ...]) -> None:
    one, other = (replace(MARIANA, name=name, phones=phones) for name in names)
    assert match(one, other).strength is Strength.POSSIBLE


def test_an_identical_rare_name_is_enough_for_review() -> None:
    other = Record(name="METALURGICA ZANQUETA LTDA", country="BR", city="Manaus", phones=("92 3622-1000",))
    assert match(ACME, other).strength in {Strength.PROBABLE, Strength.POSSIBLE}


def test_an_identical_common_name_elsewhere_is_not() -> None:
    one = Record(name="Auto Center Silva Ltda", country="BR", city="Joinville")
    assert match(one, replace(one, city="Manaus")).score < match(ACME, replace(ACME, city="Manaus")).score


def test_an_identical_name_that_many_have_is_not_either() -> None:
    one = Record(name="Metalúrgica Zanqueta Ltda", country="BR", city="Joinville", phones=("(47) 3433-1200",))
    other = Record(name="METALURGICA ZANQUETA", country="BR", city="Manaus", phones=("92 3622-1000",))
    few, many = (Counted([identity_of(replace(one, city=f"City {n}")) for n in range(size)]) for size in (5, 15))
    assert match(one, other, few).strength is Strength.POSSIBLE
    assert match(one, other, many).strength not in {Strength.PROBABLE, Strength.POSSIBLE}


def test_another_number_in_the_name_speaks_against() -> None:
    one = replace(ACME, name="Loteamento Zanqueta 115 SPE Ltda")
    assert match(one, replace(one, name="Loteamento Zanqueta 116 SPE Ltda")).strength is Strength.RELATED


def test_what_many_share_says_less() -> None:
    other = replace(ACME, name="Zanqueta Usinagem", domains=(), address=None, postcode=None)
    many = Counted([identity_of(replace(ACME, name=f"Empresa {n}")) for n in range(60)])
    assert match(ACME, other, many).score < match(ACME, other).score


def test_neighbours_with_other_names_are_related_and_no_more() -> None:
    found = match(ACME, replace(ACME, name="Padaria Pomerode Ltda", domains=()))
    assert found.strength is Strength.RELATED


def test_two_shops_of_one_trade_in_a_town_do_not_match() -> None:
    one = Record(name="Vexatron Comércio de Tintas Ltda", country="BR", city="Pelotas")
    found = match(one, replace(one, name="Kolbrivast Comércio de Tintas Ltda"))
    assert found.strength is Strength.NONE


def test_two_shops_of_one_trade_in_a_town_do_not_match_either_if_their_own_words_are_no_rare_ones() -> None:
    one, other = (Record(name=f"{word} Paper Inc.", country="US", city="Boise") for word in ("Heron", "Everglade"))
    many = Counted([identity_of(replace(each, city=f"City {n}")) for each in (one, other) for n in range(6)])
    assert match(one, other, many).strength not in {Strength.PROBABLE, Strength.POSSIBLE}


def test_initials_alone_are_for_review() -> None:
    found = match(Record(name="International Business Machines Corp."), Record(name="IBM"))
    assert found.strength is Strength.POSSIBLE
    assert sentence(found) == "one name is the other's initials"


def test_a_word_that_many_have_relates_two_in_one_city_and_not_elsewhere() -> None:
    one = Record(name="Boreal Hotels Inc.", country="US", city="Boise")
    sister = replace(one, name="Boreal Ceramics Inc.")
    many = Counted([identity_of(replace(one, name=f"Boreal {n}")) for n in range(5)])
    assert match(one, sister, many).strength is Strength.RELATED
    assert match(one, replace(sister, city="Portland"), many).strength is Strength.NONE
    assert match(one, replace(sister, city="Portland")).strength is Strength.RELATED


def test_a_word_that_is_only_like_the_others_makes_no_house() -> None:
    one = Record(name="Zanqueta Turismo Ltda", country="BR", city="Joinville")
    same, like = (Record(name=f"{word} Saúde S.A.", country="BR", city="Manaus") for word in ("Zanqueta", "Zonquita"))
    assert match(one, same).strength is Strength.RELATED
    assert match(one, like).strength is Strength.NONE


def test_common_words_alone_are_no_match_for_a_company_with_a_word_of_its_own() -> None:
    one = Record(name="Comércio Carvalho Silva e Transportes", country="BR", city="Curitiba")
    other = replace(one, name="Zanqueta Silva & Carvalho Transportes Ltda")
    assert match(one, replace(one, name="Silva Carvalho Transportes e Com. ME")).strength is Strength.PROBABLE
    assert default().possible < match(one, other).score < default().probable
    assert match(one, other).strength not in {Strength.PROBABLE, Strength.POSSIBLE}


def test_a_name_that_stands_twice_in_one_spelling_is_the_same_name() -> None:
    one, other = (identity_of(Record(name=name)).names[0] for name in ("Silva & Silva Gráfica", "Gráfica Silva Ltda"))
    assert one.sorted == other.sorted


def test_strangers_do_not_match() -> None:
    found = match(ACME, Record(name="Padaria Pomerode", country="BR", city="Recife"))
    assert found.strength is Strength.NONE
    assert sentence(found, vendor=False) == "no match"


def test_a_match_is_the_same_from_both_sides() -> None:
    other = Record(name="Zanqueta Metalurgica e Usinagem", city="Joinvile", phones=("47 3433-1200",))
    assert match(ACME, other) == match(other, ACME)


def test_no_sentence_or_key_shows_a_name_phone_or_address() -> None:
    found = match(ACME, replace(ACME, name="Zanqueta Metal"))
    said = " ".join((sentence(found), sentence(found, vendor=False), *found.keys))
    assert "zanqueta " not in said.lower()
    assert "3433" not in said
    assert "blumenau" not in said.lower()


def test_a_partner_does_not_read_when_the_rival_came() -> None:
    found = match(ACME, ACME)
    assert "earlier" in sentence(found, earlier_by=timedelta(hours=2))
    assert "earlier" not in sentence(found, earlier_by=timedelta(hours=2), vendor=False)


def test_weights_that_turn_evidence_round_are_refused() -> None:
    given = default().model_dump()
    with pytest.raises(ValidationError, match="sign is wrong"):
        Weights.model_validate({**given, "evidence": {"name_same": -1}})
    with pytest.raises(ValidationError, match="no such evidence"):
        Weights.model_validate({**given, "evidence": {"shoe_size": 1}})
