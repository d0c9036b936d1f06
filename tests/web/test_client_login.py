"""The page where a Conductor client's user signs in, in a real browser."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Page, expect

from tests.web.hosting import Site
from tests.web.test_pages import sign_in

AddUser = Callable[..., str]
QUERY = "scope=user&response_type=client_token"


class Client(BaseHTTPRequestHandler):
    """The listener of a Conductor client."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"You may close this window.")

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def client_address() -> Iterator[str]:
    """Where a client listens for its token."""
    with HTTPServer(("127.0.0.1", 0), Client) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


def test_after_the_sign_in_the_browser_goes_where_the_client_listens(
    page: Page, site: Site, client_address: str, account_id: str, add_user: AddUser
) -> None:
    target = f"{client_address}?access_token=one&expires_in=3600&scope=user"
    site.handler.token_replies.append((200, {"redirect_to": target}))
    password = add_user(f"ada@{account_id}.example", account=account_id, role="user")
    page.goto(f"{site.url}/api/oauth_jwt?redirect_uri={client_address}&{QUERY}")
    sign_in(page, f"ada@{account_id}.example", password)
    expect(page.get_by_text("You may close this window.")).to_be_visible()
    assert page.url == target
    [request] = site.handler.token_requests
    assert request["redirect_uri"] == client_address
    assert request["id_token"].count(".") == 2


def test_somebody_signed_in_to_the_dashboard_only_says_yes(
    page: Page, site: Site, client_address: str, account_id: str, add_user: AddUser
) -> None:
    target = f"{client_address}?access_token=one&expires_in=3600&scope=user"
    site.handler.token_replies.append((200, {"redirect_to": target}))
    password = add_user(f"ada@{account_id}.example", account=account_id, role="user")
    page.goto(site.url)
    sign_in(page, f"ada@{account_id}.example", password)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.goto(f"{site.url}/api/oauth_jwt?redirect_uri={client_address}&{QUERY}")
    page.get_by_role("button", name=f"Continue as ada@{account_id}.example").press("Enter")
    expect(page.get_by_text("You may close this window.")).to_be_visible()


def test_a_refusal_of_the_farm_is_shown_and_the_user_may_try_again(
    page: Page, site: Site, client_address: str, account_id: str, add_user: AddUser
) -> None:
    site.handler.token_replies.append(
        (401, {"error": {"code": "Unauthenticated", "message": "you belong to no account"}})
    )
    password = add_user(f"ada@{account_id}.example")
    page.goto(f"{site.url}/api/oauth_jwt?redirect_uri={client_address}&{QUERY}")
    sign_in(page, f"ada@{account_id}.example", "wrong")
    expect(page.get_by_role("alert")).to_have_text("The email or the password is wrong.")
    sign_in(page, f"ada@{account_id}.example", password)
    expect(page.get_by_role("alert")).to_have_text("you belong to no account")
    expect(page.get_by_role("button", name="Sign in")).to_be_enabled()


def test_a_token_is_never_taken_elsewhere_whatever_the_farm_answers(
    page: Page, site: Site, client_address: str, account_id: str, add_user: AddUser
) -> None:
    site.handler.token_replies.append((200, {"redirect_to": "http://127.0.0.1:1/index.html"}))
    password = add_user(f"ada@{account_id}.example", account=account_id, role="user")
    page.goto(f"{site.url}/api/oauth_jwt?redirect_uri={client_address}&{QUERY}")
    sign_in(page, f"ada@{account_id}.example", password)
    expect(page.get_by_role("alert")).to_contain_text("not the client's")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "https://evil.example/index.html",
        "http://evil.example:8085/index.html",
        "http://localhost/index.html",
        "http://127.0.0.1.evil.example:8085/index.html",
        "http://localhost:8085@evil.example:80/index.html",
        "javascript:alert(1)",
    ],
)
def test_no_sign_in_is_offered_to_an_address_off_this_machine(
    page: Page, site: Site, address: str
) -> None:
    page.goto(f"{site.url}/api/oauth_jwt?redirect_uri={address}&{QUERY}")
    expect(page.get_by_role("alert")).to_contain_text("Start again from the client.")
    expect(page.get_by_label("Password")).to_have_count(0)
    assert site.handler.token_requests == []
