"""What can end an attempt early. The tree is by reaction.

AgentError
├── Unfit         this machine must not take attempts: claim nothing, exit with the code it carries
├── Withdrawn     the attempt is not ours any more: stop, change nothing, exit 0
├── Unreachable   the server was silent for too long: stop, exit 1
├── Stopped       the attempt was told to end; `Ending.cause` says by whom
├── Faulty        this machine cannot do it, another one may: report its text as a stop that nobody ordered
└── Failed        the attempt cannot succeed here: report its text as the reason
    └── Refused   the server does not accept what we sent, which is a bug of ours
"""


class AgentError(Exception):
    """Root of the tree; never raised itself."""


class Unfit(AgentError):
    """This machine must not take attempts."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Withdrawn(AgentError):
    """The attempt is not ours any more."""


class Unreachable(AgentError):
    """The server was silent for too long."""


class Stopped(AgentError):
    """The attempt was told to end."""


class Faulty(AgentError):
    """This machine cannot do it, another one may."""


class Failed(AgentError):
    """The attempt cannot succeed here."""


class Refused(Failed):
    """The server does not accept what we sent."""
