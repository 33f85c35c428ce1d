"""YAML, JSON, checkpoints and graphs from elsewhere: damaged or made to harm, each is refused by name, and soon."""

from __future__ import annotations

import io
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.damaged import outcomes, samples

from tvm_flow.artifact import read_json
from tvm_flow.cli import main
from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.fields import read_yaml
from tvm_flow.model import unpickling
from tvm_flow.model.weights import read_pth

KINDS = (
    *("pth", "old_pth", "safetensors", "embeddings", "onnx", "json"),
    *("recipe_yaml", "build_yaml", "prompts_yaml", "target_yaml"),
)


def yaml_refusal(folder: Path, content: bytes) -> str:
    (folder / "hostile.yaml").write_bytes(content)
    begun = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        read_yaml(folder / "hostile.yaml", "recipe")
    assert time.monotonic() - begun < 10
    assert len(str(caught.value)) < 2000
    return str(caught.value)


def json_refusal(folder: Path, content: bytes) -> str:
    (folder / "hostile.json").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_json(folder / "hostile.json")
    return str(caught.value)


def test_the_kinds_are_all_there_are(tmp_path: Path) -> None:
    found = samples(tmp_path)
    assert tuple(found) == KINDS
    for data, suffix, readers in found.values():
        (tmp_path / f"whole{suffix}").write_bytes(data)
        readers[0](tmp_path / f"whole{suffix}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_by_name(tmp_path: Path, kind: str) -> None:
    refusals = [refusal for _, refusal in outcomes(kind, tmp_path, range(200)) if refusal]
    assert len(refusals) > 50
    assert all("damaged." in refusal or "expected" in refusal for refusal in refusals)


LEVELS = b"[" * 100_000
YAMLS: dict[str, tuple[bytes, str]] = {
    "alias bomb": (b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (96 + k, 96 + k, b",".join([b"*%c" % (95 + k)] * 9)) for k in range(2, 12)
    ), "aliases that stand for more than 1000000 values"),
    "merged bomb": (b"a0: &a0 {k: v}\n" + b"".join(
        b"a%d: &a%d {<<: [%s]}\n" % (k, k, b",".join([b"*a%d" % (k - 1)] * 9)) for k in range(1, 10)
    ), "aliases that stand for more than 1000000 values"),
    "an alias of itself": (b"a: &a [*a]", "an alias inside what it stands for"),
    "deep in brackets": (LEVELS, "more than 64 levels"),
    "deep in lines": (b"\n".join(b" " * k + b"k:" for k in range(200)), "more than 64 levels"),
    "many digits": (b"a: " + b"9" * 5000, "a number of 5000 characters"),
    "many sixties": (b"a: 1" + b":59" * 100_000, "a number of 300001 characters"),
    "twice": (b"a: 1\na: 2", "the key 'a' twice"),
    "half a character": (b'a: "\\uD800"', "half a character"),
    "an object": (b"!!python/object/apply:os.system [id]", "could not determine a constructor"),
    "a tag without its text": (b"a: !!int ''", "expected a readable YAML"),
    "a date that is none": (b"a: 2001-99-99", "month must be in 1..12"),
    "two documents": (b"a: 1\n---\nb: 2", "expected a single document"),
    "two megabytes": (b"#" * (2 << 20), "2097152 bytes, of at most 1048576"),
}  # fmt: skip


@pytest.mark.parametrize("which", YAMLS)
def test_hostile_yaml(tmp_path: Path, which: str) -> None:
    content, cause = YAMLS[which]
    assert cause in yaml_refusal(tmp_path, content)


def test_aliases_that_stay_small_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {k: [1, 2]}\nb: *a\nc: {<<: *a, m: 3}\n")
    assert read_yaml(tmp_path / "a.yaml", "recipe")["c"] == {"k": [1, 2], "m": 3}


