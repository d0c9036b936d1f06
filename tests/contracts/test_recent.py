"""What a process remembers of its own writes."""

from shared.stores.recent import Recent


def test_what_was_kept_is_given_once_and_the_newest_of_a_name() -> None:
    recent: Recent[int] = Recent(10, 60)
    recent.put("a", 1)
    recent.put("a", 2)
    assert [recent.take("a"), recent.take("a"), recent.take("b")] == [2, None, None]


def test_the_oldest_go_when_there_are_too_many() -> None:
    recent: Recent[int] = Recent(2, 60)
    for number, name in enumerate("abac"):
        recent.put(name, number)
    assert [recent.take(name) for name in "abc"] == [2, None, 3]


def test_nothing_is_given_after_its_time() -> None:
    recent: Recent[int] = Recent(2, 0)
    recent.put("a", 1)
    assert recent.take("a") is None
