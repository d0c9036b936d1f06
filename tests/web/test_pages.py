"""The dashboard in a real browser, on real Auth and Firestore emulators under the rules."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest
from playwright.sync_api import Page, expect

from shared.models.job import JobStatus, Sync, SyncState
from shared.models.task import Outcome, TaskStatus, WaitingFor
from tests.web.farm_on_show import Farm, a_job, a_lost_and_found_task, tasks_of
from tests.web.hosting import Site

AddUser = Callable[..., str]


def sign_in(page: Page, email: str, password: str) -> None:
    """Fill in the form that is on show."""
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def open_as_member(
    page: Page, url: str, account_id: str, add_user: AddUser, **claims: object
) -> None:
    """Open an address as a member of the account: it asks for the sign-in first."""
    email = f"wrangler@{account_id}.example"
    password = add_user(email, account=account_id, **({"role": "user"} | claims))
    page.goto(url)
    sign_in(page, email, password)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_a_wrong_password_is_told_and_the_right_one_shows_account_and_user(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    farm.add_account(account_id, "Moonlight Pictures")
    password = add_user(f"ada@{account_id}.example", account=account_id, role="admin")
    page.goto(site.url)
    sign_in(page, f"ada@{account_id}.example", "not this one")
    expect(page.get_by_role("alert")).to_have_text("The email or the password is wrong.")
    sign_in(page, f"ada@{account_id}.example", password)
    top = page.get_by_role("banner")
    expect(top).to_contain_text("Moonlight Pictures")
    expect(top).to_contain_text(f"ada@{account_id}.example")
    expect(page.get_by_role("main")).to_contain_text("No jobs yet.")


def test_a_reload_keeps_the_user_and_signing_out_asks_again(
    page: Page, site: Site, account_id: str, add_user: AddUser
) -> None:
    open_as_member(page, site.url, account_id, add_user)
    page.reload()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Password")).to_be_visible()


def test_somebody_of_no_account_is_told_so(page: Page, site: Site, add_user: AddUser) -> None:
    password = add_user("stray@nowhere.example")
    page.goto(site.url)
    sign_in(page, "stray@nowhere.example", password)
    expect(page.get_by_role("alert")).to_contain_text("You belong to no account yet")


def test_jobs_are_listed_newest_first_and_new_ones_appear_by_themselves(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    farm.add(a_job(account_id, "00001", title="first"))
    open_as_member(page, site.url, account_id, add_user)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(1)
    newer = replace(a_job(account_id, "00002", title="second"), cost_micros=4_200)
    newer = replace(newer, created_at=newer.created_at.replace(year=2040))
    newer = replace(newer, waiting_for=WaitingFor.BOOT, waiting_note="2 of 4 machines boot")
    farm.add(newer, tasks_of(newer, {0: TaskStatus.SUCCESS, 1: TaskStatus.DOWNLOADED}))
    expect(rows).to_have_count(2)
    for words in ("00002", "second", "alpha", "running", "machine is booting", "2 / 12", "$0.0042"):
        expect(rows.first).to_contain_text(words)
    expect(rows.first.get_by_role("img")).to_have_attribute(
        "aria-label", "1 downloaded, 1 success, 10 pending; 12 in all"
    )


def test_the_list_can_be_narrowed_by_status_and_by_words(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    farm.add(a_job(account_id, "00001", status=JobStatus.FAILED, title="smoke"))
    farm.add(a_job(account_id, "00002", status=JobStatus.RUNNING, title="fire"))
    farm.add(a_job(account_id, "00003", status=JobStatus.RUNNING, title="water"))
    open_as_member(page, site.url, account_id, add_user)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    page.get_by_role("button", name="Failed").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("smoke")
    page.reload()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Active").click()
    expect(rows).to_have_count(2)
    page.get_by_role("searchbox").fill("running wat")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("water")


@pytest.mark.parametrize("width", [1440, 900, 390])
def test_on_every_screen_the_list_says_why_a_job_waits_and_nothing_overlaps(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser, width: int
) -> None:
    waiting = a_job(account_id, "00001", title="Maya:arnold - sh040 rs_beauty", task_count=1000)
    waiting = replace(waiting, status=JobStatus.UPLOAD_PENDING, waiting_for=WaitingFor.STOCK_OUT)
    farm.add_header(waiting)
    page.set_viewport_size({"width": width, "height": 844})
    open_as_member(page, site.url, account_id, add_user)
    row = page.locator("tbody tr")
    expect(row.get_by_text("no machines in stock")).to_be_visible()
    shown = (".badge", ".reason", ".title a", ".progress span:last-child", "elapsed-time")
    boxes = [box for each in shown if (box := row.locator(each).bounding_box())]
    assert len(boxes) == len(shown)
    for one, other in combinations(boxes, 2):
        assert (
            one["x"] + one["width"] <= other["x"]
            or other["x"] + other["width"] <= one["x"]
            or one["y"] + one["height"] <= other["y"]
            or other["y"] + other["height"] <= one["y"]
        ), (one, other)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_fifty_jobs_are_read_and_more_on_request(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    for number in range(53):
        farm.add(a_job(account_id, f"{number:05d}", task_count=0))
    open_as_member(page, site.url, account_id, add_user)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="Show 50 more").click()
    expect(rows).to_have_count(53)
    expect(page.get_by_role("button", name="Show 50 more")).to_have_count(0)


def test_the_link_that_clients_print_works_cold_and_asks_for_the_sign_in_first(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    job = a_job(account_id, waiting_for=WaitingFor.BOOT, waiting_note="1 of 2 machines boots")
    farm.add(job)
    open_as_member(page, f"{site.url}/job/00001", account_id, add_user)
    expect(page.get_by_role("heading", name="shot_010 beauty v003")).to_be_visible()
    for words in (
        "machine is booting · 1 of 2 machines boots",
        "n1-standard-4",
        "preemptible",
        "/projects/alpha/renders/shot_010/beauty",
        "12 pending",
    ):
        expect(page.get_by_role("main")).to_contain_text(words)
    expect(page).to_have_url(f"{site.url}/job/00001")


def test_a_job_changes_on_the_screen_as_it_changes_on_the_farm(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    job = a_job(account_id, status=JobStatus.SYNCING, sync=Sync(state=SyncState.SYNCING))
    job = farm.add(replace(job, waiting_for=WaitingFor.SYNC, waiting_note="3 of 9 files are ready"))
    open_as_member(page, f"{site.url}/job/00001", account_id, add_user)
    cell = page.get_by_role("button", name="Task 003")
    expect(cell).to_have_attribute("aria-label", "Task 003 · pending, waits for inputs · attempt 1")
    farm.place(job, "003", waiting_for=WaitingFor.LIMIT)
    expect(cell).to_have_attribute("aria-label", "Task 003 · pending, at the scheduler · attempt 1")
    expect(page.get_by_role("button", name="Task 004")).to_have_attribute(
        "aria-label", "Task 004 · pending, limit reached · attempt 1"
    )
    task = replace(a_lost_and_found_task("003"), status=TaskStatus.RUNNING)
    farm.change_task(job, task)
    farm.change_job(job, status="running", cost_micros=20_750, counts={"running": 1, "pending": 11})
    expect(cell).to_have_attribute("data-status", "running")
    expect(page.get_by_role("main")).to_contain_text("1 running")
    expect(page.get_by_role("main")).to_contain_text("$0.0208")


def test_an_open_task_shows_its_command_and_attempts_and_follows_them(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    job = a_job(account_id)
    task = a_lost_and_found_task("003")
    tasks = tasks_of(job, {3: TaskStatus.RUNNING})
    farm.add(job, [*tasks[:3], task, *tasks[4:]])
    open_as_member(page, f"{site.url}/job/00001", account_id, add_user)
    page.get_by_role("button", name="Task 003").click()
    panel = page.get_by_role("complementary", name="Task 003")
    for words in (
        "car.#### -f 4",
        "preempted",
        "the provider took the instance back",
        "us-central1-a",
        "us-central1-b",
        "5 min × $0.00415 = $0.0208",
    ):
        expect(panel).to_contain_text(words)
    ended = replace(task.attempts[1], outcome=Outcome.FAILED, exit_code=11, reason="it crashed")
    ended = replace(ended, ended_at=ended.started_at, billed_minutes=1, cost_micros=4_150)
    failed = replace(task, status=TaskStatus.FAILED, attempts=(task.attempts[0], ended))
    farm.change_task(job, failed)
    expect(panel).to_contain_text("it crashed")
    expect(panel.get_by_text("11", exact=True)).to_be_visible()
    page.reload()
    expect(panel).to_contain_text("it crashed")
    expect(page.locator("[data-task='003']")).to_have_attribute("aria-current", "true")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.get_by_role("button", name="Task 003")).to_be_focused()


def test_an_open_task_says_why_it_waits_as_long_as_it_does(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    job = farm.add(a_job(account_id, waiting_for=WaitingFor.BUDGET))
    open_as_member(page, f"{site.url}/job/00001?task=003", account_id, add_user)
    panel = page.get_by_role("complementary", name="Task 003")
    expect(panel).to_contain_text("budget reached")
    farm.change_job(job, waiting_for=WaitingFor.STOCK_OUT)
    expect(panel).to_contain_text("no machines in stock")
    farm.place(job, "003", waiting_for=WaitingFor.LIMIT)
    expect(panel).to_contain_text("no machines in stock")
    farm.change_job(job, waiting_for=WaitingFor.LIMIT)
    expect(panel).to_contain_text("at the scheduler")
    farm.change_task(job, replace(tasks_of(job, {})[3], status=TaskStatus.RUNNING))
    expect(panel).to_contain_text("running")
    expect(panel).not_to_contain_text("at the scheduler")


def test_a_note_that_says_no_more_than_the_reason_is_not_repeated(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    waiting = a_job(account_id, waiting_for=WaitingFor.ADMISSION, waiting_note="its turn is next")
    job = farm.add(waiting)
    open_as_member(page, f"{site.url}/job/00001", account_id, add_user)
    why = page.locator(".job-head .why")
    expect(why).to_have_text("Waiting: its turn is next")
    farm.change_job(job, waiting_for=WaitingFor.BOOT, waiting_note="2 of 4 machines boot")
    expect(why).to_have_text("Waiting: machine is booting · 2 of 4 machines boot")


def test_the_cells_can_be_walked_with_the_arrow_keys(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    farm.add(a_job(account_id, task_count=60))
    open_as_member(page, f"{site.url}/job/00001", account_id, add_user)
    page.get_by_role("button", name="Task 000").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("button", name="Task 040")).to_be_focused()
    expect(page.locator(".tooltip")).to_have_text("Task 040 · pending · attempt 1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary", name="Task 040")).to_be_visible()


def test_of_ten_thousand_tasks_only_the_pages_in_sight_are_read(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    job = a_job(account_id, task_count=10_000)
    farm.add_pages(job, tasks_of(job, {9_999: TaskStatus.FAILED}))
    open_as_member(page, f"{site.url}/job/00001", account_id, add_user)
    expect(page.get_by_role("button", name="Task 000")).to_be_visible()
    height = page.evaluate("document.documentElement.scrollHeight")
    assert 100 <= page.locator("[data-task]").count() <= 4_000
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.get_by_role("button", name="Task 9999")).to_have_attribute("data-status", "failed")
    expect(page.get_by_role("button", name="Task 000")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollHeight") == height


def test_a_page_that_is_not_laid_out_yet_fills_when_it_is(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    job = a_job(account_id)
    farm.add_header(job)
    open_as_member(
        page, f"{site.url}/job/00001", account_id, add_user, role="user", projects=["alpha"]
    )
    expect(page.get_by_role("main")).to_contain_text("12 being laid out")
    farm.add(job)
    expect(page.get_by_role("button", name="Task 011")).to_be_visible()


def test_a_job_that_is_not_there_is_called_so(
    page: Page, site: Site, account_id: str, add_user: AddUser
) -> None:
    open_as_member(page, f"{site.url}/job/00404", account_id, add_user)
    expect(page.get_by_role("alert")).to_contain_text("There is no job 00404")


def test_another_accounts_job_is_not_there(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    farm.add(a_job(f"{account_id}-of-others", "00007"))
    open_as_member(page, f"{site.url}/job/00007", account_id, add_user, role="owner")
    expect(page.get_by_role("alert")).to_contain_text("There is no job 00007")


def test_a_user_of_one_project_sees_its_jobs_and_is_refused_the_others(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    farm.add(a_job(account_id, "00001", project="alpha"))
    farm.add(a_job(account_id, "00002", project="beta"))
    open_as_member(page, site.url, account_id, add_user, projects=["alpha", "gamma"])
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Active").click()
    expect(page.locator("tbody tr")).to_contain_text("00001")
    page.goto(f"{site.url}/job/00002")
    expect(page.get_by_role("alert")).to_contain_text("You may not see this")


def test_somebody_in_very_many_projects_still_has_one_list(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    projects = [f"show-{number:02d}" for number in range(70)]
    farm.add(a_job(account_id, "00001", project="show-02"))
    farm.add(a_job(account_id, "00002", project="show-69"))
    open_as_member(page, site.url, account_id, add_user, projects=projects)
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Active").click()
    expect(page.locator("tbody tr")).to_have_count(2)


def test_links_inside_the_dashboard_need_no_reload_and_back_goes_back(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    farm.add(a_job(account_id))
    open_as_member(page, site.url, account_id, add_user)
    page.evaluate("window.isSamePage = true")
    page.get_by_role("link", name="00001").click()
    expect(page.get_by_role("button", name="Task 000")).to_be_visible()
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert page.evaluate("window.isSamePage")


def test_an_address_of_no_page_says_so(
    page: Page, site: Site, account_id: str, add_user: AddUser
) -> None:
    open_as_member(page, f"{site.url}/farm/nothing", account_id, add_user)
    expect(page.get_by_role("alert")).to_contain_text("There is no such page")


def test_a_lost_connection_is_shown_until_it_is_back(
    page: Page, site: Site, farm: Farm, account_id: str, add_user: AddUser
) -> None:
    job = farm.add(a_job(account_id))
    open_as_member(page, f"{site.url}/job/00001", account_id, add_user)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    page.context.set_offline(True)
    expect(page.get_by_text("connecting…")).to_be_visible()
    farm.change_job(job, title="renamed meanwhile")
    page.context.set_offline(False)
    expect(page.get_by_role("heading", name="renamed meanwhile")).to_be_visible()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
