# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A headless browser, driven through the pipes of its debugging protocol."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# The pipes are those of POSIX.
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None) if os.name == "posix" else None

needs_browser = pytest.mark.skipif(
    PROGRAM is None, reason=f"none of the programs {', '.join(NAMES)} is installed"
)


class Browser:
    """
    One page of a browser.

    ``errors`` holds what the page complained about on its console, and exceptions of its scripts.
    """

    def __init__(self, profile):
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()

        def arrange():  # the protocol is spoken on the descriptors 3 and 4
            copies = os.dup(to_browser), os.dup(from_browser)
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        command = [PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--mute-audio"]
        command += ["--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            command, preexec_fn=arrange, close_fds=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self._session, self.errors = b"", 0, None, []
        self._events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        self._session = None
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        os.close(self._out)
        os.close(self._in)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method, **parameters):
        """Call a method of the protocol, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self, timeout=60.0):
        """Return the next message; note what the page complains about."""
        end = time.monotonic() + timeout
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(end - time.monotonic(), 0.0))
            assert ready, "the browser does not answer"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser has gone"
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(raw)
        method, content = message.get("method", ""), message.get("params", {})
        if method == "Log.entryAdded" or method == "Runtime.exceptionThrown":
            self.errors.append(content)
        if method == "Runtime.consoleAPICalled":
            self.errors.append(content)
        if method == "Network.requestWillBeSent":
            self._events.append(content["request"]["url"])
        if method == "Page.loadEventFired":
            self._events.append(method)
        return message

    def open(self, path):
        """Open a file, wait for it, and return the addresses that it asked for."""
        self._events = []
        self.call("Page.navigate", url=path.absolute().as_uri())
        while "Page.loadEventFired" not in self._events:
            self._read()
        urls = [url for url in self._events if url != "Page.loadEventFired"]
        return [url for url in urls if not url.startswith("data:")]

    def run(self, script):
        """Return the value of an expression in the page; that of a promise when it is kept."""
        options = {"returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def look(self, width, height=900, *, dark=False, scale=1.0):
        """Set the size of the window, and the scheme of colours."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=False,
        )  # fmt: skip

    def screenshot(self, path, *, whole=False):
        """Write what the window shows, or the whole page, as PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))


@contextlib.contextmanager
def browser(profile):
    """Start a browser, and end it."""
    page = Browser(profile)
    try:
        yield page
    finally:
        page.close()
