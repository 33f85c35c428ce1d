"""Settings of the whole suite."""

import signal

from hypothesis import HealthCheck, settings
from support.shared_zig import share_c_libraries

# A busy machine is no finding: no deadline, and no complaint that drawing examples is slow.
settings.register_profile("tvm_flow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tvm_flow")

share_c_libraries()

pytest_plugins = (
    "support.scheduling",
    "support.kernels_once",
    "support.toy_fixtures",
    "support.tiny_fixtures",
    "support.garment_fixtures",
    "support.vulkan_fixtures",
)

# A shell's background job starts with Ctrl-C ignored, and so would every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
