"""Entry point of `python -m advisor` and of the `advisor` script."""

import sys

from advisor.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
