"""Settings of the whole suite."""

from hypothesis import HealthCheck, settings

# A busy machine is no finding: no deadline, and no complaint that drawing examples is slow.
settings.register_profile("tvm_flow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tvm_flow")
