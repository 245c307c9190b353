# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``python -m muse_imphot`` is the command ``muse-imphot``."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