def test_twenty_thousand_keys_are_read_soon(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("".join(f"k{k}: 1\n" for k in range(20_000)))
    begun = time.monotonic()
    assert len(read_yaml(tmp_path / "a.yaml", "recipe")) == 20_000
    assert time.monotonic() - begun < 30, "quadratic in the keys it took minutes"


JSONS: dict[str, tuple[bytes, str]] = {
    "deep": (LEVELS, "more than 64 levels"),
    "deep in objects": (b'{"a":' * 1000 + b"1" + b"}" * 1000, "more than 64 levels"),
    "many digits": (b"[" + b"9" * 5000 + b"]", "a number of 5000 characters"),
    "Infinity": (b"[Infinity]", "Infinity, which is no number of JSON"),
    "NaN": (b"[NaN]", "NaN, which is no number of JSON"),
    "beyond floats": (b"[1e999]", "the number inf, which is not finite"),
    "twice": (b'{"a": 1, "a": 2}', "the key 'a' twice"),
    "half a character": (b'["\\ud800"]', "half a character"),
    "no UTF-8": (b'["\xff"]', "expected a readable JSON file"),
    "nothing": (b"", "expected a readable JSON file"),
}


@pytest.mark.parametrize("which", JSONS)
def test_hostile_json(tmp_path: Path, which: str) -> None:
    content, cause = JSONS[which]
    assert cause in json_refusal(tmp_path, content)


def test_brackets_in_text_are_no_levels(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": "%s\\"["}' % ("[" * 1000))
    assert read_json(tmp_path / "a.json")["a"].endswith('"[')


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "yaml": (".yaml", lambda path: read_yaml(path, "recipe")),
    "json": (".json", read_json),
    "pth": (".pth", lambda path: main(["inspect", str(path)])),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_fifo_is_not_waited_for(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    suffix, read = READERS[kind]
    os.mkfifo(tmp_path / f"a{suffix}")
    try:
        code = read(tmp_path / f"a{suffix}")
    except ConfigError as error:
        assert "regular file" in str(error)
    else:
        assert code == 2 and "regular file" in capsys.readouterr().err


def test_ten_gigabytes_of_holes_take_no_memory(tmp_path: Path) -> None:
    for name in ("a.yaml", "a.json"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 10 << 30)
    with pytest.raises(ConfigError, match="10737418240 bytes, of at most"):
        read_yaml(tmp_path / "a.yaml", "recipe")
    with pytest.raises(ConfigError, match="10737418240 bytes, of at most"):
        read_json(tmp_path / "a.json")


def _archived(pickled: bytes) -> bytes:
    """What torch.save makes around a pickle since 1.6."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")
    return out.getvalue()


LEGACY = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
"""What torch.save wrote before a pickle until then."""


class Ran:
    """A pickle that writes a file where it is loaded as pickles are."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.witness),)


def test_a_checkpoint_that_is_a_program_is_not_run(tmp_path: Path) -> None:
    for name, content in (("plain", pickle.dumps(Ran(tmp_path / "ran"))), ("zip", _zipped(Ran(tmp_path / "ran")))):
        (tmp_path / f"{name}.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match="nothing in it was executed"):
            read_pth(tmp_path / f"{name}.pth")
    assert not (tmp_path / "ran").exists()


def _nested(depth: int) -> bytes:
    """A pickle that calls a list of two lists of two lists ..., which torch prints to say that it is no function."""
    pairs = b"".join(b"]q%c(h%ch%ce0" % (i, i - 1, i - 1) for i in range(1, depth))
    return b"\x80\x02]q\x000" + pairs + b"h%c)R." % (depth - 1)


@pytest.mark.parametrize(
    "content",
    [_nested(60), b"\x80\x02c" + b"," * 1_000_000 + b"\nx\n.", b"\x80\x02" + b"(" * 1_000_000],
    ids=["a text of 2^60 lists", "a name of a megabyte", "a million marks"],
)
@pytest.mark.parametrize("pack", [lambda pickled: LEGACY + pickled, _archived], ids=["plain", "zip"])
def test_a_pickle_takes_bounded_time_and_memory(
    tmp_path: Path, content: bytes, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpickling, "SECONDS", 0.5)
    (tmp_path / "a.pth").write_bytes(pack(content))
    with pytest.raises(CheckpointError, match="nothing in it was executed") as refused:
        read_pth(tmp_path / "a.pth")
    assert len(str(refused.value)) < 5000


def _zipped(value: object) -> bytes:
    return _archived(pickle.dumps(value, 2))


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1).expand(1, 1 << 40, 16), torch.zeros(3, 3).to_sparse(), torch.empty(1 << 40, device="meta")],
    ids=["repeated", "sparse", "without numbers"],
)
def test_a_tensor_of_more_than_the_file_is_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"pos_embed": tensor}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="expected a name and a plain tensor of the file's own"):
        read_pth(tmp_path / "a.pth")


def test_what_a_file_says_cannot_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_bytes(b'"\\e[2Jcleared": 1\n')
    assert main(["build", str(tmp_path / "a.yaml")]) == 2
    said = capsys.readouterr().err
    assert "\\x1b[2Jcleared" in said and "\x1b" not in said and said.count("\n") == 1
