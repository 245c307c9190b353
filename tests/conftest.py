# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Settings of the test session."""

import signal
import sys
from pathlib import Path

import pytest

# The tests share a helper module; they are run against the installed package, from anywhere.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config):
    """List the versions that matter in the header of the test report."""
    try:
        from pytest_astropy_header.display import PYTEST_HEADER_MODULES, TESTED_VERSIONS
    except ImportError:
        return
    from muse_imphot import __version__

    PYTEST_HEADER_MODULES.clear()
    for package in ("numpy", "scipy", "astropy", "photutils", "reproject", "regions"):
        PYTEST_HEADER_MODULES[package] = package
    for package in ("specutils", "synphot", "matplotlib"):
        PYTEST_HEADER_MODULES[package] = package
    TESTED_VERSIONS["muse_imphot"] = __version__


@pytest.fixture
def usual_signals():
    """Heed signals in the usual way, though nohup or a shell's ``&`` may have them ignored."""
    usual = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}
    numbers = {getattr(signal, name): do for name, do in usual.items() if hasattr(signal, name)}
    before = {number: signal.signal(number, do) for number, do in numbers.items()}
    yield
    for number, do in before.items():
        signal.signal(number, do)
