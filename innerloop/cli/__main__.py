"""`python -m innerloop.cli` is `innerloop`."""

import sys

from innerloop.cli import main

if __name__ == "__main__":
    sys.exit(main())
