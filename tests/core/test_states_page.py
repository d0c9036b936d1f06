"""docs/states.md says what the tables say."""

from pathlib import Path

from tools.states import page


def test_the_page_of_states_is_the_tables() -> None:
    written = Path(__file__).parents[2] / "docs" / "states.md"
    assert written.read_text() == page(), "run: python -m tools.states > docs/states.md"
