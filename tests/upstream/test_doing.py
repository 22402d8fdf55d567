"""Words of the command line become one command; what became of it becomes words again."""

import json
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from prm_es.consumers.commands import work
from prm_es.errors import Usage
from prm_es.messages import Actor, Role, aggregate_id
from prm_es.settings import Settings
from prm_es.upstream.doing import Given, actor_of, command, data_of, in_words, subject_of, wire_of
from prm_es.upstream.sending import send_one
from tests.support import today

OPEN = "prm.opportunity.open"
MANAGER = Actor("ana", Role.CHANNEL_MANAGER)


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (["name=Stock counts"], {"name": "Stock counts"}),
        (["name=a=b"], {"name": "a=b"}),
        (["name="], {"name": ""}),
        (["name=12"], {"name": "12"}),
        (["name=null"], {"name": None}),
        (['name="null"'], {"name": "null"}),
        (["customer.name=Lojas Sul", "customer.country=BR"], {"customer": {"name": "Lojas Sul", "country": "BR"}}),
        (['amount={"amount":"10","currency":"USD"}'], {"amount": {"amount": "10", "currency": "USD"}}),
        (["amount.amount=10", "amount.currency=USD"], {"amount": {"amount": "10", "currency": "USD"}}),
        (["competitors=[]"], {"competitors": []}),
        (["competitors[]=A", "competitors[]=B"], {"competitors": ["A", "B"]}),
        (["competitors[1]=B", "competitors[0]=A"], {"competitors": ["A", "B"]}),
        (["products[0].line=pos", "products[0].quantity=2"], {"products": [{"line": "pos", "quantity": 2}]}),
        (["products.0.line=pos", "products.1.line=erp"], {"products": [{"line": "pos"}, {"line": "erp"}]}),
    ],
)
def test_words_become_data(words: list[str], data: dict[str, Any]) -> None:
    found = data_of(OPEN, words)
    if "products" in data and "quantity" in data["products"][0]:
        found["products"][0]["quantity"] = int(found["products"][0]["quantity"])
    assert found == data


def test_a_number_stays_text_only_where_text_is_taken() -> None:
    assert data_of("prm.partner.set_capacity", ["open_leads=5"]) == {"open_leads": 5}
    assert data_of("prm.partner.set_capacity", ["open_leads=many"]) == {"open_leads": "many"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["name"], "name is not key=value"),
        (["=x"], "=x is not key=value"),
        (["name=a", "name=b"], "name is given twice"),
        (["amount=10", "amount.currency=USD"], "amount.currency is given twice"),
        (["amount.currency=USD", "amount={}"], "amount is given twice"),
        (["a..b=1"], "a..b: a part of the key is empty"),
        (["a[=1"], r"a\[: an index is written"),
        (["competitors[1]=B"], "competitors: the items of a list are numbered from 0"),
        (["competitors[99999]=B"], "an index is below"),
        (["amount={1"], "amount: begins as JSON but is none"),
        (["a.b=1", "a[0]=2"], "a: the items of a list"),
    ],
)
def test_what_cannot_be_read_is_said(words: list[str], reason: str) -> None:
    with pytest.raises(Usage, match=reason):
        data_of(OPEN, words)


def test_the_type_may_leave_out_the_prefix_and_a_slip_shows_what_is_near() -> None:
    assert wire_of("opportunity.win") == wire_of("prm.opportunity.win") == "prm.opportunity.win"
    with pytest.raises(Usage, match=r"opportunity\.win"):
        wire_of("oportunity.wim")
    with pytest.raises(Usage, match=r"partner\.approve"):
        wire_of("partner.xxxxxxxxxxxxxxxxxxx")


def test_who_asks() -> None:
    partner = str(uuid4())
    assert actor_of("ana:channel_manager") == MANAGER
    assert actor_of(f"rita:partner_rep:{partner}") == Actor("rita", Role.PARTNER_REP, partner)
    for wrong in ("", ":seller", "ana", "ana:boss", "rita:partner_rep", "rita:partner_rep:acme"):
        with pytest.raises(Usage, match="--as"):
            actor_of(wrong)


def test_which_aggregate() -> None:
    id_ = uuid4()
    assert subject_of(OPEN, str(id_), None) == id_
    assert subject_of(OPEN, None, "crm:1C:7") == aggregate_id("opportunity", "crm", "1C:7")
    assert subject_of(OPEN, "new", None) != subject_of(OPEN, "new", None)
    for subject, external in ((None, None), ("new", "crm:1"), ("x", None), (None, "crm"), (None, ":x")):
        with pytest.raises(Usage, match=r"--subject|--external"):
            subject_of(OPEN, subject, external)


def test_wrong_attributes_are_said_before_anything_is_sent() -> None:
    for given in (Given(time="soon"), Given(id=" "), Given(expected_version=-1), Given(on_behalf_of="x" * 300)):
        with pytest.raises(Usage, match="must"):
            command(OPEN, uuid4(), MANAGER, [], given)


@pytest.fixture(scope="module")
def handled(migrated: Settings) -> Iterator[Settings]:
    stop = threading.Event()
    handler = threading.Thread(target=work, args=(migrated, stop))
    handler.start()
    yield migrated
    stop.set()
    handler.join()


def test_an_opportunity_from_words(handled: Settings) -> None:
    def done(name: str, subject: UUID, actor: str, *words: str, **given: Any) -> tuple[dict[str, Any], list[str]]:
        sent = command(wire_of(name), subject, actor_of(actor), words, Given(**given))
        outcome = send_one(handled, sent, 30)
        return outcome, list(in_words(sent, outcome))

    by, deal = uuid4(), uuid4()
    words = ["legal_name=Acme", "country=BR", "types[]=reseller", "status=active"]
    outcome, said = done(
        "partner.import", by, "crm:integration", *words, time="2026-01-02T03:04:05Z", on_behalf_of="jo"
    )
    assert outcome["outcome"] == "accepted"
    assert said == [f"accepted: import; partner {by} is at version 1", "  position 1: imported"]
    opening = [
        f"partner_id={by}", "name=Stock counts", "customer.name=Lojas Sul", "deal_type=new",
        "next_action.text=Call", f"next_action.due_on={today(7)}", "amount.amount=10.50", "amount.currency=USD",
    ]  # fmt: skip
    outcome, said = done("opportunity.open", deal, f"rita:partner_rep:{by}", *opening, id="open-1")
    assert said[0].startswith("accepted: open;")
    again, _said = done("opportunity.open", deal, f"rita:partner_rep:{by}", *opening, id="open-1")
    assert again == outcome
    outcome, said = done("opportunity.comment", deal, "ana:channel_manager", "text=1", "loud=true")
    assert outcome["code"] == "command.invalid"
    assert said[-1] == "  loud: is not a field of this command (extra_forbidden)"
    _outcome, said = done("opportunity.comment", deal, "ana:channel_manager", "text=1", expected_version=7)
    (line,) = said
    assert line.startswith(f"refused: comment of opportunity {deal}: version 7 was expected")
    assert line.endswith("(aggregate.version_conflict)")
    dead = {"outcome": "dead_lettered", "code": "command.failed", "message": "a defect"}
    sent = command(OPEN, deal, MANAGER, [], Given())
    assert list(in_words(sent, dead)) == ["dead-lettered: a defect (command.failed)"]
    assert json.loads(sent.data) == {}
