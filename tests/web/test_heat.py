"""The map of tenants × connectors, small and large."""

from __future__ import annotations

from registry.health import Reason, Status
from registry.ids import Pair
from registry.survey import Survey
from registry.web.dashboard.heat import MOST, Asked, heat
from tests.fixtures_web import Api
from tests.test_survey import status
from tests.web.fleet import fill, invented, named
from tests.web.pages import Html, browser


def rows(page: Html) -> list[str]:
    return [one.attributes["id"] for one in page.all("tr") if one.attributes.get("id", "").startswith("t-")]


def cells(page: Html) -> list[str]:
    return [one.attributes["aria-label"] for one in page.all("a") if "c" in one.classes]


async def test_ten_tenants_have_a_row_each_and_every_cell_says_what_it_is(api: Api) -> None:
    await fill(api.parts, named(10, "acme-"), says=lambda pair: broken(pair, "acme-0003"))
    page = await (await browser(api)).page("/")
    assert rows(page) == [f"t-{name}" for name in named(10, "acme-")]
    assert len(cells(page)) == 50
    assert "acme-0003, slack: unhealthy" in cells(page)
    cell = next(one for one in page.all("a") if one.attributes.get("aria-label") == "acme-0003, slack: unhealthy")
    assert cell.attributes["href"] == "/tenants/acme-0003#slack"
    assert page.one("h1").text == "1 tenant cannot use a connector"


def broken(pair: Pair, *tenants: str) -> Reason:
    return Reason.CREDENTIAL_REJECTED if pair.connector == "slack" and pair.tenant in tenants else Reason.OK


async def test_thousands_are_grouped_narrowed_and_paged(api: Api) -> None:
    names = invented(api.parts, 20)
    await fill(api.parts, named(1_000), names, says=lambda pair: broken(pair, "customer-0123", "customer-0777"))
    someone = await browser(api)
    page = await someone.page("/")
    assert len(rows(page)) <= MOST
    assert all(row.endswith("*") for row in rows(page))
    (one,) = [label for label in cells(page) if label.startswith("customer-012") and "trouble" in label]
    assert one == "customer-012…, slack: 1 of 10 in trouble, worst unhealthy"

    narrowed = await someone.page("/?prefix=customer-012")
    assert rows(narrowed) == [f"t-customer-012{last}" for last in range(10)]
    trouble = await someone.page("/?trouble=1")
    assert rows(trouble) == ["t-customer-0123", "t-customer-0777"]
    assert rows(await someone.page("/?status=unhealthy&connector=github")) == []
    assert rows(await someone.page("/?status=unhealthy&connector=slack")) == ["t-customer-0123", "t-customer-0777"]
    second = await someone.page("/?connector=slack&page=2")
    assert rows(second)[0] == f"t-{named(1_000)[MOST]}"
    assert "page 2 of 17" in second.one("main").text
    assert (await someone.get("/?tenant=customer-0777")).headers["Location"] == "/tenants/customer-0777"
    assert (await someone.get("/?tenant=customer-07")).headers["Location"] == "/?prefix=customer-07#tenants"


async def test_the_page_is_small_however_many_tenants_there_are(api: Api) -> None:
    names = invented(api.parts, 20)
    await fill(api.parts, named(1_000), names)
    answer = await (await browser(api)).get("/")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert int(answer.headers["Content-Length"]) < 60_000


def test_at_five_thousand_by_twenty_every_view_has_few_rows() -> None:
    connectors = tuple(f"vendor{number:02}" for number in range(20))
    survey = Survey(connectors)
    for at, tenant in enumerate(named(5_000)):
        words = [Status.UNHEALTHY if (at + place) % 97 == 0 else Status.HEALTHY for place in range(20)]
        survey.add([status(tenant, name, word) for name, word in zip(connectors, words, strict=True)])
    everything = heat(survey, Asked())
    assert everything.grouped
    assert 20 <= len(everything.rows) <= MOST
    assert sum(row.size for row in everything.rows) == 5_000
    assert sum(cell.total for row in everything.rows for cell in row.cells) == 100_000
    assert sum(cell.troubled for row in everything.rows for cell in row.cells) == survey_troubles(survey)
    trouble = heat(survey, Asked(trouble=True))
    assert (trouble.grouped, len(trouble.rows)) == (False, MOST)
    assert trouble.pages == -(-trouble.found // MOST)
    assert heat(survey, Asked(trouble=True, page=9_999)).page == trouble.pages


def survey_troubles(survey: Survey) -> int:
    return sum(count[Status.UNHEALTHY] for count in survey.counts.values())


def test_what_nobody_has_configured_is_no_status() -> None:
    survey = Survey(("github", "slack"))
    survey.add([status("acme", "github", Status.HEALTHY)])
    (row,) = heat(survey, Asked()).rows
    assert [(cell.status, cell.total) for cell in row.cells] == [(Status.HEALTHY, 1), (None, 0)]
