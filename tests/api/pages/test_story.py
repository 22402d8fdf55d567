"""Events are told in words, and no more of them than who reads may know."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from prm_es.api.pages.language import Reader
from prm_es.api.pages.story import Entry, entry, known_facts

EN, PT = (Reader(language, ZoneInfo("UTC")) for language in ("en", "pt_BR"))
AT = datetime(2026, 11, 27, 9, tzinfo=UTC)


def told(kind: str, *, reader: Reader = EN, vendor: bool = True, **data: Any) -> Entry:
    return entry(kind, data, at=AT, by="ana", reader=reader, vendor=vendor)


def test_a_change_of_stage_says_from_where_to_where_and_what_is_next() -> None:
    action = {"text": "Send the offer", "due_on": "2026-12-01"}
    one = told("opportunity.stage_changed", previous="prospect", stage="qualified", next_action=action)
    assert one.said == "Prospect → Qualified\nNext action: Send the offer (Dec 1, 2026)"


def test_a_rejection_says_its_reason_and_its_note() -> None:
    one = told("lead.rejected", reader=PT, reason="outside_territory", note="Fale com a Ana")
    assert (one.what, one.said, one.tone) == ("Rejeitado", "Fora do território\nFale com a Ana", "late")


def test_what_was_forgotten_leaves_no_trace_of_its_words() -> None:
    assert told("lead.commented", text=None).said == ""
    action = {"text": None, "due_on": "2026-12-01"}
    assert "(forgotten)" in told("lead.accepted", next_action=action, protected_until=AT.isoformat()).said


def test_a_partner_reads_no_reason_that_may_speak_of_others() -> None:
    for kind in ("lead.transferred", "lead.match_resolved", "lead.recalled"):
        assert "Rival" not in told(kind, vendor=False, reason="Rival Ltda was first", note="Rival Ltda").said
        assert "Rival" in told(kind, reason="Rival Ltda was first").said


def test_a_partner_is_not_told_how_many_others_there_are() -> None:
    matches = [{"lead_id": "x", "matched_keys": ["tax:BR:cnpj:1"]}]
    assert told("lead.screened", vendor=False, clear=False, matches=matches).said == ""
    assert told("lead.screened", clear=False, matches=matches).said.endswith(": 1")


def test_fields_that_nobody_named_are_never_shown() -> None:
    assert "secret" not in told("lead.approved", protected_until=AT.isoformat(), another="secret").said


def test_amounts_and_days_are_written_in_the_readers_language() -> None:
    changed = told("opportunity.amount_changed", reader=PT, previous=None, amount={"amount": "1500", "currency": "BRL"})
    assert changed.said == "– → R$\u00a01.500"  # noqa: RUF001


def test_an_internal_comment_is_marked() -> None:
    assert told("lead.commented", text="Careful", visibility="internal").internal


def test_an_event_without_words_is_named_all_the_same() -> None:
    assert told("lead.sung_about").what == "Sung about"


def test_what_is_known_comes_from_what_was_said_at_the_beginning() -> None:
    data = {
        "customer": {"name": "Lojas Sul", "tax_ids": [{"value": "11222333000181"}], "domains": ["sul.example"]},
        "contact": {"name": "Bia", "email": None},
        "business_problem": "Old stock counts",
    }
    assert dict(known_facts(data, EN)) == {
        "Contact": "Bia",
        "Tax id": "11222333000181",
        "Web domain": "sul.example",
        "Business problem": "Old stock counts",
    }
