"""The pages as a browser gets them: whole, in the language of who looks, and what is done on them is done."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from prm_es.api.pages import doors
from prm_es.settings import Settings
from tests.api.conftest import Api, Running
from tests.support import today
from tests.workers import Crew
from web_rows import Size, fill

LISTED = (
    "/opportunities", "/leads", "/registrations", "/offers", "/protected-customers", "/partners", "/scorecards",
    "/goals",
)  # fmt: skip
PLAIN = ("/", "/pipeline", "/conflicts", "/deadlines", "/register", "/requests", "/keys")
LOOKING = {"Accept": "text/html,application/xhtml+xml"}
PART = {"HX-Request": "true"}
ENGLISH = {"prm_locale": "en"}
WEIGHT = 300_000


@pytest.fixture(scope="module")
def house(serve: Running, migrated: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API over made-up rows, and a handler that answers commands."""
    api = serve()
    fill(migrated, Size(opportunities=120, leads=120, partners=12))
    with Crew(migrated, tmp_path_factory.mktemp("crew")) as crew:
        crew.start("handle")
        yield api


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody folds events here: what a command changed is never to be seen."""
    monkeypatch.setattr(doors, "VISIBLE_S", 0.05)


def page(api: Api, path: str, login: str = "carla", **headers: str) -> httpx2.Response:
    return api.get(path, login, headers={**LOOKING, **headers}, cookies=ENGLISH)


def send(api: Api, path: str, login: str = "carla", part: bool = True, **form: Any) -> httpx2.Response:
    return api.ask("POST", path, login, data=form, cookies=ENGLISH, headers=PART if part else LOOKING)


def words(answer: httpx2.Response) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def first_link(answer: httpx2.Response, folder: str) -> str:
    found = re.search(rf'href="(/{folder}/[0-9a-f-]{{36}})"', answer.text)
    assert found, folder
    return found.group(1)


@pytest.mark.parametrize("path", [*PLAIN, *LISTED])
def test_every_page_is_whole_and_keeps_to_the_content_policy(house: Api, path: str) -> None:
    answer = page(house, path)
    assert answer.status_code == 200
    assert answer.text.startswith("<!doctype html>")
    assert answer.text.rstrip().endswith("</html>")
    assert ' style="' not in answer.text
    assert "<script>" not in answer.text
    assert not re.search(r'\son\w+="', answer.text)


@pytest.mark.parametrize("path", LISTED)
def test_every_view_heading_and_page_of_a_table_can_be_followed(house: Api, path: str) -> None:
    answer = page(house, path)
    links = {unescape(one) for one in re.findall(rf'href="({path}\?[^"]+)"', answer.text)}
    assert len(links) > 3
    for link in links:
        followed = page(house, link)
        assert followed.status_code == 200, link
        assert 'role="alert"' not in followed.text, link


@pytest.mark.parametrize("folder", ["opportunities", "leads", "partners"])
def test_every_row_leads_to_its_page(house: Api, folder: str) -> None:
    assert page(house, first_link(page(house, f"/{folder}?all=1"), folder)).status_code == 200


def test_groups_are_counted_and_summed_by_currency(house: Api) -> None:
    shown = words(page(house, "/opportunities?status=open&group_by=stage"))
    assert "Rows Currency Amount Weighted" in shown
    assert "Prospect" in shown


def test_the_form_of_filters_carries_what_the_view_has_set(house: Api) -> None:
    assert '<input type="hidden" name="status" value="open">' in page(house, "/opportunities").text


def test_a_filter_that_cannot_be_is_said_beside_the_table(house: Api) -> None:
    answer = page(house, "/opportunities?due=someday")
    assert answer.status_code == 200
    assert "someday is no period" in words(answer)


def test_a_part_of_a_page_is_its_content_alone(house: Api) -> None:
    answer = page(house, "/leads", **PART)
    assert "<html" not in answer.text
    assert 'id="table"' in answer.text
    assert "HX-Request" in answer.headers["vary"]


def test_somebody_unknown_is_sent_to_log_in_and_back(house: Api) -> None:
    answer = house.get("/leads?status=new", headers=LOOKING)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fleads%3Fstatus%3Dnew")
    part = house.get("/leads", headers=PART)
    assert (part.status_code, part.headers["hx-redirect"]) == (204, "/login")


def test_what_is_not_there_is_a_page_too(house: Api) -> None:
    for path in (f"/leads/{uuid4()}", f"/opportunities/{uuid4()}", f"/partners/{uuid4()}", "/no-such-page"):
        answer = page(house, path)
        assert answer.status_code == 404
        assert "Not found" in words(answer)


def test_programs_get_problems_as_they_always_did(house: Api) -> None:
    answer = house.get(f"/api/nothing/{uuid4()}", "carla", headers=LOOKING)
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_language_is_the_one_chosen_here_before_the_logins_own(house: Api) -> None:
    assert "Visão geral" in house.get("/", "carla", headers=LOOKING).text
    chosen = send(house, "/preferences", part=False, language="en", theme="dark", back="/leads")
    assert (chosen.status_code, chosen.headers["location"]) == (303, "/leads")
    assert chosen.cookies["prm_locale"] == "en"
    dark = house.get("/", "carla", headers=LOOKING, cookies={"prm_locale": "en", "prm_theme": "dark"})
    assert '<html lang="en" data-theme="dark">' in dark.text


def test_nobody_is_led_elsewhere(house: Api) -> None:
    for back in ("//evil.example", "https://evil.example", "/\\evil.example"):
        assert send(house, "/preferences", part=False, language="en", back=back).headers["location"] == "/"


def test_a_saved_view_is_there_for_who_saved_it_alone(house: Api) -> None:
    send(house, "/views/leads", part=False, name="Steel first", query="text=steel&sort=owner")
    assert 'href="/leads?text=steel&amp;sort=owner"' in page(house, "/leads").text
    assert "Steel first" not in page(house, "/leads", "vera").text
    send(house, "/views/leads/remove", part=False, name="Steel first", back="/leads")
    assert "Steel first" not in page(house, "/leads").text


def test_a_registration_that_lacks_something_says_which_field(house: Api) -> None:
    partner = str(uuid4())
    house_partner(house, partner)
    form = {"customer.name": "Lojas Sul", "partner_id": partner, "id": str(uuid4())}
    answer = send(house, "/register", part=False, **form)
    assert answer.status_code == 422
    marked = re.findall(r'name="([\w.]+)"[^>]*aria-invalid="true"', answer.text)
    assert {"business_problem", "expected_close_on", "amount.amount"} <= set(marked)
    assert "partner_id" not in marked
    assert 'value="Lojas Sul"' in answer.text


def test_a_registration_is_recorded_once_however_often_it_is_sent(house: Api) -> None:
    lead, partner = str(uuid4()), str(uuid4())
    house_partner(house, partner)
    form: dict[str, Any] = {
        "id": str(uuid4()),
        "lead": lead,
        "partner_id": partner,
        "customer.name": "Lojas Sul",
        "customer.country": "BR",
        "tax_id": "11.222.333/0001-81",
        "product_lines": ["scales"],
        "deal_type": "new",
        "amount.amount": "12.500,00",
        "amount.currency": "BRL",
        "expected_close_on": today(60),
        "business_problem": "Their stock counts are two weeks old.",
    }
    for _ in range(2):
        answer = send(house, "/register", part=False, **form)
        assert (answer.status_code, answer.headers.get("location")) == (303, f"/leads/{lead}"), words(answer)
    other = send(house, "/register", part=False, **{**form, "business_problem": "Another problem, long enough."})
    assert "It exists already" in words(other)


def house_partner(api: Api, partner: str) -> None:
    given = {
        "legal_name": "Acme Ltda",
        "status": "active",
        "country": "BR",
        "authorisations": [{"product_line": "scales"}],
    }
    body = {"type": "prm.partner.import", "subject": partner, "data": given}
    assert api.ask("POST", "/commands?wait=20", "robo", json=body).status_code == 200


def test_a_refused_action_is_said_in_its_dialog_and_an_accepted_one_closes_it(house: Api) -> None:
    lead = first_link(page(house, "/leads?status=submitted"), "leads").rpartition("/")[2]
    asked = send(house, f"/do/lead.reject/{lead}", id=str(uuid4()))
    assert asked.status_code == 422
    assert re.search(r'<select[^>]*name="reason"[^>]*aria-invalid="true"', asked.text)
    gone = send(house, f"/do/lead.reject/{lead}", id=str(uuid4()), reason="other")
    assert "It does not exist." in words(gone)  # a made-up row has no lead in the log


def test_nobody_does_what_the_role_may_not(house: Api) -> None:
    lead = first_link(page(house, "/leads?status=submitted"), "leads").rpartition("/")[2]
    assert page(house, f"/do/lead.approve/{lead}", "alba").status_code == 403
    assert send(house, f"/do/lead.approve/{lead}", "sam").status_code == 404
    assert page(house, f"/do/lead.nonsense/{lead}").status_code == 404


def test_whether_a_customer_is_free_is_said_in_words(house: Api) -> None:
    free = send(house, "/protected-customers/free", country="BR", tax_id="33.000.167/0001-01")
    assert words(free).startswith("Free")
    wrong = send(house, "/protected-customers/free", country="BR", tax_id="1")
    assert "Not a valid tax id" in words(wrong)
    assert "Name a tax id" in words(send(house, "/protected-customers/free", country="BR", tax_id=""))


def test_files_that_are_asked_for_by_their_digest_are_kept(house: Api) -> None:
    links = set(re.findall(r'(?:href|src)="(/static/[^"#]+)', page(house, "/").text))
    assert len(links) > 5
    for link in links:
        answer = house.get(unescape(link))
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert house.get("/static/app.js").headers["cache-control"] == "no-cache"


def test_a_first_visit_weighs_less_than_300_kb(house: Api) -> None:
    def loaded(path: str) -> int:
        with house.client.stream("GET", path, headers={**house.headers("carla"), **LOOKING}, cookies=ENGLISH) as answer:
            assert answer.status_code == 200
            return sum(len(part) for part in answer.iter_raw())

    html = page(house, "/").text
    files = {unescape(one) for one in re.findall(r'(?:href|src|data-chart-src)="(/static/[^"#]+)', html)}
    modules = {f"/static/{name}.js" for name in ("live", "charts", "keys", "forms")}
    total = loaded("/") + sum(map(loaded, files | modules))
    assert 50_000 < total < WEIGHT


def test_every_licence_stands_beside_what_is_shipped() -> None:
    shipped = Path(doors.__file__).parent / "static/vendor"
    names = {path.name.partition("-")[0].partition(".")[0] for path in shipped.iterdir() if path.suffix != ".LICENSE"}
    assert {path.stem for path in shipped.glob("*.LICENSE")} == names


def test_what_was_asked_for_is_listed_with_its_answer(house: Api) -> None:
    send(house, "/register", part=False, id=str(uuid4()))
    assert "Register a lead Refused" in words(page(house, "/requests"))
