"""One folder for each kind of device, behind the contract of `tvm_flow.backends.base`."""
