"""Output that appears whole or not at all: kills, interrupts, full disks, and other people's files."""

from __future__ import annotations

import errno
import inspect
import itertools
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from infopt import output
from infopt.errors import OutputError
from infopt.manifest import NAME, Manifest, read_manifest, verify, write_manifest
from infopt.output import check_directory, check_file, recover, staged_directory, staged_file, terminable

FILES = ("model.onnx", "model.onnx.data", "engines/model.engine")
DEAD = 4_999_999  # Linux gives no process a number this high

# What every child process starts with; `fill`, `run` and `generation` are those of this file.
PRELUDE = """
import itertools, os, sys, time
from pathlib import Path
from infopt import output
from infopt.manifest import Manifest, read_manifest, verify, write_manifest
from infopt.output import staged_directory, staged_file, terminable
final, way = Path(sys.argv[1]), sys.argv[2]
if way == "journal":
    output._exchange = lambda one, other: False
"""


def child(script: str, final: Path, way: str = "exchange") -> subprocess.Popen[str]:
    known = f"FILES = {FILES}\n" + "\n".join(map(inspect.getsource, (fill, run, generation)))
    code = "from __future__ import annotations\n" + PRELUDE + known + textwrap.dedent(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command, pipe = [sys.executable, "-c", code, str(final), way], subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def fill(directory: Path, generation: str) -> None:
    for name in FILES:
        (directory / name).parent.mkdir(exist_ok=True, parents=True)
        (directory / name).write_text(generation)
    write_manifest(directory, Manifest(infopt=generation, target="t", graph="model.onnx"))


def run(final: Path, generation: str, error: BaseException | None = None, **options: Any) -> None:
    stage = staged_file if "overwrite" in options else staged_directory
    with stage(final, **options) as staged:
        fill(staged, generation)
        if error is not None:
            raise error


def generation(directory: Path) -> str:
    """The one generation that all files of a directory belong to."""
    assert verify(directory) == []
    found = {(directory / name).read_text() for name in FILES} | {read_manifest(directory).infopt}
    assert len(found) == 1, found
    return found.pop()


def only(final: Path) -> str:
    """The generation of a directory beside which nothing was left."""
    assert siblings(final) == []
    return generation(final)


def siblings(final: Path) -> list[str]:
    return sorted(path.name for path in final.parent.iterdir() if path != final)


def system_error(number: int, path: Path | str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path and str(path))


@pytest.fixture
def final(tmp_path: Path) -> Path:
    """An output directory that an earlier run left."""
    fill(tmp_path / "out", "1")
    return tmp_path / "out"


@pytest.fixture(params=["exchange", "journal"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "journal":
        monkeypatch.setattr(output, "_exchange", lambda one, other: False)
    return str(request.param)


def test_a_killed_run_leaves_one_complete_generation(final: Path, way: str) -> None:
    forever = "for n in map(str, itertools.count()): run(final, n); print(n, flush=True)"
    for turn in range(20):
        with child(forever, final, way) as loop:
            assert loop.stdout.readline() == "0\n"
            time.sleep(turn * 0.0015)
            loop.kill()
        if way == "journal":
            recover(final)
        generation(final)
    run(final, "last")
    assert only(final) == "last"


def test_a_death_before_any_one_system_call_leaves_one_complete_generation(final: Path, way: str) -> None:
    # Python announces its calls to audit hooks, so a fork can die exactly before the n-th one.
    script = """
        def die_before(number):
            left = itertools.count(number, -1)
            def hook(event, arguments):
                if event.split(".")[0] in ("os", "open", "shutil", "fcntl", "ctypes") and next(left) == 0:
                    os._exit(9)
            sys.addaudithook(hook)

        seen, code = set(), 9
        for number in itertools.takewhile(lambda number: code, itertools.count()):
            run(final, "old")
            assert [path.name for path in final.parent.iterdir()] == ["out"], number
            pid = os.fork()
            if pid == 0:
                with staged_directory(final) as staged:
                    fill(staged, "new")
                    die_before(number)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert code in (0, 9), code
            if way == "journal":
                output.recover(final)
            seen.add(generation(final))
        print(number, *sorted(seen))
    """
    with child(script, final, way) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    deaths, *seen = out.split()
    assert int(deaths) > 20
    assert seen == ["new", "old"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_terminated_run_leaves_nothing(tmp_path: Path, number: int, code: int) -> None:
    script = """
        with terminable(), staged_directory(final) as staged:
            fill(staged, "1")
            print("ready", flush=True)
            time.sleep(60)
    """
    with child(script, tmp_path / "made" / "by" / "the" / "run") as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(timeout=30) == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["empty", "made/by/the/run"])
def test_new_output_appears_with_the_usual_permissions(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    run(tmp_path / place, "1")
    assert generation(tmp_path / place) == "1"
    assert (tmp_path / place).stat().st_mode == (tmp_path / "empty").stat().st_mode
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.usefixtures("way")
def test_a_second_run_replaces_the_first_whole(final: Path) -> None:
    (final / "gone.txt").write_text("of the first run only")
    write_manifest(final, read_manifest(final))
    final.chmod(0o750)
    run(final, "2")
    assert only(final) == "2"
    assert not (final / "gone.txt").exists()
    assert stat.S_IMODE(final.stat().st_mode) == 0o750


@pytest.mark.parametrize("error", [RuntimeError(), KeyboardInterrupt(), SystemExit()])
def test_a_failed_run_keeps_the_old_output(final: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(final, "2", error)
    assert only(final) == "1"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_old_output(final: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    error = system_error(number, "/spool")
    with pytest.raises(OutputError, match=rf"cannot write {final}: .*/spool.*free some space"):
        run(final, "2", error)
    monkeypatch.setattr(output.os, "fsync", Mock(side_effect=error))
    with pytest.raises(OutputError, match=rf"cannot write {final}: .*/spool.*free some space"):
        run(final, "2")
    assert only(final) == "1"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("name", "content"), [("thesis.tex", "years"), (NAME, "{}"), (NAME, '{"schema')])
def test_a_foreign_directory_is_untouched(tmp_path: Path, name: str, content: str, force: bool) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / name).write_text(content)
    with pytest.raises(OutputError, match=r"exists and was not made by infopt.*choose another -o"):
        run(tmp_path / "theirs", "1", AssertionError("the body must not run"), force=force)
    assert [path.read_text() for path in tmp_path.rglob("*.*")] == [content]


def test_a_directory_that_appears_during_the_run_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not made by infopt"), staged_directory(tmp_path / "out"):
        (tmp_path / "out" / "mine").mkdir(parents=True)
    assert (tmp_path / "out" / "mine").is_dir()
    assert siblings(tmp_path / "out") == []


def test_files_a_user_put_beside_ours_go_only_by_force(final: Path) -> None:
    (final / "note.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"note\.txt.*--force"):
        run(final, "2")
    assert (final / "note.txt").read_text() == "mine"
    run(final, "2", force=True)
    assert generation(final) == "2"


@pytest.mark.parametrize("below", ["", "out", "deep/er/out"])
def test_a_file_in_the_way_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="not a directory"):
        run(tmp_path / "file" / below, "1")
    if below:
        with pytest.raises(OutputError, match="not a directory"):
            run(tmp_path / "file" / below, "1", overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(final / "engines")
    for place, reason in ((Path(".."), "current directory"), (Path("/"), "mount point")):
        with pytest.raises(OutputError, match=reason):
            check_directory(place)
    # A stand-in for missing permission: root, as whom containers often run tests, lacks none.
    monkeypatch.setattr(output.os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="no permission to write"):
        check_directory(final.with_name("other"))


def test_links_are_followed_to_inputs_and_to_the_output(final: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(final)
    for source in (final / "model.onnx", link / "model.onnx"):
        with pytest.raises(OutputError, match="lies in the output directory"):
            check_directory(final, protect=[source])
    run(link, "2", protect=[tmp_path / "other.onnx"])
    assert link.is_symlink()
    assert generation(final) == "2"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_only_a_refusal_that_concerns_the_output_is_an_output_error(tmp_path: Path, number: int) -> None:
    with pytest.raises(OutputError, match=r"model\.onnx"), staged_directory(tmp_path / "out") as staged:
        raise system_error(number, staged / "model.onnx")
    with pytest.raises(OSError, match="secret"):
        run(tmp_path / "out", "1", system_error(number, "/elsewhere/secret.onnx"))
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "out", "1", system_error(errno.ENOENT))
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_dead_runs_are_swept_and_live_runs_left_alone(final: Path, tmp_path: Path) -> None:
    live, other = f".out.infopt-tmp-{os.getppid()}-0123abcd", f".other.infopt-tmp-{DEAD}-0123abcd"
    for name in (live, other, f".out.infopt-tmp-{DEAD}-0123abcd"):
        fill(tmp_path / name, "left")
    fill(tmp_path / f".out.infopt-tmp-{os.getpid()}-0123abcd", "left by an earlier process 1 of a container")
    with staged_directory(final) as slow:
        fill(slow, "slow")
        run(final, "quick")
        assert generation(final) == "quick"
    assert generation(final) == "slow"
    assert siblings(final) == sorted([live, other])


# The states of the table in infopt.output; what comes out is what the first item of each says.
@pytest.mark.parametrize("state", ["out=old tmp=new", "tmp=new old=old", "old=old", "out=new old=old"])
def test_a_journal_left_in_any_state_is_completed(tmp_path: Path, state: str) -> None:
    final, staged = tmp_path / "out", tmp_path / f".out.infopt-tmp-{DEAD}-0123abcd"
    places = {"out": final, "tmp": staged, "old": Path(f"{staged}.old")}
    there = [item.split("=") for item in state.split()]
    for place, which in there:
        fill(places[place], which)
    (tmp_path / ".out.infopt-journal").write_text(staged.name)
    assert check_directory(final) == final
    assert generation(final) == there[0][1]
    assert not (tmp_path / ".out.infopt-journal").exists()
    run(final, "next")
    assert siblings(final) == []


@pytest.mark.parametrize("content", ["", ".out.infopt-t", "../../victim", "victim", "\udcff"])
def test_a_journal_that_names_no_temporary_touches_nothing(final: Path, content: str) -> None:
    fill(final.parent / "victim", "kept")
    (final.parent / ".out.infopt-journal").write_bytes(os.fsencode(content))
    recover(final)
    assert generation(final) == "1"
    assert generation(final.parent / "victim") == "kept"
    assert siblings(final) == ["victim"]


@pytest.mark.parametrize(("failing", "expected"), [({1}, "1"), ({2}, "2"), ({2, 3}, "1"), ({2, 3, 4}, "2")])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError()])
def test_a_journaled_swap_that_fails_halfway_settles_if_it_can(
    final: Path, monkeypatch: pytest.MonkeyPatch, failing: set[int], expected: str, error: BaseException
) -> None:
    rename, calls = Path.rename, itertools.count(1)

    def fragile(self: Path, target: Path | str) -> Path:
        if (call := next(calls)) in failing:
            raise OSError if call > 2 else error
        return rename(self, target)

    monkeypatch.setattr(output, "_exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fragile)
    with pytest.raises((KeyboardInterrupt, OutputError)):
        run(final, "2")
    assert final.exists() != (4 in failing)
    monkeypatch.undo()
    recover(final)
    assert only(final) == expected


def test_recover_waits_for_a_swap_that_is_under_way(tmp_path: Path) -> None:
    final, staged = tmp_path / "out", tmp_path / f".out.infopt-tmp-{DEAD}-0123abcd"
    fill(staged, "new")
    with ThreadPoolExecutor(1) as pool, output._locked(tmp_path / ".out.infopt-journal") as descriptor:
        os.write(descriptor, staged.name.encode())
        pool.submit(recover, final)
        time.sleep(0.1)
        assert not final.exists()
    assert only(final) == "new"


def test_a_data_file_is_moved_in_before_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: moved.append(self.name) or replace(self, to))
    with staged_file(tmp_path / "made" / "small.onnx", overwrite=False) as staged:
        (staged / "small.onnx").touch()
        (staged / "small.onnx.data").touch()
    assert moved == ["small.onnx.data", "small.onnx"]
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["small.onnx", "small.onnx.data"]


def test_a_file_is_replaced_when_the_run_succeeds_and_only_then(tmp_path: Path) -> None:
    final = tmp_path / "model.onnx"
    run(final, "1", overwrite=False)
    with pytest.raises(OutputError, match="No space"):
        run(final, "2", system_error(errno.ENOSPC), overwrite=True)
    assert final.read_text() == "1"
    run(final, "3", overwrite=True)
    assert final.read_text() == "3"
    assert siblings(final) == ["model.onnx.data"]


@pytest.mark.parametrize("kind", ["same", "symlink", "hardlink", "data"])
def test_the_input_model_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    final = tmp_path / "model.onnx"
    source = {"same": final, "data": tmp_path / "model.onnx.data"}.get(kind, tmp_path / "input.onnx")
    source.write_text("mine")
    if kind.endswith("link"):
        (final.symlink_to if kind == "symlink" else final.hardlink_to)(source)
    with pytest.raises(OutputError, match="is an input of this run"):
        run(final, "2", overwrite=True, protect=[source])
    assert source.read_text() == "mine"


def test_only_a_file_is_overwritten_and_only_when_told(tmp_path: Path) -> None:
    (tmp_path / "old.onnx").touch()
    with pytest.raises(OutputError, match="--force"):
        check_file(tmp_path / "old.onnx", overwrite=False)
    with pytest.raises(OutputError, match="not a file"):
        check_file(tmp_path, overwrite=True)


def test_sigterm_unwinds_once_and_the_handler_is_restored() -> None:
    def terminated_twice() -> None:
        with terminable(), ExitStack() as cleaning_up:
            cleaning_up.callback(os.kill, os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="143") as caught:
        terminated_twice()
    assert caught.value.__context__ is None, "the second signal interrupted the cleaning up"
    assert signal.getsignal(signal.SIGTERM) is before
    with ThreadPoolExecutor(1) as pool:  # where Python allows no handlers
        assert pool.submit(terminable().__enter__).result() is None
