"""Vulkan as a backend: what it offers, its artifacts, and where its part of the runtime is."""

from __future__ import annotations

from pathlib import Path

RUNTIME_PART = Path(__file__).with_name("runtime")
"""The device in C."""
