"""Files that commands leave behind: whole or absent, and stamped with what they were made from.

A file is written to a temporary folder beside its target, flushed to disk and renamed, so that a reader never sees half
of one. What a link names is replaced, not the link. A stamp (``.NAME.stamp.json``) records the sha256 of every input,
the options, and the sha256 of the output itself; a command whose stamp still holds has nothing to do. The stamp is
written last: an output without a stamp, one that was damaged later, or one that another command has replaced is not
current.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tvm_flow import __version__
from tvm_flow.causes import Cause
from tvm_flow.documents import JSON_MOST, parse_json, read_small
from tvm_flow.errors import ConfigError
from tvm_flow.scratch import beside, emptied, naming, sweep
from tvm_flow.sources import sources_sha256

STAMP = ".stamp.json"
SIGNATURE = "signature.bin"
"""What `sign` adds to a bundle, and no part of what compile made: a bundle that is signed is as current as before."""
_log = logging.getLogger(__name__)


def linked(target: Path) -> Path:
    """What is to be replaced: ``target``, or what it names where it is a link.

    Raises ConfigError for a link to itself.
    """
    if not target.is_symlink():
        return target
    try:
        return target.resolve()
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"{target}: expected a link that ends in a file or folder, got one that ends in itself; name another output"
        ) from error


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path in a hidden folder beside ``target``; on success fsync the file there and rename it to ``target``.

    On any exception, Ctrl-C included, the temporary file is removed and ``target`` stays as it was. An OSError of a
    write names ``target``.
    """
    target = linked(target)
    with beside(target) as folder:
        temporary = folder / target.name
        mode = _mode_of_new_files(temporary)
        yield temporary
        temporary.chmod(mode)  # some writers create files that only their owner can read
        fsync(temporary)
        temporary.replace(target)
        fsync(target.parent)


def _mode_of_new_files(place: Path) -> int:
    """What the umask leaves of reading and writing; there is nothing at ``place`` before and after."""
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)
        place.unlink()


def make_executable(path: Path) -> None:
    """For all who may read ``path``."""
    mode = path.stat().st_mode & 0o777
    path.chmod(mode | (mode & 0o444) >> 2)


