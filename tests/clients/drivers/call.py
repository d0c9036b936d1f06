"""Call functions of `ciocore.api_client`: each argument is JSON, [name, argument, ...]; prints the list of answers."""

import datetime
import json
import sys

from ciocore import api_client


def argument(said: object) -> object:
    """Return an argument; a text that is a date becomes one, as the calls about usage want it."""
    if isinstance(said, dict):
        return datetime.datetime.fromisoformat(said["date"])
    return said


calls = [json.loads(text) for text in sys.argv[1:]]
told = [getattr(api_client, name)(*map(argument, said)) for name, *said in calls]
print("\n" + json.dumps(told), flush=True)
