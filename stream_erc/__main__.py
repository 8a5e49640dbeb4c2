"""``python -m stream_erc``: the command line."""

import sys

from stream_erc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
