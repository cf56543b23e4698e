import dataclasses
import io
import math
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from fusionproxy_jax import cli
from fusionproxy_jax.commands import sweep_display
from fusionproxy_jax.commands.sweep_display import SweepDisplay, table_lines
from fusionproxy_jax.config import Config, OptimizerConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps import run
from fusionproxy_jax.sweeps.folder import begin_sweep, member_dir
from fusionproxy_jax.sweeps.member_files import Status, write_status
from fusionproxy_jax.sweeps.run import SweepProgress, SweepResult

FILE = """
from fusionproxy_jax.config import Config
def sweep():
    return {f"seed={seed}": Config(seed=seed) for seed in range(2)}
"""


def progress(*, step=4, died_at=None, loss=0.5, speed=2.0):
    died = {"one": None, "longer": died_at}
    losses = {"one": loss, "longer": math.nan if died_at else 2 * loss}
    return SweepProgress(
        1,
        3,
        SimpleNamespace(
            step=step,
            num_steps=8,
            steps_per_second=speed,
            seconds_left=62.0,
            metrics={name: {"loss": value} for name, value in losses.items()},
            died_at=died,
        ),
    )


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "sweep.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def called(monkeypatch):
    """Has `run_sweep` note its arguments and leave members that ended so."""
    calls = SimpleNamespace(states=("finished", "finished"), signal_number=None)

    def run_sweep(members, cache, workdir, **options):
        calls.members, calls.cache, calls.options = members, cache, options
        begin_sweep(workdir, members, cache_hash="feed")
        statuses = {}
        for (name, config), state in zip(members.items(), calls.states, strict=True):
            statuses[name] = Status(
                state=state,
                step=3,
                num_steps=config.num_steps,
                died_at=4 if state == "dead" else None,
                program="feed",
                num_members=2,
                seconds_per_step=None,
                device="1 x cpu (cpu)",
            )
            write_status(member_dir(workdir, name), statuses[name])
        return SweepResult(statuses, calls.signal_number)

    monkeypatch.setattr(run, "run_sweep", run_sweep)
    return calls


def sweep(*arguments):
    return cli.run(["sweep", *map(str, arguments)])


def test_the_members_of_the_file_are_trained_and_reported(
    file, called, tmp_path, capsys
):
    workdir = tmp_path / "w"
    assert sweep(file, "--cache", "c", "--workdir", workdir) == 0
    assert called.members == {"seed=0": Config(), "seed=1": Config(seed=1)}
    assert called.cache == Path("c")
    assert called.options["index"] is None and called.options["count"] is None
    printed, _ = capsys.readouterr()
    assert printed.count("\n") == 1
    assert printed.startswith("No best member yet, by highest Qabf on held-out pairs")
    assert f"Report: {workdir / 'report/report.md'}" in printed
    assert (workdir / "report/report.json").exists()


def test_flags_reach_the_sweep(file, called, tmp_path):
    sweep(
        *(file, "--cache", "c", "--workdir", tmp_path / "w"),
        *("--index", 1, "--count", 2, "--members-at-once", 3, "--wandb", "mine"),
        *("--set", "num_steps=5", "log_every=1", "--set", "optimizer.ema_decay=0.5"),
    )
    assert called.options["index"] == 1 and called.options["count"] == 2
    assert called.options["members_at_once"] == 3 and called.options["wandb"] == "mine"
    expected = Config(
        num_steps=5, log_every=1, optimizer=OptimizerConfig(ema_decay=0.5), seed=1
    )
    assert called.members["seed=1"] == expected
    assert called.members["seed=0"] == dataclasses.replace(expected, seed=0)


@pytest.mark.parametrize(
    ("states", "number", "code", "told"),
    [
        (("finished", "finished"), None, 0, ""),
        (("dead", "finished"), None, 1, "1 of 2 members died: seed=0 at step 4"),
        (("stopped", "stopped"), signal.SIGTERM, 0, "stopped by SIGTERM, state saved"),
        (("dead", "stopped"), signal.SIGTERM, 0, "stopped by SIGTERM, state saved"),
        (("stopped", "stopped"), signal.SIGINT, 130, "stopped by SIGINT, state saved"),
    ],
)
def test_the_exit_code_says_how_it_ended(
    states, number, code, told, file, called, tmp_path, capsys
):
    called.states, called.signal_number = states, number
    workdir = tmp_path / "w"
    assert sweep(file, "--cache", "c", "--workdir", workdir) == code
    assert told in capsys.readouterr().err
    assert (workdir / "report/report.md").exists()


