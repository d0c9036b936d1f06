"""The gateway's reading of firebase.json, without HTTP."""

import json
from pathlib import Path

import pytest

from deploy.functions import load_functions
from emulators.gateway.globs import InvalidGlob, glob_regex
from emulators.gateway.hosting import Hosting, InvalidHosting, decoded_path, load_hosting

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("glob", "matching", "other"),
    [
        (
            "/jobs/**",
            ["/jobs/", "/jobs/1", "/jobs/1/downloads"],
            ["/jobs", "/jobs_multi", "/a/jobs/"],
        ),
        ("/jobs{,/**}", ["/jobs", "/jobs/", "/jobs/1"], ["/jobs_multi", "/job"]),
        ("/get_log_file", ["/get_log_file"], ["/get_log_file/", "/get_log_files", "/getxlog_file"]),
        ("/a/*.js", ["/a/x.js", "/a/.js"], ["/a/b/x.js", "/a/xjs"]),
        ("/a/**/z", ["/a/z", "/a/b/z", "/a/b/c/z"], ["/az", "/a/bz"]),
        ("**/*.map", ["/x.map", "/a/b.map"], ["/x.mapp"]),
        ("/@(a|b){,/**}", ["/a", "/b/c"], ["/ab", "/c"]),
        ("/v?/[a-c]", ["/v1/a"], ["/v/a", "/v1/d", "/v//a"]),
        ("/[!a]x", ["/bx"], ["/ax"]),
        (r"/a\*", ["/a*"], ["/ab"]),
        ("**", ["/", "/a/b"], []),
    ],
)
def test_a_glob_matches_what_hosting_matches(
    glob: str, matching: list[str], other: list[str]
) -> None:
    pattern = glob_regex(glob)
    assert [path for path in matching + other if pattern.match(path)] == matching


@pytest.mark.parametrize("glob", ["/a{b", "/@(a", "/a)", "/!(a)", "/+(a)", "/[a", "a/b"])
def test_a_glob_that_could_be_misread_is_refused(glob: str) -> None:
    with pytest.raises(InvalidGlob, match=r"'"):
        glob_regex(glob)


def site(tmp_path: Path, **hosting: object) -> Hosting:
    (tmp_path / "dist").mkdir(exist_ok=True)
    config = tmp_path / "firebase.json"
    config.write_text(json.dumps({"hosting": {"public": "dist", **hosting}}))
    return load_hosting(config)


def test_the_first_rewrite_that_matches_wins(tmp_path: Path) -> None:
    hosting = site(
        tmp_path,
        rewrites=[
            {"source": "/a/b", "run": {"serviceId": "first"}},
            {"source": "/a/**", "run": {"serviceId": "second"}},
            {"regex": "^/c[0-9]+$", "destination": "/index.html"},
        ],
    )
    found = [hosting.rewrite_of(path) for path in ("/a/b", "/a/c", "/c12", "/d")]
    assert [r and (r.service or r.destination) for r in found] == [
        "first",
        "second",
        "/index.html",
        None,
    ]


@pytest.mark.parametrize("name", ["redirects", "cleanUrls", "trailingSlash"])
def test_a_site_that_would_redirect_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidHosting, match=rf"hosting\.{name}"):
        site(tmp_path, **{name: True})


@pytest.mark.parametrize(
    "rewrite",
    [
        {"source": "/a"},
        {"source": "/a", "run": {"serviceId": "x"}, "destination": "/y"},
        {"source": "/a", "function": "x"},
        {"source": "/!(a)", "destination": "/y"},
    ],
)
def test_a_rewrite_that_is_not_understood_is_refused(
    tmp_path: Path, rewrite: dict[str, object]
) -> None:
    with pytest.raises(InvalidHosting, match=r"hosting"):
        site(tmp_path, rewrites=[rewrite])


def test_only_files_of_the_public_folder_are_found(tmp_path: Path) -> None:
    hosting = site(tmp_path, ignore=["**/.*"])
    (tmp_path / "secret").write_text("")
    (tmp_path / "dist" / "index.html").write_text("")
    (tmp_path / "dist" / ".hidden").write_text("")
    (tmp_path / "dist" / "link").symlink_to(tmp_path / "secret")
    assert hosting.file_at("/") == tmp_path / "dist" / "index.html"
    for path in (
        "/../secret",
        "/%2e%2e/secret",
        "//secret",
        "/link",
        "/.hidden",
        "/a\0b",
        "/dist/",
    ):
        assert hosting.file_at(decoded_path(path)) is None, path


def test_the_routes_of_the_site_are_those_of_the_table_of_functions() -> None:
    rewrites = json.loads((ROOT / "firebase.json").read_text())["hosting"]["rewrites"]
    for function in load_functions():
        routes = [
            r["source"] for r in rewrites if r.get("run", {}).get("serviceId") == function.name
        ]
        assert routes == list(function.routes), function.name


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/oauth_jwt?grant_type=client_credentials&client_secret=/job/", "submit"),
        ("//api/oauth_jwt", "submit"),
        ("/api/v1/projects/", "submit"),
        ("/api/v1/ee/packages?all=true,", "submit"),
        ("/api/v2/files/get_upload_urls", "submit"),
        ("/jobs/", "submit"),
        ("/jobs/00001/downloads?limit=50", "submit"),
        ("/jobs_multi", "submit"),
        ("/tasks_multi", "submit"),
        ("/get_log_file?job=00123&num_lines%5B%5D=0", "submit"),
        ("/uploads/client/next", "submit"),
        ("/downloads/next?count=50", "submit"),
        ("/billing/get_usage", "billing"),
        ("/agent/v1/claim", "dispatch"),
        ("/job/00001", "/index.html"),
        ("/projects/p/topics/expand", None),
        ("/tick", None),
    ],
)
def test_each_address_of_the_contract_leads_where_it_must(path: str, target: str | None) -> None:
    """Pushes and ticks are not for the public host: they reach the functions directly."""
    rewrite = load_hosting(ROOT / "firebase.json").rewrite_of(decoded_path(path))
    assert (rewrite and (rewrite.service or rewrite.destination)) == target
