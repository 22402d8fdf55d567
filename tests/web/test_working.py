"""What people do on the pages, in a real browser, and who else sees it: from a form to a decision."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Final
from uuid import UUID

from playwright.sync_api import expect
from stdnum.br import cnpj

from prm_es.settings import Settings
from tests.support import PROBLEM, command, rows, today
from tests.web.browser import Window
from tests.web.service import Service
from tests.workers import until, write

Seat = Callable[..., AbstractContextManager[Window]]
MANAGER, PARTNER, RIVAL = "carla", "pia", "pat"
CNPJ: Final = next(one for one in (f"77123456000{n:03}" for n in range(100, 1000)) if cnpj.is_valid(one))


def register(seen: Window, customer: str, tax_id: str = "") -> None:
    """Fill in the form of a lead and send it."""
    seen.open("/register")
    form = seen.main
    form.get_by_label("Customer", exact=True).fill(customer)
    if tax_id:
        form.get_by_label("Country", exact=True).select_option("BR")
        form.get_by_label(re.compile("^Tax id")).fill(tax_id)
    form.get_by_role("checkbox").first.check()
    form.get_by_label("Amount", exact=True).fill("48,250.00")
    form.get_by_label("Currency").select_option("BRL")
    form.get_by_label("Expected close").fill(today(90))
    form.get_by_label("Business problem").fill(PROBLEM)
    form.get_by_role("button", name="Register", exact=True).click()


def act(seen: Window, name: str, **fields: str) -> None:
    """Choose what to do from the page's actions, fill in what is given, and do it."""
    if not (there := seen.main.get_by_role("link", name=name, exact=True).first).is_visible():
        seen.main.locator(".actions summary").click()
    there.click()
    for label, value in fields.items():
        control = seen.dialog.get_by_label(re.compile(f"^{label.replace('_', '.')}"))
        if control.evaluate("one => one.tagName") == "SELECT":
            control.select_option(label=value)
        else:
            control.fill(value)
    seen.dialog.get_by_role("button", name=name, exact=True).click()
    expect(seen.dialog).to_be_hidden()


def status(seen: Window, words: str) -> None:
    """Wait until the page says so of itself, without being asked again."""
    expect(seen.main.locator("h1 ~ .sub, .head .sub").get_by_text(words, exact=True)).to_be_visible()


def test_a_lead_is_seen_at_once_and_its_approval_too(seat: Seat, tell: Callable[[str], None]) -> None:
    with seat(PARTNER) as partner, seat(MANAGER) as manager:
        manager.open("/leads?text=Aurora")
        manager.live()
        arrived = manager.main.get_by_role("link", name="Armazéns Aurora")
        expect(arrived).to_have_count(0)
        register(partner, "Armazéns Aurora", CNPJ)
        began = perf_counter()
        expect(arrived).to_be_visible()
        tell(f"pages: a lead registered in one window was in another after {1000 * (perf_counter() - began):.0f} ms")
        partner.page.wait_for_url(re.compile("/leads/"))
        partner.live()
        arrived.click()
        manager.page.wait_for_url(re.compile("/leads/"))
        expect(manager.main.get_by_text("being screened")).to_have_count(0)
        act(manager, "Approve")
        status(manager, "Approved")
        status(partner, "Approved")


def approved(partner: Window, manager: Window, customer: str, tax_id: str = "") -> None:
    """Register a lead and approve it, each in a window of its own, both then on its page."""
    register(partner, customer, tax_id)
    partner.page.wait_for_url(re.compile("/leads/"))
    manager.open(partner.page.url.removeprefix(partner.at))
    expect(manager.main.get_by_text("being screened")).to_have_count(0)
    act(manager, "Approve")
    status(manager, "Approved")


def test_a_lead_becomes_a_deal_that_is_worked_and_won(seat: Seat) -> None:
    with seat(PARTNER) as partner, seat(MANAGER) as manager:
        approved(partner, manager, "Laticínios Serra")
        partner.live()
        status(partner, "Approved")
        act(partner, "Convert to a deal", Name="Cold chain", Next_action="Visit the dairy", Due_on=today(10))
        status(partner, "Converted")
        partner.open("/opportunities?text=Cold chain")
        partner.main.get_by_role("link", name="Cold chain", exact=True).click()
        partner.page.wait_for_url(re.compile("/opportunities/"))
        manager.open(partner.page.url.removeprefix(partner.at))
        manager.live()
        act(partner, "Change details", Contact="Ana Prado", E_mail="ana@example.com")
        act(partner, "Move the stage", Stage="Qualified", Next_action="Send the offer", Due_on=today(20))
        expect(manager.main.get_by_text("Send the offer").first).to_be_visible()
        act(partner, "Set the next action", Next_action="Agree on a day", Due_on=today(25))
        expect(manager.main.get_by_text("Agree on a day").first).to_be_visible()
        act(partner, "Win", Final_amount="51,000.00", Order_reference="PO-1", Closed_on=today())
        status(partner, "Won")
        status(manager, "Won")
        expect(manager.main.get_by_text("51,000").first).to_be_visible()


