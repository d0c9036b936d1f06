"""What a person does in the browser that a client opens: browser.py LOGIN.json URL. Standard library only.

Loads the page, signs in with email and password, has the page's call answered, and goes where that sends the browser.
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

WAIT_S = 20


def fetch(url: str, body: object = None) -> bytes:
    """Return what an address answers to a GET, or to a POST of JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        found: bytes = answer.read()
        return found


def go_to(url: str) -> None:
    """Load the client's own page, as soon as the client listens."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            fetch(url)
            return
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


login = json.loads(Path(sys.argv[1]).read_text())
opened = sys.argv[2]
with Path(login["opened"]).open("a") as note:
    note.write(f"{opened}\n")
page = urllib.parse.urlsplit(opened)
if b"<html" not in fetch(opened):
    sys.exit("this is no page")
person = {"email": login["email"], "password": login["password"], "returnSecureToken": True}
id_token = json.loads(fetch(login["sign_in_url"], person))["idToken"]
redirect_uri = urllib.parse.parse_qs(page.query)["redirect_uri"][0]
asked = {"id_token": id_token, "redirect_uri": redirect_uri}
answer = fetch(f"{page.scheme}://{page.netloc}/api/client_token", asked)
go_to(json.loads(answer)["redirect_to"])
