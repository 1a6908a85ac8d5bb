"""`python -m brainpretrain.cli` is the command `brainpretrain`."""

import sys

from brainpretrain.cli import main

sys.exit(main())
