"""Measurements with a stated method, each a module with ``main(arguments)``: one JSON line, details on stderr."""
