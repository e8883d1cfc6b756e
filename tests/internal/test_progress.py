"""Progress off a terminal: a line every half minute."""

from ttt_jax._internal import progress


def test_lines_say_how_much_is_left(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.Progress("sweep, cells", 10, done=4, log=True) as bar:
        for seconds in (20, 40, 50, 100):
            clock[0] = seconds
            bar.advance()
        clock[0] = 400
        bar.advance(0, "relative error 1e-02")
    assert capsys.readouterr().err.splitlines() == [
        "sweep, cells: 6 of 10, about 1 min left",  # 2 in 40 s, 4 left
        "sweep, cells: 8 of 10, about 1 min left",
        "sweep, cells: 8 of 10, about 3 min left, relative error 1e-02",
    ]


def test_nothing_done_yet_gives_no_estimate(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.Progress("tasks", 3, log=True) as bar:
        clock[0] = 31
        bar.advance(0)
    assert capsys.readouterr().err == "tasks: 0 of 3\n"
