"""The recipe for an Android archive (AAR), of a library of this machine under the name of x86-64: no NDK is at hand.

What an archive has to hold is by the documentation of AARs and Prefab, and by the fields that Prefab's own tests read.
"""

from __future__ import annotations

import json
import platform
import struct
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.example_programs import run

from tvm_flow import __version__
from tvm_flow.toolchain.runtime_library import RUNTIME

X86_64, LOADED, PAGE = 62, 1, 16384
ABI, MODULE = "x86_64", "prefab/modules/tvm_flow"
RECIPE = RUNTIME / "examples" / "aar.cmake"


pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs a compiler for x86-64")


@pytest.fixture(scope="module", params=["library", "link"])
def archive(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> zipfile.ZipFile:
    """As for Android, CMake makes no versions of a library's name; on systems that have them it is a link to one."""
    folder = tmp_path_factory.mktemp("aar")
    options = ["-DBUILD_SHARED_LIBS=ON", "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON", "-DCMAKE_INSTALL_LIBDIR=lib"]
    run("cmake", "-S", RUNTIME, "-B", folder / "build", *options)
    run("cmake", "--build", folder / "build")
    run("cmake", "--install", folder / "build", "--prefix", folder / "installed" / ABI)
    if request.param == "link":
        named = folder / "installed" / ABI / "lib" / "libtvm_flow.so"
        named.rename(named.with_suffix(".so.0"))
        named.symlink_to("libtvm_flow.so.0")
    output = folder / "tvm_flow.aar"
    run("cmake", f"-DINSTALLED={folder / 'installed'}", f"-DOUTPUT={output}", "-DMIN_SDK=24", "-P", RECIPE)
    assert {path.name for path in folder.iterdir()} == {"build", "installed", "tvm_flow.aar"}
    return zipfile.ZipFile(output)


def test_it_holds_library_headers_and_what_says_so(archive: zipfile.ZipFile) -> None:
    headers = {f"{MODULE}/include/{path.name}" for path in (RUNTIME / "include").glob("*.h*")}
    libraries = {f"jni/{ABI}/libtvm_flow.so", f"{MODULE}/libs/android.{ABI}/libtvm_flow.so"}
    words = {"prefab/prefab.json", f"{MODULE}/module.json", f"{MODULE}/libs/android.{ABI}/abi.json"}
    files = {name for name in archive.namelist() if not name.endswith("/")}
    assert files == {"AndroidManifest.xml", "LICENSE", *headers, *libraries, *words}
    (library,) = {archive.read(name) for name in libraries}
    assert library[:4] == b"\x7fELF"


def test_the_manifest_and_the_package_name_what_an_app_needs(archive: zipfile.ZipFile) -> None:
    manifest = ElementTree.fromstring(archive.read("AndroidManifest.xml"))
    android = "{http://schemas.android.com/apk/res/android}"
    (sdk,) = manifest.iter("uses-sdk")
    assert manifest.tag == "manifest" and "." in manifest.attrib["package"]
    assert sdk.attrib == {f"{android}minSdkVersion": "24"}
    read = {name.rsplit("/", 1)[-1]: json.loads(archive.read(name)) for name in archive.namelist() if "json" in name}
    assert read == {
        "prefab.json": {"schema_version": 2, "name": "tvm_flow", "version": __version__, "dependencies": []},
        "module.json": {"export_libraries": [], "library_name": "libtvm_flow"},
        "abi.json": {"abi": ABI, "api": 24, "ndk": 27, "stl": "none", "static": False},
    }


def test_the_library_has_a_plain_name_and_pages_of_16_kib(archive: zipfile.ZipFile, tmp_path: Path) -> None:
    path = Path(archive.extract(f"jni/{ABI}/libtvm_flow.so", tmp_path))
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01" and struct.unpack_from("<H", data, 18) == (X86_64,)
    (start,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", data, start + size * index) for index in range(count)]
    loaded = [(align, offset, address) for kind, _, offset, address, *_, align in segments if kind == LOADED]
    assert loaded and all(align >= PAGE and (address - offset) % align == 0 for align, offset, address in loaded)
    assert "soname: [libtvm_flow.so]" in run("readelf", "-dW", path)


def test_without_a_library_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"expected\s+ABI/lib/libtvm_flow.so, got none"):
        run("cmake", f"-DINSTALLED={tmp_path}", f"-DOUTPUT={tmp_path / 'x.aar'}", "-P", RECIPE)
    assert not (tmp_path / "x.aar").exists()
