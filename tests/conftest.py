"""Settings of the whole suite."""

import signal

import pytest
from hypothesis import HealthCheck, settings
from support.shared_zig import share_c_libraries

# A busy machine is no finding: no deadline, and no complaint that drawing examples is slow.
settings.register_profile("tvm_flow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tvm_flow")

share_c_libraries()

pytest_plugins = ("support.scheduling",)
FIXTURES = ("kernels_once", "toy_fixtures", "tiny_fixtures", "garment_fixtures", "vulkan_fixtures")
pytest.register_assert_rewrite(*(f"support.{name}" for name in FIXTURES))  # a folder's conftest.py may come before


def pytest_configure(config: pytest.Config) -> None:
    """Fixtures for the process that runs tests: the one that only hands them out need not load torch and TVM first."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        for name in FIXTURES:
            config.pluginmanager.import_plugin(f"support.{name}")


# A shell's background job starts with Ctrl-C ignored, and so would every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
