"""Submit the job that the first argument describes in JSON; prints the client's answer.

Run with the Python of a client's own environment, as all drivers.
"""

import json
import sys

from ciocore.conductor_submit import Submit

answer, code = Submit(json.loads(sys.argv[1])).main()
print("\n" + json.dumps({"code": code, "answer": answer}), flush=True)
