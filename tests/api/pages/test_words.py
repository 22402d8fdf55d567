"""Every text has its words in every language, and every code of the domain has its word."""

import re
from typing import Any, get_args

import pytest

from prm_es.aggregates import catalogue, lead_messages, opportunity
from prm_es.api.pages.language import LANGUAGES
from prm_es.api.pages.refusals import SENTENCES
from prm_es.api.pages.story import HAPPENED
from prm_es.api.pages.words import CODES, TONES
from prm_es.messages import Role
from tests.api import catalogues

SOURCES = catalogues.PAGES.parents[1]
PLACES = re.compile(r"%\((\w+)\)")


@pytest.mark.parametrize("language", catalogues.LANGUAGES)
def test_every_text_is_translated_and_none_is_left_over(language: str) -> None:
    known = dict(catalogues.known(language))
    assert set(known) == catalogues.texts()
    assert [text for text, words in known.items() if not all(words)] == []


@pytest.mark.parametrize("language", catalogues.LANGUAGES)
def test_translations_keep_the_places_of_what_is_filled_in(language: str) -> None:
    for text, said in catalogues.known(language):
        for one, words in zip([text] if isinstance(text, str) else text, said, strict=True):
            assert sorted(PLACES.findall(one)) == sorted(PLACES.findall(words)), one


def test_every_language_that_is_offered_has_a_catalogue() -> None:
    assert set(LANGUAGES) == {"en", *catalogues.LANGUAGES}


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        ("stage", get_args(opportunity.Stage)),
        ("lost_reason", get_args(opportunity.LostReason)),
        ("deal_type", get_args(opportunity.DealType)),
        ("activity", get_args(opportunity.ActivityKind)),
        ("help_topic", get_args(opportunity.HelpTopic)),
        ("reject_reason", get_args(lead_messages.RejectReason)),
        ("decline_reason", get_args(lead_messages.DeclineReason)),
        ("disqualify_reason", get_args(lead_messages.DisqualifyReason)),
        ("outcome", get_args(lead_messages.Outcome)),
        ("detail", get_args(lead_messages.DetailName)),
        ("role", tuple(Role)),
    ],
)
def test_every_code_has_a_word(kind: str, codes: Any) -> None:
    assert set(codes) <= set(CODES[kind])


def test_tones_are_of_codes_that_there_are() -> None:
    assert all(set(tones) <= set(CODES[kind]) for kind, tones in TONES.items())


def test_every_event_of_leads_and_opportunities_has_words() -> None:
    types = {name.removeprefix(catalogue.PREFIX).rpartition(".")[0] for name in catalogue.EVENTS}
    assert {name for name in types if not name.startswith(("partner.", "person.", "policy."))} == set(HAPPENED)


def test_sentences_are_of_refusals_that_there_are() -> None:
    sources = "".join(path.read_text() for path in SOURCES.rglob("*.py") if path.name != "refusals.py")
    assert [code for code in SENTENCES if f'"{code}"' not in sources] == []
