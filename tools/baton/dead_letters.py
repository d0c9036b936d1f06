"""`baton dead-letter`: messages that failed too often, and what becomes of them."""

from collections.abc import Sequence
from typing import Any

import click

from deploy.functions import load_functions
from shared import wiring
from shared.ports import DeadLetter
from shared.services import dead_letters
from tools.baton.answers import Answer, answers, destructive

TOPICS = [topic.name for function in load_functions() for topic in function.topics]

topic_option = click.option(
    "--topic",
    "topics",
    multiple=True,
    type=click.Choice(TOPICS),
    help="Only this topic; repeatable.",
)
id_option = click.option(
    "--id", "message_ids", multiple=True, help="Only this message; repeatable."
)


@click.group("dead-letter")
def dead_letter() -> None:
    """Messages that failed too often: what lies on TOPIC-dead."""


@dead_letter.command("list")
@topic_option
@answers
def list_dead_letters(topics: Sequence[str]) -> Answer:
    """List dead letters, oldest first; they stay where they are."""
    found = dead_letters.read(topics or TOPICS, wiring.dead_letters())
    return {"dead_letters": [_listed(each) for each in found]}


@dead_letter.command("replay")
@topic_option
@id_option
@answers
def replay_dead_letters(topics: Sequence[str], message_ids: Sequence[str]) -> Answer:
    """Send dead letters to their topics again: all, those of a topic, or some. What is no JSON object stays."""
    sent = dead_letters.replay(
        topics or TOPICS, message_ids, letters=wiring.dead_letters(), bus=wiring.bus()
    )
    return {"replayed": [_listed(each) for each in sent]}


@dead_letter.command("discard")
@topic_option
@id_option
@destructive("Forget these dead letters for good?")
@answers
def discard_dead_letters(topics: Sequence[str], message_ids: Sequence[str]) -> Answer:
    """Forget dead letters for good: those of a topic, or some."""
    if not topics and not message_ids:
        raise click.UsageError("say which: --topic or --id")
    gone = dead_letters.discard(topics or TOPICS, message_ids, wiring.dead_letters())
    return {"discarded": [_listed(each) for each in gone]}


def _listed(found: DeadLetter) -> dict[str, Any]:
    body = dead_letters.body_of(found)
    return {
        "topic": found.topic,
        "message_id": found.message_id,
        "published_at": found.published_at,
        "body": body if body is not None else found.data.decode(errors="replace"),
    }
