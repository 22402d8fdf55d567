"""What two spellings of one name, address, phone or domain have in common once they are folded."""

import pytest

from prm_es.matching.folding import sound
from prm_es.matching.identity import (
    Record,
    address_of,
    city_of,
    domain_of,
    identity_of,
    mail_domain_of,
    name_of,
    phone_of,
)

SAME_NAMES = {
    "Portuguese, abbreviated": ("COM. DE ALIMENTOS SÃO JOÃO LTDA - ME", "Comércio de Alimentos Sao Joao Limitada"),
    "Portuguese, joint stock": ("Cia. Siderúrgica Nacional S/A", "COMPANHIA SIDERURGICA NACIONAL S.A."),
    "Portuguese, in recovery": ("Oi S.A. - Em Recuperação Judicial", "OI SA"),
    "Portuguese, sole trader's number": ("12.345.678 MARIA DE SOUZA", "Maria de Souza 98765432100"),
    "Spanish": ("Construcciones Hermanos Peña, S. de R.L. de C.V.", "CONST. HNOS. PENA"),
    "Spanish, joint stock": ("Grupo Éxito S.A.", "GRUPO EXITO SOCIEDAD ANONIMA"),
    "English": ("The Johnson & Johnson Company, Inc.", "Johnson and Johnson Co"),
    "English, contractions": ("First Nat'l Mfg. Bros., L.L.C.", "1st National Manufacturing Brothers LLC"),
    "English, .com": ("Amazon.com, Inc.", "AMAZON INC"),
    "English, possessive": ("Standard & Poor's", "Standard and Poors"),
    "German": ("Gebr. Müller Maschinenbau GmbH & Co. KG", "Gebrüder Muller Maschinenbau"),
    "German, glued": ("SiemensAG", "Siemens Aktiengesellschaft"),
    "French": ("Société Générale S.A.", "SOCIETE GENERALE"),
    "French, limited": ("Établissements L'Oréal S.A.R.L.", "SARL Etablissements LOreal"),
    "Italian": ("Fratelli Rossi S.p.A.", "F.lli Rossi SpA"),
    "Polish": ("Faberlic Sp. z o.o.", "FABERLIC SPOLKA Z OGRANICZONA ODPOWIEDZIALNOSCIA"),
    "Romanian": ("Societatea cu Răspundere Limitată PRO TRAFFIC", "SRL PRO TRAFFIC"),
    "Russian": ('Общество с ограниченной ответственностью "Байкал"', "OOO Baykal"),
    "Japanese": ("株式会社ソニー", "ソニー"),
    "Korean": ("삼성전자주식회사", "삼성전자"),
    "Chinese": ("北京小米科技有限责任公司", "北京小米科技"),
    "initials": ("J. P. Morgan", "JP Morgan"),
    "numbers in words": ("Brigade Forty-Four", "Brigade 44"),
    "Roman numerals": ("Residencial Parque SPE II Ltda", "Residencial Parque SPE 2"),
    "glued number": ("Loteamento SPE03", "LOTEAMENTO SPE 3"),
    "order of the words": ("Padaria Estrela do Sul", "Estrela do Sul Padaria"),
    "legal form first": ("JSC Gazprom", "Gazprom Open Joint Stock Company"),
}


@pytest.mark.parametrize("pair", SAME_NAMES.values(), ids=SAME_NAMES)
def test_two_spellings_of_one_name_fold_to_the_same(pair: tuple[str, str]) -> None:
    one, other = map(name_of, pair)
    assert one.sorted == other.sorted


OTHER_NAMES = {
    "numbers": ("Vista Verde SPE 3 Ltda", "Vista Verde SPE 4 Ltda"),
    "Roman numerals": ("Blackstone Partners V", "Blackstone Partners VI"),
    "countries": ("Bowne (Spain) S.L.", "Bowne (Sweden) AB"),
    "one letter": ("BAE Industries", "BWI Industries"),
}


@pytest.mark.parametrize("pair", OTHER_NAMES.values(), ids=OTHER_NAMES)
def test_names_of_two_companies_stay_apart(pair: tuple[str, str]) -> None:
    one, other = map(name_of, pair)
    assert one.sorted != other.sorted


def test_a_name_made_of_legal_forms_alone_keeps_a_word() -> None:
    assert name_of("S.A. Ltda").tokens
    assert name_of("Me").tokens == ("me",)
    assert name_of("!!!").tokens == ()


