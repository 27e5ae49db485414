"""Files are whole, and JSON is JSON."""

from __future__ import annotations

import json
import math

import pytest

from minigen.runs import files


def test_files_are_whole_or_not_there(tmp_path, monkeypatch) -> None:
    files.write(tmp_path / "a", b"old")

    def dies(*paths: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_what_cannot_be_written_leaves_nothing_and_says_what_to_do(tmp_path, monkeypatch) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"cannot write .*folder \(Is a directory\). See that it is no folder"):
        files.write(tmp_path / "folder", b"new")

    def full(path: object, content: bytes) -> int:
        open(path, "wb").close()
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(files.Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device\).* the disk has room"):
        files.write(tmp_path / "a", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_folder_below_a_file_is_refused_with_what_to_do(tmp_path) -> None:
    (tmp_path / "a").touch()
    for path in (tmp_path / "a" / "b" / "c.json", tmp_path / "a" / "c.json"):
        with pytest.raises(OSError, match=r"cannot make the folder .*\. See that nothing above it is a file"):
            files.write_json(path, {})


def test_json_is_json_where_a_figure_is_not_finite(tmp_path) -> None:
    files.write_json(tmp_path / "new" / "a.json", {"a": {"b": math.inf, "c": 1.5}, "d": math.nan, "e": "text"})
    text = (tmp_path / "new" / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"a": {"b": None, "c": 1.5}, "d": None, "e": "text"}
