"""The rows of the matrix: which flow with which version. All chosen ones run at once, each test waits for its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from tests.clients.artist import Artist, number
from tests.clients.install import VERSIONS

AT_ONCE = 8
ENDS_WITHIN_S = 280

Story = Callable[[Artist], None]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Something that artists do, and the versions that can. `is_alone`: in a studio of its own."""

    name: str
    story: Story
    versions: Sequence[str]
    is_alone: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """A flow with one version."""

    version: str
    flow: Flow

    def __str__(self) -> str:
        return f"{self.version}-{self.flow.name}"


class Book:
    """The flows of one kind, in the order in which they are written down."""

    def __init__(self) -> None:
        self.flows: list[Flow] = []

    def flow(
        self,
        *,
        since: str = VERSIONS[0],
        until: str = VERSIONS[-1],
        versions: Sequence[str] = (),
        is_alone: bool = False,
    ) -> Callable[[Story], Story]:
        """Register a story under its own name for a range of versions, or for those that are named."""
        inside = [each for each in VERSIONS if number(since) <= number(each) <= number(until)]

        def register(story: Story) -> Story:
            flow = Flow(
                name=story.__name__.replace("_", "-"),
                story=story,
                versions=tuple(versions or inside),
                is_alone=is_alone,
            )
            self.flows.append(flow)
            return story

        return register

    def rows(self) -> list[Row]:
        """Return every row, flow by flow."""
        return [Row(version=each, flow=flow) for flow in self.flows for each in flow.versions]


class Running:
    """Rows that have been started together."""

    def __init__(self, rows: Sequence[Row], make_artist: Callable[[Row], Artist]) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="row")
        self._futures: dict[Row, Future[None]] = {}
        for row in rows:
            artist = make_artist(row)
            self._futures[row] = self._pool.submit(row.flow.story, artist)

    def wait_for(self, row: Row) -> None:
        """Wait until a row has ended. Raises: what it raised."""
        self._futures[row].result(ENDS_WITHIN_S)

    def wait_for_all(self) -> None:
        """Wait until every row has ended, well or not."""
        for future in self._futures.values():
            future.exception(ENDS_WITHIN_S)

    def close(self) -> None:
        """Start nothing more, and wait for what runs."""
        self._pool.shutdown(cancel_futures=True)