def test_one_offer_is_accepted_and_another_declined(seat: Seat, web: Service) -> None:
    with seat(PARTNER) as partner, seat(MANAGER) as manager:
        partner.open("/")
        partner.page.locator("a[href^='/partners/']").first.click()
        partner.page.wait_for_url(re.compile("/partners/"))
        own = partner.main.get_by_role("heading", level=1).inner_text()
        line = sold_by(web.settings, UUID(partner.page.url.rpartition("/")[2]))

        def offered(customer: str) -> str:
            at = f"/leads/{capture(web.settings, customer, line)}"
            until(lambda: manager.page.request.get(manager.at + at).ok, "the lead is in the read model")
            manager.open(at)
            act(manager, "Offer to a partner", Partner=own)
            status(manager, "Offered")
            partner.open(at)
            assert customer not in partner.page.content()  # nobody has looked at it yet
            act(partner, "Show the customer")
            expect(partner.main.get_by_text(customer).first).to_be_visible()
            return at

        offered("Padarias Aurora")
        act(partner, "Accept", Next_action="Call them", Due_on=today(5))
        status(partner, "Accepted")
        status(manager, "Accepted")
        at = offered("Pousadas do Sul")
        with seat(PARTNER) as elsewhere:
            elsewhere.open(at)
            elsewhere.live()
            act(partner, "Decline", Reason="No capacity")
            partner.page.wait_for_url("**/offers")
            status(manager, "Qualified")
            expect(elsewhere.main.get_by_role("heading", level=1)).to_have_text("Not found")
        assert partner.page.request.get(partner.at + at).status == 404


def sold_by(settings: Settings, partner_id: UUID) -> str:
    """Give a product line for which a partner is authorised."""
    query = f"SELECT product_lines[1] AS line FROM {settings.read_schema}.partners WHERE partner_id = %s"
    return str(rows(settings, query, [partner_id])[0]["line"])


def capture(settings: Settings, customer: str, line: str) -> UUID:
    """Capture a lead as an upstream system does."""
    data = {"customer": {"name": customer, "country": "BR"}, "product_lines": [line], "business_problem": PROBLEM}
    sent = command("lead.capture", data=data)
    write(settings, [sent])
    return sent.subject


def test_a_rival_learns_the_date_and_never_the_name(seat: Seat) -> None:
    with seat(PARTNER) as partner, seat(MANAGER) as manager, seat(RIVAL) as rival:
        register(partner, "Hotéis Boreal", TAKEN)
        partner.page.wait_for_url(re.compile("/leads/"))
        manager.open(partner.page.url.removeprefix(partner.at))
        holder = manager.main.locator(".head .sub a").inner_text()
        expect(manager.main.get_by_text("being screened")).to_have_count(0)
        act(manager, "Approve")
        status(manager, "Approved")
        rival.open("/protected-customers")
        ask = rival.main.get_by_role("region", name="Is it free?")
        ask.get_by_label("Country of the tax id").select_option("BR")
        ask.get_by_label("Tax id", exact=True).fill(TAKEN)
        ask.get_by_role("button", name="Ask").click()
        expect(ask.get_by_role("status")).to_contain_text("Already protected")
        assert holder not in rival.page.content()
        rival.open("/register")
        rival.main.get_by_label("Country", exact=True).select_option("BR")
        rival.main.get_by_label(re.compile("^Tax id")).fill(TAKEN)
        rival.main.get_by_label(re.compile("^Tax id")).blur()
        expect(rival.main.get_by_text("Already protected")).to_be_visible()
        assert holder not in rival.page.content()


def test_what_is_missing_is_said_beside_its_field_and_what_was_typed_stays(seat: Seat) -> None:
    with seat(PARTNER) as seen:
        seen.open("/register")
        seen.main.get_by_label("Customer", exact=True).fill("Moinhos do Norte")
        seen.main.get_by_label("Business problem").fill("too short")
        seen.main.get_by_role("button", name="Register", exact=True).click()
        expect(seen.main.get_by_role("alert")).to_be_visible()
        field = seen.main.get_by_label("Business problem", exact=True)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile(r"\w{3}"))
        expect(seen.main.get_by_label("Customer", exact=True)).to_have_value("Moinhos do Norte")
        seen.open("/requests")
        expect(seen.main.get_by_text("Refused").first).to_be_visible()


TAKEN: Final = next(one for one in (f"88123456000{n:03}" for n in range(100, 1000)) if cnpj.is_valid(one))
