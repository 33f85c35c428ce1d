"""Every test here runs under the validation layers, which must say nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.validated_vulkan import Said, validated
from support.vulkan_plans import affine_plan, product_plan

from tvm_flow.bench.driven import Plan


@pytest.fixture
def said() -> Iterator[Said]:
    with validated() as layers:
        yield layers


@pytest.fixture(autouse=True)
def _nothing_is_said(said: Said) -> Iterator[None]:
    yield
    assert said.take() == ""


@pytest.fixture
def affine(tmp_path: Path) -> Plan:
    return affine_plan(tmp_path)


@pytest.fixture
def product(tmp_path: Path) -> Plan:
    return product_plan(tmp_path)
