"""`python -m emulators.instance DIR`: the machine described by DIR/machine.json.

Started by the Compute Engine stand-in; see `guard` for how it ends.
"""

import sys
from pathlib import Path

from emulators.instance.guard import guard

if __name__ == "__main__":
    sys.exit(guard(Path(sys.argv[1])))
