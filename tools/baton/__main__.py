"""`python -m tools.baton`."""

from tools.baton import baton

if __name__ == "__main__":
    baton(prog_name="baton")
