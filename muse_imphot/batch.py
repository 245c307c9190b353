# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Many exposures at once: worker processes, and what to do when one of them dies.

`iterate` calls a function for each of many tasks and yields what became of them in the order of
the tasks. An exception ends its own task only. When the system kills a worker (memory, a crash),
a process pool declares every unfinished task dead; here the finished ones are kept, those that
were under way run again one at a time, and only the one that dies again is blamed.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import warnings
from collections import deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ProcessPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_connection

from .exceptions import UserError, WorkerError

__all__ = ["Outcome", "iterate", "worker_count"]

log = logging.getLogger(__name__)

# Every worker computes with one thread: processes times threads would fight for the processors.
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ),
    "1",
)
_DEATH = (
    "its worker process died twice (killed by the system, which may lack memory, or crashed); "
    "free memory or use fewer jobs, and run it again; a script must call this under "
    "if __name__ == '__main__':"
)
_PATIENCE = 5.0  # seconds that a worker gets to remove its temporary files

# What ends a task: Ctrl-C, the system, and a terminal that is closed, where there is such a signal.
_HANGUP = getattr(signal, "SIGHUP", None)
_SIGNALS = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, _HANGUP)))


@dataclass(frozen=True)
class Outcome:
    """
    What became of one task.

    Parameters
    ----------
    index : int
        The position of the task in the input.
    value : object
        What the function returned; None if it failed.
    error : UserError or WorkerError, optional
        Why it failed. A `WorkerError` carries the traceback of an unforeseen exception.
    """

    index: int
    value: object = None
    error: Exception | None = None


def worker_count(jobs, n_tasks):
    """
    Return how many workers to start.

    Parameters
    ----------
    jobs : int
        The number asked for; 0 means one per processor, -n means n less than that.
    n_tasks : int
        The number of tasks.

    Returns
    -------
    int
        At least 1, at most ``n_tasks``.

    Raises
    ------
    UserError
        If ``jobs`` is not a whole number.
    """
    if isinstance(jobs, bool) or int(jobs) != jobs:
        raise UserError(f"jobs: found {jobs!r}; a whole number of processes is needed")
    if jobs <= 0:
        try:
            available = len(os.sched_getaffinity(0))
        except AttributeError:  # not every system tells
            available = os.cpu_count() or 1
        jobs = available + jobs
    return max(1, min(int(jobs), n_tasks))


def iterate(function, tasks, *, jobs=1, executor=None):
    """
    Call a function for each task, and yield the outcomes in the order of the tasks.

    Parameters
    ----------
    function : callable
        Called with one task. For ``jobs`` other than 1 it must be importable (a function of a
        module), and the tasks and what it returns must pickle.
    tasks : iterable
        The tasks.
    jobs : int, optional
        The number of worker processes; 1 works in this process, 0 starts one per processor. A
        script that asks for more than one needs the usual ``if __name__ == "__main__":``.
    executor : `concurrent.futures.Executor`, optional
        Use this one instead; it is not shut down.

    Yields
    ------
    Outcome
        One per task.
    """
    tasks = list(tasks)
    if executor is not None:
        steps = _with_executor(function, tasks, executor)
    elif (jobs := worker_count(jobs, len(tasks))) > 1:
        steps = _with_processes(function, tasks, jobs)
    else:
        steps = (_call(function, index, task) for index, task in enumerate(tasks))
    early = {}
    expected = 0
    with closing(steps):  # when nobody wants more, the workers stop
        for outcome in steps:
            early[outcome.index] = outcome
            while expected in early:
                yield early.pop(expected)
                expected += 1


def _call(function, index, task):
    """Call the function; an exception becomes an outcome."""
    try:
        return Outcome(index, function(task))
    except UserError as exc:
        return Outcome(index, error=exc)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the other tasks go on
        return Outcome(index, error=_unforeseen(exc))


def _unforeseen(exc):
    """Return the `WorkerError` for an unforeseen exception, as one line with its traceback."""
    text = " ".join(f"{type(exc).__name__}: {exc}".split())
    return WorkerError(text, traceback.format_exception(exc))


# ------------------------------------------------------------------------- in this process


def _with_executor(function, tasks, executor):
    """Yield the outcomes as they come from an executor of the caller."""
    running = {}
    lost = []
    try:
        for index, task in enumerate(tasks):
            try:
                running[executor.submit(_call, function, index, task)] = (index, task)
            except BrokenExecutor:
                lost.append((index, task))
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index, task = running.pop(future)
                try:
                    yield _result(future, index)
                except BrokenExecutor:
                    lost.append((index, task))
    finally:
        for future in running:
            future.cancel()
    for index, task in sorted(lost, key=lambda pair: pair[0]):
        yield _alone(function, index, task)


