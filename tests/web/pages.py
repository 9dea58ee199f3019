"""Pages as tests read them: parsed, and asked for as a browser does."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie

from aiohttp import ClientResponse

from registry.roles import Role
from tests.fixtures_web import Api


@dataclass
class Element:
    """A tag with its attributes, and all text within it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())


@dataclass
class Html(HTMLParser):
    """A parsed page: its elements in their order."""

    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in ("meta", "link", "input", "br"):
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [one for one in self.elements if one.tag == tag and wanted.items() <= one.attributes.items()]

    def one(self, tag: str, **attributes: str) -> Element:
        (found,) = self.all(tag, **attributes)
        return found


def parsed(text: str) -> Html:
    page = Html()
    page.feed(text)
    return page


@dataclass
class Browser:
    """Somebody who has signed in: every request carries the cookie, and says where it comes from."""

    api: Api
    cookie: str

    async def get(self, path: str, *, fragment: bool = False) -> ClientResponse:
        headers = {"Cookie": self.cookie} | ({"X-Fragment": "main"} if fragment else {})
        return await self.api.ask("GET", path, headers=headers, allow_redirects=False)

    async def page(self, path: str, status: int = 200) -> Html:
        answer = await self.get(path)
        assert answer.status == status, await answer.text()
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        return parsed(await answer.text())

    async def post(self, path: str, fields: dict[str, str] | None = None, site: str = "same-origin") -> ClientResponse:
        headers = {"Cookie": self.cookie, "Sec-Fetch-Site": site}
        return await self.api.ask("POST", path, headers=headers, data=fields or {"x": ""}, allow_redirects=False)


async def sign_in(api: Api, token: str, **fields: str) -> ClientResponse:
    form = {"token": token, **fields}
    headers = {"Sec-Fetch-Site": "same-origin"}
    return await api.ask("POST", "/login", headers=headers, data=form, allow_redirects=False)


async def browser(api: Api, role: Role = Role.ADMIN, tenant: str | None = None) -> Browser:
    """A new token, and somebody who has signed in with it."""
    answer = await sign_in(api, await api.token(role, tenant))
    assert answer.status == 303
    ((name, morsel),) = SimpleCookie(answer.headers["Set-Cookie"]).items()
    return Browser(api, f"{name}={morsel.value}")
