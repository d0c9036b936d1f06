"""The administrator's command line, `python -m tools.baton --help`: one file for each noun.

It reads and writes the same stores as the functions, through `shared/wiring.py`, and job commands go through the same
services, so the same tables decide. docs/administration.md says what it needs and names every command.
"""

import click

from tools.baton.accounts import account
from tools.baton.audits import audit
from tools.baton.autoscale import autoscale
from tools.baton.budgets import budget
from tools.baton.catalogs import catalog
from tools.baton.dead_letters import dead_letter
from tools.baton.jobs import job
from tools.baton.keys import key
from tools.baton.licences import licence
from tools.baton.orchestrators import orchestrator
from tools.baton.pools import pool
from tools.baton.projects import project
from tools.baton.signing_keys import signing_keys
from tools.baton.usage import usage
from tools.baton.users import user

__all__ = ["baton"]

NOUNS: tuple[click.Command, ...] = (account, project, user, key, budget, licence, catalog) + (
    orchestrator,
    pool,
    autoscale,
    job,
    usage,
    audit,
    dead_letter,
    signing_keys,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--local", is_flag=True, help="Run on this machine's local stack, whatever else is set."
)
def baton(local: bool) -> None:
    """Run a farm: accounts, people, keys, budgets, the catalogue, orchestrators, jobs and the books.

    Every command takes --json. Exit codes: 0 done, 1 refused, 2 wrong usage or settings.
    """


for each in NOUNS:
    baton.add_command(each)