def _with_processes(function, tasks, jobs):
    """Yield the outcomes as they come from worker processes."""
    waiting = deque(enumerate(tasks))
    running = {}
    pool = _start_pool(jobs)
    try:
        while waiting or running:
            # No more than one task per worker is handed out, so that a broken pool names suspects.
            broken = not _hand_out(pool, function, waiting, running, jobs)
            lost = []
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index, task = running.pop(future)
                try:
                    yield _result(future, index)
                except BrokenExecutor:
                    broken = True
                    lost.append((index, task))
            if broken:
                lost += yield from _salvage(running)
                if not lost and waiting:
                    lost.append(waiting.popleft())
                log.warning("a worker process died; what was under way runs again, one at a time")
                _stop_pool(pool)
                for index, task in sorted(lost, key=lambda pair: pair[0]):
                    yield _alone(function, index, task)
                pool = _start_pool(jobs)
    finally:
        _stop_pool(pool)


def _hand_out(pool, function, waiting, running, jobs):
    """Submit tasks until every worker has one; return False if the pool is broken."""
    while waiting and len(running) < jobs:
        index, task = waiting[0]
        try:
            future = _submit(pool, function, index, task)
        except BrokenExecutor:
            return False
        running[future] = waiting.popleft()
    return True


def _salvage(running):
    """Yield the outcomes that a broken pool still has; return the tasks that it lost."""
    lost = []
    wait(running)
    while running:
        future, (index, task) = running.popitem()
        try:
            yield _result(future, index)
        except BrokenExecutor:
            lost.append((index, task))
    return lost


def _alone(function, index, task):
    """Run a task in a process of its own, and blame it if that dies."""
    pool = _start_pool(1)
    try:
        return _result(_submit(pool, function, index, task), index)
    except BrokenExecutor:
        return Outcome(index, error=WorkerError(_DEATH))
    finally:
        _stop_pool(pool)


def _result(future, index):
    """Return the outcome of a future, and repeat here what its worker had to say."""
    try:
        reply = future.result()
    except BrokenExecutor:
        raise
    except Exception as exc:  # noqa: BLE001 - what does not pickle, or a foreign executor
        return Outcome(index, error=_unforeseen(exc))
    if isinstance(reply, Outcome):
        return reply
    outcome, notes = reply
    for name, level, text in notes["records"]:
        logging.getLogger(name).log(level, "%s", text)
    try:
        for category, text in notes["warnings"]:
            warnings.warn(text, category, stacklevel=2)
    except Warning as exc:  # warnings are errors here
        return Outcome(index, error=_unforeseen(exc))
    return outcome


def _start_pool(jobs):
    # Forked processes inherit locks and threads in any state; spawned ones start clean.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare_worker)


def _submit(pool, function, index, task):
    """Submit a task; the processes start here, and must find the number of threads set."""
    level = logging.getLogger("muse_imphot").getEffectiveLevel()
    with _environment(_ONE_THREAD):
        return pool.submit(_call_in_worker, function, index, task, level)


@contextmanager
def _environment(values):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _stop_pool(pool):
    """Stop the workers at once: nobody waits for what they still do."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_PATIENCE)
        if process.exitcode is None:
            process.kill()


# --------------------------------------------------------------------------- in the worker


def _prepare_worker():
    """Leave Ctrl-C to the parent while idle, and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    if hasattr(signal, "pthread_sigmask"):
        # A signal that this thread received would not wake the main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, set(_SIGNALS))
    wait_connection([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _interrupt(signum, frame):
    # Once is enough: a second signal would cut short the removal of temporary files.
    for number in _SIGNALS:
        signal.signal(number, _do_nothing)
    raise KeyboardInterrupt


def _do_nothing(signum, frame):
    """Ignore a signal that may have arrived already, where SIG_IGN would complain."""


@contextmanager
def _interruptible():
    """Let a signal end the task as an exception, which removes temporary files, and then exit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = set(_SIGNALS)
    if _HANGUP is not None and signal.getsignal(_HANGUP) is signal.SIG_IGN:  # by nohup
        signals.remove(_HANGUP)
    before = {number: signal.signal(number, _interrupt) for number in signals}
    try:
        yield
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    for number, handler in before.items():
        signal.signal(number, handler)


class _Collector(logging.Handler):
    """Keep log records as plain tuples, which pickle."""

    def __init__(self, records):
        super().__init__()
        self.records = records

    def emit(self, record):
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        self.records.append((record.name, record.levelno, text))


def _call_in_worker(function, index, task, level):
    """Call the function in a worker; return the outcome and what was logged and warned."""
    records = []
    logger = logging.getLogger("muse_imphot")
    handler = _Collector(records)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    try:
        with _interruptible(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            outcome = _call(function, index, task)
    finally:
        logger.removeHandler(handler)
    notes = [(warning.category, str(warning.message)) for warning in caught]
    return _portable(outcome), {"records": records, "warnings": _portable_warnings(notes)}


def _portable(outcome):
    """Return the outcome with an error that pickles: one that does not would break the pool."""
    if outcome.error is None or _pickles(outcome.error):
        return outcome
    kind = UserError if isinstance(outcome.error, UserError) else WorkerError
    return Outcome(outcome.index, error=kind(str(outcome.error)))


def _portable_warnings(notes):
    return [(category if _pickles(category) else UserWarning, text) for category, text in notes]


def _pickles(thing):
    try:
        return pickle.loads(pickle.dumps(thing)) is not None
    except Exception:  # noqa: BLE001 - pickling runs code of others
        return False
