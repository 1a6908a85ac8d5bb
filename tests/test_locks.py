import time

from brainpretrain import locks


def test_a_lock_ends_with_its_object(tmp_path):
    lock = locks.try_take(tmp_path / "a" / "lock")
    assert locks.try_take(tmp_path / "a" / "lock") is None
    lock.release()
    started = time.monotonic()
    _, waited = locks.take(tmp_path / "a" / "lock", "not said")
    assert not waited and time.monotonic() - started < 1


def test_where_files_cannot_be_locked_the_lock_is_granted_and_said(tmp_path, monkeypatch, capsys):
    def refuse(descriptor, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    assert locks.try_take(tmp_path / "lock")
    assert "this file system has no locks" in capsys.readouterr().out
