"""`cmake --install` of the runtime: find_package and pkg-config find it, under a soname and the package's version."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.example_programs import run

from tvm_flow import __version__
from tvm_flow.sources import PACKAGE
from tvm_flow.toolchain.runtime_library import RUNTIME, SONAME

APP = """#include <tvm_flow_prompt.h>
#ifdef SIGNATURE
#include <tvm_flow_signature.h>
#endif
int main(void) {
#ifdef SIGNATURE
  if (tvm_flow_check_signature(0, 0, 0) != TVM_FLOW_INVALID_ARGUMENT) return 1;
#endif
  tvm_flow_prompt_close(0);
  return tvm_flow_close(0);
}
"""
PROJECT = """cmake_minimum_required(VERSION 3.16)
project(app LANGUAGES C)
find_package(tvm_flow 0.1 REQUIRED)
add_executable(app app.c)
target_link_libraries(app PRIVATE tvm_flow::tvm_flow)
"""


@pytest.fixture(scope="module", params=["ON", "OFF"], ids=["shared", "static"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    options = [f"-DBUILD_SHARED_LIBS={request.param}", f"-DCMAKE_INSTALL_PREFIX={folder / 'prefix'}"]
    options += ["-DTVM_FLOW_SIGNATURE=ON"] if request.param == "OFF" else []  # the optional part, with one of the two
    run("cmake", "-S", RUNTIME, "-B", folder / "build", "-DCMAKE_INSTALL_LIBDIR=lib", *options)
    run("cmake", "--build", folder / "build")
    run("cmake", "--install", folder / "build")
    return folder / "prefix"


def test_files_lie_where_systems_expect_them(installed: Path) -> None:
    assert (installed / "share" / "licenses" / "tvm_flow" / "LICENSE").is_file()
    headers = {path.name for path in (RUNTIME / "include").glob("*.h*")}
    asks = (installed / "share" / "licenses" / "tvm_flow" / "monocypher" / "LICENSE.txt").is_file()
    headers |= {"tvm_flow_signature.h"} if asks else set()
    assert {path.name for path in (installed / "include").iterdir()} == headers
    libraries = {path.name for path in (installed / "lib").iterdir() if path.name.startswith("lib")}
    shared = {"libtvm_flow.so", SONAME, f"libtvm_flow.so.{__version__}"}
    assert libraries in (shared, {"libtvm_flow.a"}) and asks == (SONAME not in libraries)
    if SONAME in libraries:
        said = run("readelf", "-dlW", installed / "lib" / SONAME)
        assert f"soname: [{SONAME}]" in said and "0x4000" in said


def test_find_package(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "app.c").write_text(APP)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={installed}")
    run("cmake", "--build", tmp_path / "build")
    run(tmp_path / "build" / "app")


def test_pkg_config(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "app.c").write_text(APP)
    config = f"PKG_CONFIG_PATH={installed / 'lib' / 'pkgconfig'}"
    assert run("env", config, "pkg-config", "--modversion", "tvm_flow").strip() == __version__
    flags = run("env", config, "pkg-config", "--cflags", "--libs", "tvm_flow").split()
    asks = (installed / "include" / "tvm_flow_signature.h").is_file()
    run("gcc", *(["-DSIGNATURE"] if asks else []), "-o", tmp_path / "app", tmp_path / "app.c", *flags)
    subprocess.run([tmp_path / "app"], env={"LD_LIBRARY_PATH": str(installed / "lib")}, check=True)


def test_the_license_is_the_projects_own() -> None:
    assert (RUNTIME / "LICENSE").read_bytes() == (PACKAGE.parent / "LICENSE").read_bytes()