def test_kinds_of_legal_form_are_known_apart_from_the_name() -> None:
    assert name_of("Deutsche Bank AG").forms == {"stock"}
    assert name_of("Deutsche Bank GmbH").forms == {"limited"}


SAME_ADDRESSES = {
    "Brazil": ("Av. Pres. Vargas, 1234 - sala 501, Centro", "AVENIDA PRESIDENTE VARGAS 1234"),
    "Brazil, a date for a street": ("Rua 25 de Março, 100 loja 2", "R. 25 de Marco, 100"),
    "United States": ("Suite 900, 1450 N City Rd", "1450 N City Road, Ste 900"),
    "Germany": ("Hardenbergstraße 87", "Hardenbergstrasse 87"),
    "France": ("12, rue du Général de Gaulle", "12 RUE DU GAL DE GAULLE"),
    "Spain": ("C/ Mayor, 5, 2º izq.", "Calle Mayor 5"),
}


@pytest.mark.parametrize("pair", SAME_ADDRESSES.values(), ids=SAME_ADDRESSES)
def test_two_spellings_of_one_address_have_one_key(pair: tuple[str, str]) -> None:
    one, other = map(address_of, pair)
    assert one is not None
    assert other is not None
    assert one.key == other.key


def test_what_is_inside_the_building_is_apart_from_its_number() -> None:
    address = address_of("Rua Augusta, 1500, conjunto 42")
    assert address is not None
    assert (address.number, address.unit) == ("1500", frozenset({"42"}))


@pytest.mark.parametrize(
    ("text", "country", "expected"),
    [
        ("(11) 98765-4321", "BR", "+5511987654321"),
        ("011 8765-4321", "BR", "+5511987654321"),
        ("+55 11 3003 1000", None, "+551130031000"),
        ("0049 30 901820", None, "+4930901820"),
        ("(702) 919-1300", "US", "+17029191300"),
        ("702-919-1300", None, "?7029191300"),
        ("000000000", "BR", None),
        ("190", "BR", None),
    ],
)
def test_phones_are_read_by_the_country(text: str, country: str | None, expected: str | None) -> None:
    assert phone_of(text, country) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://www.loja.acme.com.br/contato?x=1", "acme.com.br"),
        ("ACME.co.uk", "acme.co.uk"),
        ("facebook.com/acme", None),
        ("acme.github.io", "acme.github.io"),
        ("localhost", None),
    ],
)
def test_domains_are_cut_at_the_public_suffix(text: str, expected: str | None) -> None:
    assert domain_of(text) == expected


def test_letter_boxes_that_anybody_may_have_say_nothing_of_the_company() -> None:
    assert mail_domain_of("joao@gmail.com") is None
    assert mail_domain_of("joao@mailinator.com") is None
    assert mail_domain_of("joao@acme.com.br") == "acme.com.br"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("São José dos Campos - SP", "S. Jose Campos/SP"),
        ("SAO PAULO SP", "São Paulo"),
        ("Washington, D.C.", "Washington DC"),
        ("New York City", "Nova Iorque"),
        ("St. Louis", "Saint Louis"),
        ("Paris 8e arrondissement", "PARIS CEDEX 08"),
        ("1050 Bruxelles", "Brussels"),
        ("Köln", "Cologne"),
        ("Muenchen", "München"),
        ("Ciudad de México", "Mexico City"),
        ("Frankfurt am Main", "Frankfurt/Main"),
        ("The Hague", "'s-Gravenhage"),
        ("東京都", "Tokyo"),
        ("Москва", "Moscow"),
    ],
)
def test_cities_are_known_in_other_languages_and_lose_their_state_district_and_small_words(
    one: str, other: str
) -> None:
    assert city_of(one) == city_of(other) is not None


@pytest.mark.parametrize(
    ("one", "other"), [("Salvador", "San Salvador"), ("Porto", "Porto Alegre"), ("Vienne", "Wien")]
)
def test_cities_that_only_sound_like_it_stay_two(one: str, other: str) -> None:
    assert city_of(one) != city_of(other)


def test_words_that_sound_alike_share_a_form() -> None:
    assert sound("phoenix") == sound("fenix")
    assert sound("souza") == sound("sousa")
    assert sound("walter") != sound("weber")


def test_a_record_without_anything_folds_to_nothing() -> None:
    empty = identity_of(Record(name="  ", address="-", phones=("1",), domains=("x",), emails=("nobody",)))
    assert (empty.names, empty.address, empty.phones, empty.domains, empty.emails) == ((), None, *[frozenset()] * 3)