def write_bytes(target: Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``target`` whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as sorted, indented JSON, whole or not at all."""
    write_bytes(target, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """Parse ``path``; raises ConfigError naming the file when it is absent or not JSON."""
    try:
        return parse_json(read_small(path, JSON_MOST))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a readable JSON file, got: {error}; check the path") from error


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_stamp(inputs: Mapping[str, Path], options: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """What an output depends on: the package's version, the sha256 of each input file, the options, and the sources.

    ``stage`` is the module that makes the output (its ``__name__``): the sources are those that it can reach. Raises
    ConfigError naming an input that cannot be read.
    """
    return {
        "version": __version__,
        "sources": sources_sha256(stage),
        "inputs": {name: _input_sha256(name, path) for name, path in sorted(inputs.items())},
        "options": json.loads(json.dumps(options, sort_keys=True)),
    }


def expect_file(output: Path) -> None:
    """Raise ConfigError when a folder lies where a command will write a file; call it before the work."""
    if output.is_dir():
        raise ConfigError(f"{output}: expected a file or nothing to write to, got a folder; choose another output")


def is_noexec(path: Path) -> bool:
    """Whether ``path``, or the folder that is to hold it, is mounted noexec; False where the system does not say."""
    there = next((each for each in (path, *path.absolute().parents) if each.exists()), Path("/"))
    try:
        return bool(os.statvfs(there).f_flag & os.ST_NOEXEC)
    except OSError:
        return False


def require_exec(path: Path, advice: str) -> None:
    """Raise ConfigError, with ``advice``, when what is written to ``path`` could not run there."""
    if is_noexec(path):
        raise ConfigError(
            f"{path}: expected a file system whose programs may run, got one that is mounted noexec; {advice}",
            Cause.NOEXEC,
        )


def probe(output: Path) -> None:
    """Raise OSError when ``output``, its stamp or their temporary files cannot be written; call it before the work."""
    with beside(stamp_path(output)) as folder:  # of all their names the longest
        (folder / output.name).touch()


def _input_sha256(name: str, path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise ConfigError(
            f"{name} {path}: expected a readable file, got: {error.strerror}; check the path, or run the command that "
            "writes it"
        ) from error


def stamp_path(output: Path) -> Path:
    """Where the stamp of ``output`` lies."""
    return output.with_name(f".{output.name}{STAMP}")


def is_current(output: Path, stamp: Mapping[str, Any]) -> bool:
    """True when ``output`` was made from exactly what ``stamp`` names, and is still as it was written then."""
    why = _stale(output, stamp)
    _log.info("%s: %s", output, f"made{why}" if why else "current, nothing to do")
    return not why


def _stale(output: Path, stamp: Mapping[str, Any]) -> str:
    """Why ``output`` has to be made; empty when it need not be."""
    try:
        found = parse_json(read_small(stamp_path(output), JSON_MOST))
        digest = found.pop("output", None) if isinstance(found, dict) else None
        if digest is None:
            return " again, since its stamp cannot be read"
        if found != stamp:
            changed = [key for key in sorted({*found, *stamp}) if found.get(key) != stamp.get(key)]
            return f" again, since its {' and '.join(changed)} changed"
        return "" if digest == _output_sha256(output) else " again, since it was changed after it was made"
    except FileNotFoundError:
        return ", since it has no stamp"
    except (OSError, ValueError):
        return " again, since its stamp cannot be read"


def write_stamp(output: Path, stamp: Mapping[str, Any]) -> None:
    """Declare the file or folder ``output`` finished. Call it last."""
    write_json(stamp_path(output), {**stamp, "output": _output_sha256(output)})


@contextmanager
def stamped(output: Path, stamp: Mapping[str, Any]) -> Iterator[None]:
    """What is written to ``output`` inside is finished afterwards, and known for what it is even where that is never.

    A new output has its stamp first, without a digest, so that one of a killed process is not current, and nobody
    else's.
    """
    begun = not output.exists()
    if begun:
        write_json(stamp_path(output), dict(stamp))
    try:
        yield
    finally:
        if begun and not output.exists():
            stamp_path(output).unlink(missing_ok=True)
    write_stamp(output, stamp)


def require_unchanged(output: Path, command: str) -> None:
    """Raise ConfigError when the file or folder ``output`` is not as ``command`` wrote it; call it before it is used.

    What has no stamp, such as a file that was copied alone, is taken as it is.
    """
    stamp = stamp_path(output)
    if not stamp.exists() or not output.exists():
        return
    written = read_json(stamp)
    expected, got = written.get("output") if isinstance(written, dict) else None, _output_sha256(output)
    if got != expected:
        raise ConfigError(
            f"{output}: expected what tvm-flow {command} wrote, sha256 {str(expected)[:12]}..., got {got[:12]}...; run "
            f"{command} again, or delete {stamp.name} beside it to use it as it is"
        )


def _output_sha256(output: Path) -> str:
    """Of a file's bytes, or of names and bytes of a folder's files; without hidden ones, which are temporary."""
    if output.is_file():
        return sha256_file(output)
    names = (path.relative_to(output) for path in output.rglob("*") if path.is_file() and path != output / SIGNATURE)
    digest = hashlib.sha256()
    for name in sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)):
        digest.update(f"{name}\0{sha256_file(output / name)}\0".encode())
    return digest.hexdigest()


@contextmanager
def exclusive(output: Path) -> Iterator[None]:
    """Hold ``output``, or what it names as a link, against other processes that write it.

    The lock ends with the process, however it ends. What killed ones left beside ``output`` is removed first; folders
    above it that are made here go again where they stay empty. Raises ConfigError when another process holds it.
    """
    target = linked(output)
    place = target.with_name(f".{target.name}.lock")
    with emptied(target):
        with naming(output, target.parent):
            try:
                lock = _locked(place)
            except FileNotFoundError:  # the folder is absent, or was just removed by who made it (`emptied`)
                _make(target.parent, output)
                lock = _locked(place)
        if lock is None:
            raise ConfigError(
                f"{output}: expected to write it alone, another command is writing it; wait for that one, or choose "
                "another output"
            )
        try:
            sweep(target.parent)
            yield
        finally:
            place.unlink(missing_ok=True)
            os.close(lock)


def _make(folder: Path, output: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except RecursionError as error:  # before any was made: pathlib asks for the lowest one first
        depth = len(folder.parts)
        raise ConfigError(
            f"{output}: expected fewer folders in one another, got {depth}; choose another output"
        ) from error


def _locked(place: Path) -> int | None:
    """What holds the lock of the file ``place``; None where another process does.

    A file that its holder removed meanwhile is not the one that the next process makes.
    """
    while True:
        lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), place.stat()):
                return lock
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(lock)
            return None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def fsync(path: Path) -> None:
    """Wait until the disk has the file or folder ``path``."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
