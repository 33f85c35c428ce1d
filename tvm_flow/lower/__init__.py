"""Relax step graphs to scheduled kernels: packing, partition into kernels, schedules, one object file."""
