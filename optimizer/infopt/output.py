"""Output that appears whole or not at all, whatever happens to the process.

A run writes into a temporary sibling, ``.NAME.infopt-tmp-PID-XXXXXXXX``, which takes the place of the old
output in one step: ``renameat2(RENAME_EXCHANGE)`` where the kernel and the file system have it, else two
renames under a journal, ``.NAME.infopt-journal``, that the next run finishes. What a killed one can leave:

    final  staged  staged.old    what `recover` does
    old    new     -             keeps the old one
    -      new     old           moves the new one into place
    -      -       old           moves the old one back
    new    -       old           removes the old one
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import signal
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from infopt.errors import InputError, OutputError
from infopt.manifest import read_manifest, unlisted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ELSEWHERE = "choose another -o"


@contextmanager
def staged_directory(final: Path, *, force: bool = False, protect: Sequence[Path] = ()) -> Iterator[Path]:
    """Build an output directory beside its place and swap it in when the body ends well.

    The body writes into the yielded directory, last of all the manifest: without one the next run would not
    know the directory as infopt's. On any exception, interrupts included, the old directory stays. The
    arguments are those of `check_directory`.

    Yields:
        An empty directory on the same file system as ``final``.

    Raises:
        OutputError: `check_directory` refuses, or the disk is full or does not allow it.
    """
    final = check_directory(final, force=force, protect=protect)
    with _temporary(final) as staged:
        yield staged
        # A long run later, the place may hold something else.
        check_directory(final, force=force, protect=protect)
        with _as_output_error(final):
            if final.is_dir():
                shutil.copymode(final, staged)
            _flush(staged)
            _install(staged, final)


@contextmanager
def staged_file(final: Path, *, overwrite: bool, protect: Sequence[Path] = ()) -> Iterator[Path]:
    """Build ``FILE.onnx``, and ``FILE.onnx.data`` if there is one, beside their place and move them in.

    The data file moves first. Each file is replaced in one step, the two together are not: a kill between the
    two leaves a new data file under an old model, so a pair that matters belongs into a directory. The
    arguments are those of `check_file`.

    Yields:
        An empty directory; the body writes ``final.name`` and maybe ``final.name + ".data"`` into it.

    Raises:
        OutputError: `check_file` refuses, or the disk is full or does not allow it.
    """
    final = check_file(final, overwrite=overwrite, protect=protect)
    with _temporary(final) as staged:
        yield staged
        check_file(final, overwrite=overwrite, protect=protect)
        with _as_output_error(final):
            _flush(staged)
            data = f"{final.name}.data"
            if (staged / data).exists():
                (staged / data).replace(final.with_name(data))
            (staged / final.name).replace(final)
            _sync(final.parent)


def check_directory(final: Path, *, force: bool = False, protect: Sequence[Path] = ()) -> Path:
    """See to it, before any expensive work, that a run may write this directory; finish an interrupted swap.

    Args:
        final: The output directory: absent, empty, or made by infopt.
        force: Accept that files go which a user put into a directory that infopt made.
        protect: Inputs of the run, which must not lie in the directory that is replaced.

    Returns:
        The directory with symbolic links resolved.

    Raises:
        OutputError: It must not or cannot be written.
    """
    recover(final)
    final = _real(final)
    with _as_output_error(final):
        if final.exists() and not final.is_dir():
            raise OutputError(f"{final} is a file, not a directory", _ELSEWHERE)
        _check_place(final)
        for source in protect:
            if _real(source).is_relative_to(final):
                raise OutputError(f"the input {source} lies in the output directory {final}", _ELSEWHERE)
        if final.is_dir() and any(final.iterdir()):
            _check_owner(final, force)
    return final


def check_file(final: Path, *, overwrite: bool, protect: Sequence[Path] = ()) -> Path:
    """See to it, before any expensive work, that a run may write this file and its ``.data`` file.

    Args:
        final: The model file.
        overwrite: Whether an existing file may be replaced.
        protect: Inputs of the run, which must not be overwritten.

    Returns:
        The path with symbolic links resolved.

    Raises:
        OutputError: It must not or cannot be written.
    """
    final = _real(final)
    with _as_output_error(final):
        _check_parent(final)
        for path in (final, final.with_name(f"{final.name}.data")):
            if not path.exists():
                continue
            if not path.is_file():
                raise OutputError(f"{path} exists and is not a file", _ELSEWHERE)
            if any(source.exists() and path.samefile(source) for source in protect):
                raise OutputError(f"{path} is an input of this run and would be overwritten", _ELSEWHERE)
            if not overwrite:
                raise OutputError(f"{path} exists", f"{_ELSEWHERE}, or pass --force to overwrite it")
    return final


def recover(final: Path) -> None:
    """Finish or undo a journaled swap that a killed run left; wait for one that is under way.

    Whoever reads an output directory calls this first. Without a journal it does nothing.

    Raises:
        OutputError: There is a journal and the file system does not let it be finished.
    """
    final = _real(final)
    journal = _journal(final)
    with _as_output_error(final):
        if not journal.exists():
            return
        with _locked(journal) as descriptor:
            name = os.fsdecode(os.read(descriptor, 4096))
            if _pid(final, name) is not None:
                _settle(final.with_name(name), final)
            else:  # torn, so written by a run that died before its first rename
                journal.unlink()


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack as `SystemExit` (143), so that temporaries are removed.

    A second SIGTERM is ignored, so that it cannot stop the cleaning up. Outside of the main thread, where
    Python allows no handlers, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _check_place(final: Path) -> None:
    if final.is_mount():
        raise OutputError(f"{final} is a mount point and cannot be replaced", "choose a directory in it")
    if final.exists() and Path.cwd().is_relative_to(final):
        raise OutputError(f"{final} is the current directory or holds it, and cannot be replaced", _ELSEWHERE)
    _check_parent(final)


def _check_parent(final: Path) -> None:
    above = next(folder for folder in final.parents if folder.exists())
    if not above.is_dir():
        raise OutputError(f"cannot write {final}: {above} is not a directory", _ELSEWHERE)
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {final}: no permission to write in {above}", _ELSEWHERE)


def _check_owner(final: Path, force: bool) -> None:
    try:
        manifest = read_manifest(final)
    except InputError as error:
        what = f"{final} exists and was not made by infopt ({error.args[0]})"
        raise OutputError(what, _ELSEWHERE) from error
    strangers = unlisted(final, manifest)
    if strangers and not force:
        what = f"{final} holds {len(strangers)} file(s) that infopt did not write, such as {strangers[0]!r}"
        raise OutputError(what, f"move them away, {_ELSEWHERE}, or pass --force to delete them")


@contextmanager
def _temporary(final: Path) -> Iterator[Path]:
    staged = final.parent / f"{_prefix(final)}{os.getpid()}-{secrets.token_hex(4)}"
    created: list[Path] = []
    try:
        with _as_output_error(final):
            created += [folder for folder in final.parents if not folder.exists()]
            final.parent.mkdir(parents=True, exist_ok=True)
            _sweep(final)
            staged.mkdir()
        with _as_output_error(final, within=staged), _claimed(staged):
            yield staged
    finally:
        # While a journal stands, the staged directory may be the only complete one.
        if not _journal(final).exists():
            shutil.rmtree(staged, ignore_errors=True)
        for folder in created:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _as_output_error(final: Path, within: Path | None = None) -> Iterator[None]:
    """Turn OSErrors into OutputError; with ``within`` only a full disk, or a refusal to write below it."""
    try:
        yield
    except OSError as error:
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else None
        full = error.errno in _NO_SPACE
        denied_here = error.errno in _DENIED and (name is None or Path(name).is_relative_to(within or "/"))
        if within is not None and not full and not denied_here:
            raise
        where = f" ({name})" if name else ""
        remedy = f"free some space or {_ELSEWHERE}" if full else _ELSEWHERE
        raise OutputError(f"cannot write {final}: {error.strerror or error}{where}", remedy) from error


def _install(staged: Path, final: Path) -> None:
    if not final.exists() or not any(final.iterdir()):
        staged.rename(final)
    elif not _exchange(staged, final):
        _swap_by_journal(staged, final)
    _sync(final.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step; False when that is not to be had here, with nothing changed."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    # Why it failed does not matter: the journaled way meets the same obstacle, or none.
    done: int = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return done == 0


def _swap_by_journal(staged: Path, final: Path) -> None:
    with _locked(_journal(final)) as descriptor:
        os.truncate(descriptor, 0)
        os.write(descriptor, os.fsencode(staged.name))
        os.fsync(descriptor)
        _sync(final.parent)
        try:
            final.rename(f"{staged}.old")
            staged.rename(final)
            _sync(final.parent)
        finally:
            _settle(staged, final)


def _settle(staged: Path, final: Path) -> None:
    old = Path(f"{staged}.old")
    if not final.exists() and staged.exists():
        with suppress(OSError):
            staged.rename(final)
    if not final.exists() and old.exists():
        old.rename(final)
    shutil.rmtree(old, ignore_errors=True)
    _journal(final).unlink(missing_ok=True)


@contextmanager
def _locked(journal: Path) -> Iterator[int]:
    """Open the journal, creating it, and keep other runs from acting on it."""
    while True:
        with _opened(journal, os.O_RDWR | os.O_CREAT) as descriptor:
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_open_at(descriptor, journal):
                yield descriptor
                return


def _is_open_at(descriptor: int, path: Path) -> bool:
    # Who held the lock before may have removed the file that was waited for.
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _claimed(staged: Path) -> Iterator[None]:
    """Mark a temporary as in use by a lock that the kernel drops when the process dies."""
    with _opened(staged) as descriptor:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _sweep(final: Path) -> None:
    """Remove what dead runs left beside their output."""
    for entry in final.parent.iterdir():
        pid = _pid(final, entry.name)
        if pid is not None and not _is_live(entry, pid):
            shutil.rmtree(entry, ignore_errors=True)


def _is_live(staged: Path, pid: int) -> bool:
    # The lock alone has a gap after mkdir; the number alone is wrong in containers, where every run may be 1.
    try:
        with _opened(staged) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, BlockingIOError):
            return True
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return pid != os.getpid()


@contextmanager
def _opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _flush(staged: Path) -> None:
    for folder, _, files in os.walk(staged):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    with _opened(path) as descriptor:
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some file systems cannot sync a directory; a full disk must be told.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _prefix(final: Path) -> str:
    return f".{final.name}.infopt-tmp-"


def _journal(final: Path) -> Path:
    return final.parent / f".{final.name}.infopt-journal"


def _pid(final: Path, name: str) -> int | None:
    """The process number in the name of a temporary of ``final``; None for any other name."""
    match = re.fullmatch(re.escape(_prefix(final)) + r"(\d{1,9})-[0-9a-f]{8}(\.old)?", name)
    return int(match[1]) if match else None
