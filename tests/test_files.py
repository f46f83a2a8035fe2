"""Files: bounded reading, atomic writing, sentences with the system's reason."""

import json
import os
import stat

import pytest

from innerloop import files
from innerloop.errors import InputError


def test_written_whole_with_the_mode_that_was_there(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask()
    path.chmod(0o600)
    files.write_json(path, {"x": 2})
    assert files.read_json(path) == {"x": 2} and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a.json"]


def umask():
    now = os.umask(0)
    os.umask(now)
    return now


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    files.write_text(path, "old")

    def put(beside):
        beside.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write(path, put)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_what_a_killed_writer_left_is_swept_and_what_is_being_written_stays(tmp_path):
    left = tmp_path / ".a.0123456789ab.tmp"
    left.write_text("half")
    other = tmp_path / ".mine.tmp"
    other.write_text("a user's own")

    def put(beside):
        beside.write_text("new")
        assert files.sweep(tmp_path) == [] and beside.exists()

    files.write(tmp_path / "a", put)
    assert not left.exists() and other.exists()


def test_devices_pipes_and_folders_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/full", tmp_path):
        with pytest.raises(InputError):
            files.read_bytes(path)
        with pytest.raises(InputError):
            files.write_text(path, "x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/new-file", "/proc/self/fd/1", "/dev/fd/1"])
def test_nothing_is_written_among_the_systems_own_files(path):
    """Standard output that goes to a file is a link to a regular one: replacing the link would break the system."""
    was = os.readlink("/dev/stdout")
    with pytest.raises(InputError):
        files.write_text(path, "x")
    assert os.readlink("/dev/stdout") == was


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "link").read_text() == "new"


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "{", "", '{"a": ' * 200 + "1" + "}" * 200])
def test_bad_json_is_one_sentence(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"a\.json"):
        files.read_json(path)


def test_what_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="bytes"):
        files.read_bytes(path)


def test_the_systems_reason_is_told(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({}))

    def full(*_, **__):
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(InputError, match="Too many open files") as told:
        files.read_json(path)
    assert "damaged" not in str(told.value)
