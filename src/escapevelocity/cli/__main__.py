"""`python -m escapevelocity.cli` is `ev`."""

import sys

from escapevelocity.cli import main

sys.exit(main())
