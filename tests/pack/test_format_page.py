"""The page of the bundle format names all that a bundle holds."""

from __future__ import annotations

import json
import re
from pathlib import Path

from support.toy_decoder import compile_decoder, with_decoder

from tvm_flow.pack import Contents, write_bundle
from tvm_flow.pack import format as page
from tvm_flow.pack.format import MANIFEST, SCHEMA

DECLARED = page.__doc__ or ""


def test_every_file_and_every_key_of_the_manifest_stands_on_the_page(contents: Contents, tmp_path: Path) -> None:
    whole = with_decoder(contents, compile_decoder(tmp_path / "decoder.so"))
    write_bundle(tmp_path / "bundle", whole)
    manifest = json.loads((tmp_path / "bundle" / MANIFEST).read_text())
    target, groups = str(manifest["target"]["name"]), manifest["groups"]
    names = {name.replace(f"/{target}/", "/<target>/") for name in manifest["files"]}
    for group in groups:
        names = {name.replace(f"/{group}.so", "/<group>.so") for name in names}
    assert len(names) >= 7
    assert not {name for name in {MANIFEST, *names} if f"    {name} " not in DECLARED}
    described = DECLARED.partition("manifest.json is")[2].partition("Checked when")[0]
    assert manifest.keys() == set(re.findall(r"^    (\w+)  ", described, re.M))


def test_the_page_states_the_schema_and_is_a_page() -> None:
    assert DECLARED.startswith(f"The bundle format, schema {SCHEMA}")
    assert len(DECLARED.splitlines()) <= 100
