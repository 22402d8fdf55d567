"""Under what a company is looked for: what two spellings have in common is among it, and common words alone are not."""

from dataclasses import replace

import pytest

from prm_es.matching.identity import Record, identity_of
from prm_es.matching.keys import is_vague, key_of, keys_of

ONE = Record(name="Stiaclot Materiais Ltda", country="BR", city="Curitiba", postcode="80010-000")


def keys(record: Record) -> set[str]:
    return set(keys_of(identity_of(record)))


@pytest.mark.parametrize(
    "typed",
    ["Stiacolt Materiais", "Stiaclt Materiais", "Stiacloot Materiais", "Stioclot Materiais"],
    ids=["swapped", "left out", "doubled", "another"],
)
def test_a_slip_in_the_rarest_word_leaves_a_key_in_common_in_the_same_city(typed: str) -> None:
    bare = replace(ONE, postcode=None)
    here, elsewhere = (keys(bare) & keys(replace(bare, name=typed, city=city)) for city in ("Curitiba", "Manaus"))
    assert any(key.startswith("near:") for key in here)
    assert not any(key.startswith("near:") for key in elsewhere)


def test_a_slip_in_a_long_word_leaves_a_key_in_common_anywhere() -> None:
    one = Record(name="Stiaclotinex Ltda", city="Curitiba")
    assert keys(one) & keys(Record(name="Stiaclotniex"))


def test_a_name_of_common_words_is_looked_for_in_its_city_too() -> None:
    one, other = (Record(name=name, city="Curitiba") for name in ("Comércio Silva Santos", "Santos Comércio Alves"))
    common = keys(one) & keys(other)
    assert any(key.startswith("here:") and key.endswith(" curitiba") for key in common)
    assert not any(key.startswith("here:") for key in keys(ONE))


@pytest.mark.parametrize(
    ("name", "short", "city"),
    [
        ("International Business Machines", "IBM", None),
        ("Companhia Mineira de Cimentos Rurais", "CMCR", "Betim"),
        ("Serviço Social da Indústria", "SSI", "Betim"),
    ],
)
def test_a_name_is_found_by_its_initials(name: str, short: str, city: str | None) -> None:
    assert any(key.startswith("short:") for key in keys(Record(name=name, city=city)) & keys(Record(short, city=city)))


def test_three_initials_are_looked_for_in_one_city_too() -> None:
    name, short = "International Business Machines", "IBM"
    common = keys(Record(name, city="Betim")) & keys(Record(short, city="Betim"))
    assert common == {"short:ibm", "short:ibm betim"}
    assert keys(Record(name, city="Betim")) & keys(Record(short)) == {"short:ibm"}


def test_one_postcode_brings_two_together_whatever_their_names() -> None:
    assert keys(ONE) & keys(Record(name="Padaria Pomerode", postcode="80010000", country="BR"))


def test_the_digest_tells_which_keys_are_shared_by_chance() -> None:
    vague = {key.partition(":")[0] for key in keys(ONE) if is_vague(key_of(key))}
    assert vague == {"pair", "sound", "near"}
