"""Static int8 video diffusion transformers, compiled to plain shared libraries.

The flow, each arrow one folder::

    checkpoint -> model -> calibrate -> quantize -> export -> importer -> lower -> compile -> pack -> run
"""

__version__ = "0.1.0"
