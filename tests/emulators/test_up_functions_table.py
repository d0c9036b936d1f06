"""deploy/functions.yaml and its loader: the table that deployment and local stack share."""

from pathlib import Path

import pytest

from deploy.functions import TABLE_PATH, Function, InvalidTable, load_functions


def test_the_table_names_the_four_functions_and_every_topic_once() -> None:
    functions = load_functions()
    assert [f.name for f in functions] == ["submit", "dispatch", "autoscale", "billing"]
    topics = {topic.name: f.name for f in functions for topic in f.topics}
    assert topics["expand"] == topics["settle"] == "dispatch"
    assert topics["scale"] == topics["sweep"] == "autoscale"
    assert topics["meter"] == "billing"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("memory_mib: 512", "memory_mib: lots"), r"billing\.memory_mib: Not a valid integer"),
        (("concurrency: 8", "colour: 8"), r"billing\.colour: Unknown field"),
        (("ack_deadline_s: 60", "ack_deadline_s: 5"), r"dispatch\.topics\.\w+\.ack_deadline_s"),
        (("retry_min_s: 1, retry_max_s: 30", "retry_min_s: 40, retry_max_s: 30"), r"retry_max_s: must not be below"),
        (("ack_deadline_s: 120", "ack_deadline_s: 600"), r"ack_deadline_s: must not exceed timeout_s"),
        (('cron: "5 * * * *"', 'cron: "often"'), r"billing\.schedules\.rollup\.cron: not a unix-cron"),
        (("path: /rollup", "path: rollup"), r"billing\.schedules\.rollup\.path"),
        (("- /agent/**", "- agent"), r"dispatch\.routes\.0"),
        (("meter:", "expand:"), r"topics of two functions: expand"),
        (("billing:", "Billing Function:"), r"'Billing Function' is not a function name"),
        (("submit:", "submit: ["), r"functions\.yaml"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_refused_by_its_name(
    tmp_path: Path, wrong: tuple[str, str], message: str
) -> None:
    text = TABLE_PATH.read_text()
    assert wrong[0] in text
    path = tmp_path / "functions.yaml"
    path.write_text(text.replace(*wrong, 1))
    with pytest.raises(InvalidTable, match=message):
        load_functions(path)


@pytest.mark.parametrize("function", load_functions(), ids=lambda function: function.name)
def test_every_secret_and_setting_is_explained_where_it_says_who_reads_it(
    function: Function,
) -> None:
    page = (TABLE_PATH.parents[1] / "docs" / "operations.md").read_text()
    for name in (*function.secrets, *function.settings):
        rows = [line.split("|") for line in page.splitlines() if line.startswith(f"| `{name}`")]
        assert any(function.name in row[2] or row[2].strip() == "all" for row in rows), name


def test_every_function_that_calls_schedulers_has_what_each_of_them_needs() -> None:
    functions = {function.name: function for function in load_functions()}
    for name in ("dispatch", "autoscale"):
        needed = {"NOMAD_TOKEN", "KUBERNETES_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        assert needed <= set(functions[name].secrets)
        assert {"BATON_AGENT_IMAGE", "BATON_BUCKET_REGION"} <= set(functions[name].settings)
