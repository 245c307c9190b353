# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Worker processes: order, errors, deaths, interrupts."""

import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from muse_imphot.batch import Outcome, iterate, worker_count
from muse_imphot.exceptions import AssumptionWarning, GeometryError, UserError, WorkerError


def square(task):
    """Square a number; odd things happen for some of them."""
    if task == "user":
        raise GeometryError("the images do not overlap")
    if task == "bug":
        raise ZeroDivisionError("one\nover nothing")
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "lambda":
        return lambda: None
    if task == "slow":
        time.sleep(0.5)
        return "slow"
    return task**2


def die_once(task):
    """Die when the file is absent; live when it is there."""
    number, flag = task
    if number == 1 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def environment(task):
    """Return what a worker finds in its environment."""
    return os.environ.get(task), os.getpid()


def chatter(task):
    """Log and warn."""
    logging.getLogger("muse_imphot.demo").info("looking at %s", task)
    logging.getLogger("muse_imphot.demo").debug("in detail")
    warnings.warn(f"assumed for {task}", AssumptionWarning, stacklevel=1)
    return task


class OddError(UserError):
    """An error that cannot be unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def odd(task):
    """Raise an error that cannot be unpickled."""
    raise OddError("odd", task)


def values(outcomes):
    """Return values, or types of the errors."""
    return [item.value if item.error is None else type(item.error) for item in outcomes]


@pytest.mark.parametrize("jobs", [1, 2])
def test_order_and_errors(jobs):
    tasks = ["slow", 1, "user", "bug", 2]
    outcomes = list(iterate(square, tasks, jobs=jobs))
    assert [item.index for item in outcomes] == [0, 1, 2, 3, 4]
    assert values(outcomes) == ["slow", 1, GeometryError, WorkerError, 4]
    assert str(outcomes[2].error) == "the images do not overlap"
    assert outcomes[3].error.message == "ZeroDivisionError: one over nothing"
    assert "in square" in outcomes[3].error.traceback


def test_no_task():
    assert list(iterate(square, [], jobs=4)) == []


def test_a_dead_worker_is_blamed_alone():
    outcomes = list(iterate(square, [1, 2, "die", 3, 4, 5], jobs=2))
    assert values(outcomes) == [1, 4, WorkerError, 9, 16, 25]
    assert "died twice" in str(outcomes[2].error)


def test_two_deaths():
    outcomes = list(iterate(square, ["die", "die", 3], jobs=2))
    assert values(outcomes) == [WorkerError, WorkerError, 9]


def test_a_worker_that_dies_once_is_forgiven(tmp_path):
    tasks = [(number, tmp_path / "flag") for number in range(3)]
    assert values(iterate(die_once, tasks, jobs=2)) == [0, 1, 2]


def test_what_cannot_be_pickled_is_an_error_of_its_task():
    outcomes = list(iterate(square, [1, "lambda", 2], jobs=2))
    assert values(outcomes) == [1, WorkerError, 4]
    # Python 3.13 says it in other words.
    assert re.search("pickle|local object", str(outcomes[1].error))


def test_an_error_that_cannot_be_unpickled_does_not_break_the_pool():
    outcomes = list(iterate(odd, [1, 2], jobs=2))
    assert values(outcomes) == [UserError, UserError]
    assert str(outcomes[0].error) == "odd 1"


def test_workers_have_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS"]
    replies = values(iterate(environment, names, jobs=2))
    assert [text for text, _ in replies] == ["1", "1"]
    assert all(pid != os.getpid() for _, pid in replies)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_messages_of_workers_reach_the_parent(caplog):
    caplog.set_level(logging.INFO, logger="muse_imphot")
    with pytest.warns(AssumptionWarning, match="assumed for [ab]") as caught:
        assert values(iterate(chatter, ["a", "b"], jobs=2)) == ["a", "b"]
    assert sorted(str(item.message) for item in caught) == ["assumed for a", "assumed for b"]
    assert sorted(record.getMessage() for record in caplog.records) == [
        "looking at a",
        "looking at b",
    ]


def test_warnings_that_are_errors_fail_their_task_alone():
    outcomes = list(iterate(chatter, ["a", "b"], jobs=2))
    assert values(outcomes) == [WorkerError, WorkerError]
    assert "AssumptionWarning: assumed for a" in str(outcomes[0].error)


def test_foreign_executor():
    with ThreadPoolExecutor(2) as executor:
        outcomes = list(iterate(square, ["slow", 1, "user", "bug"], executor=executor))
        assert values(outcomes) == ["slow", 1, GeometryError, WorkerError]
        assert executor.submit(square, 3).result() == 9  # it still works


def test_foreign_executor_that_breaks():
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        outcomes = list(iterate(square, [1, "die", 2], executor=executor))
    assert values(outcomes) == [1, WorkerError, 4]


@pytest.mark.parametrize(
    ("jobs", "n_tasks", "expected"), [(1, 5, 1), (3, 2, 2), (4, 9, 4), (2, 0, 1), (-1000, 5, 1)]
)
def test_worker_count(jobs, n_tasks, expected):
    assert worker_count(jobs, n_tasks) == expected


def test_worker_count_of_zero_is_the_number_of_processors():
    assert 1 <= worker_count(0, 10**6) <= os.cpu_count()


@pytest.mark.parametrize("jobs", [1.5, True])
def test_worker_count_refuses(jobs):
    with pytest.raises(UserError, match="jobs: found .* a whole number of processes is needed"):
        worker_count(jobs, 3)


def test_outcome_is_plain():
    assert Outcome(3) == Outcome(3, None, None)


@pytest.mark.skipif(os.name != "posix", reason="signals of this kind need POSIX")
@pytest.mark.parametrize(
    ("whom", "number"), [("parent", "SIGINT"), ("group", "SIGINT"), ("group", "SIGHUP")]
)
def test_interrupt_ends_workers_and_their_temporary_files(tmp_path, whom, number):
    script = tmp_path / "work.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys, time
            from pathlib import Path
            from muse_imphot.batch import iterate

            # Where the tests themselves run in the background, interrupts are ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGHUP, signal.default_int_handler)

            def work(folder):
                path = Path(folder) / f"{os.getpid()}.tmp"
                try:
                    path.touch()
                    time.sleep(60)
                finally:
                    path.unlink()

            if __name__ == "__main__":
                try:
                    list(iterate(work, [sys.argv[1]] * 4, jobs=2))
                except KeyboardInterrupt:
                    print("interrupted")
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, script, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("*.tmp"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.stem) for path in tmp_path.glob("*.tmp")]
    assert len(workers) == 2
    (os.kill if whom == "parent" else os.killpg)(process.pid, getattr(signal, number))
    out, err = process.communicate(timeout=20)
    assert out == "interrupted\n"
    # The process in which multiprocessing counts semaphores ends with the terminal, and says so.
    assert err == "" or number == "SIGHUP"
    assert list(tmp_path.glob("*.tmp")) == []
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_workers_stop_when_nobody_wants_more(tmp_path):
    outcomes = iterate(sleep_or_return, [1, tmp_path / "a", tmp_path / "b"], jobs=2)
    assert next(outcomes).value == 1
    start = time.monotonic()
    outcomes.close()
    assert time.monotonic() - start < 10


def sleep_or_return(task):
    """Take long for a path."""
    if task != 1:
        time.sleep(60)
    return task
