"""Static int8 video diffusion transformers, compiled to plain shared libraries.

The flow, each arrow one module folder and one command::

    checkpoint -> model -> calibrate -> quantize -> export -> relax_import -> build -> pack -> run
"""

__version__ = "0.1.0"
