"""``python -m tvm_flow.cli``, for checkouts that are not installed."""

import sys

from tvm_flow.cli import main

sys.exit(main())