def test_the_report_alone_needs_neither_file_nor_cache(file, called, tmp_path, capsys):
    workdir = tmp_path / "w"
    sweep(file, "--cache", "c", "--workdir", workdir)
    (workdir / "report/report.md").unlink()
    called.members = None
    assert sweep("--workdir", workdir, "--report", "--best", "LOSS") == 0
    assert sweep(file, "--workdir", workdir, "--report") == 0
    assert called.members is None
    assert "lowest last training loss" in capsys.readouterr().out
    assert (workdir / "report/report.md").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--workdir", "w", "--cache", "c"], "a sweep needs FILE.py"),
        (["FILE", "--workdir", "w"], "a sweep needs --cache"),
        (["none.py", "--workdir", "w", "--cache", "c"], "no sweep file at none.py"),
        (["FILE", "--workdir", "w", "--cache", "c", "--best", "x"], "--best x is no"),
        (["FILE", "--workdir", "w", "--cache", "c", "--set", "x=1"], "--set x is no"),
        (["FILE", "--workdir", "w", "--cache", "no/cache"], "no/cache"),
        (["FILE", "--workdir", "w", "--cache", "c", "--index", "0"], "give both or"),
        (["--workdir", "none", "--report"], "none holds no sweep"),
        (
            ["FILE", "--workdir", "w", "--cache", "c", "--members-at-once", "0"],
            "--members-at-once is 0",
        ),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_nothing(
    arguments, sentence, file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    texts = [str(file) if text == "FILE" else text for text in arguments]
    with pytest.raises(FusionProxyError, match=re.escape(sentence)):
        sweep(*texts)
    assert list(tmp_path.iterdir()) == [file]


def test_plain_output_is_a_line_a_report():
    stream = io.StringIO()
    display = SweepDisplay(stream)
    display.tell("program 1 of 3: one, longer")
    display.show(progress(speed=math.nan))
    display.show(progress())
    display.show(progress(step=6, died_at=5))
    assert stream.getvalue().splitlines() == [
        "program 1 of 3: one, longer",
        "program 1/3  step 4/8  loss 0.5000 to 1.0000",
        "program 1/3  step 4/8  loss 0.5000 to 1.0000  2.00 steps/s  1m02 left",
        "program 1/3  step 6/8  loss 0.5000 to 0.5000  1 of 2 dead  2.00 steps/s"
        "  1m02 left",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_table_that_is_drawn_over(monkeypatch):
    monkeypatch.setattr(
        sweep_display.shutil,
        "get_terminal_size",
        lambda: SimpleNamespace(columns=80, lines=24),
    )
    terminal = Terminal()
    display = SweepDisplay(terminal)
    display.show(progress())
    display.show(progress(step=6, died_at=5, loss=0.25))
    first, second = terminal.getvalue().split("\x1b[3F\x1b[J")
    assert first.splitlines() == table_lines(progress())
    assert second.splitlines() == [
        "program 1/3  step 6/8  2.00 steps/s  1m02 left",
        "  one         0.2500  running",
        "  longer           -  died at step 5",
    ]
    # What is told stays above the next table.
    display.tell("program 2 of 3: other")
    display.show(progress())
    assert terminal.getvalue().count("\x1b[") == 2


def test_a_small_terminal_hides_members(monkeypatch):
    monkeypatch.setattr(
        sweep_display.shutil,
        "get_terminal_size",
        lambda: SimpleNamespace(columns=30, lines=3),
    )
    terminal = Terminal()
    SweepDisplay(terminal).show(progress())
    assert terminal.getvalue().splitlines() == [
        "program 1/3  step 4/8  2.00 s",
        "  and 2 more",
    ]
