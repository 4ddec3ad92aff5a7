"""A headless Chromium, driven over the DevTools protocol: just what the tests of a page need."""

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import threading
import time

from websockets.sync.client import connect

GUARD = 30.0  # seconds after which something that was to happen has not

# What Chromium says of a script whose page went away under it.
GONE = ("navigated or closed", "context was destroyed", "Promise was collected", "Cannot find default execution context")

# Resolves when the condition holds. Asked again whenever the page changes, and now and then for what changes no node.
WAIT = """
new Promise((resolve, reject) => {
  const holds = () => { try { return %(condition)s; } catch { return false; } };
  const done = (end) => { watcher.disconnect(); clearInterval(again); clearTimeout(late); end(); };
  const ask = () => { if (holds()) done(resolve); };
  const watcher = new MutationObserver(ask);
  const again = setInterval(ask, 50);
  const late = setTimeout(() => done(() => reject(new Error('not so after %(guard)d s'))), %(guard)d * 1000);
  watcher.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  ask();
})
"""


class Browser:
    """One Chromium with a profile of its own, gone with `close`."""

    def __init__(self):
        program = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
        self._profile = tempfile.TemporaryDirectory(prefix="page-test-", ignore_cleanup_errors=True)
        flags = [
            "--headless=new",
            "--no-sandbox",  # as root there is none
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--remote-debugging-port=0",
            f"--user-data-dir={self._profile.name}",
        ]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", program, *flags, "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        self._open = contextlib.ExitStack()
        self._socket = self._open.enter_context(connect(self._address(), max_size=None))
        self._messages = 0
        self.exceptions: list[str] = []  # thrown in pages, and caught by nobody

    def _address(self) -> str:
        said = []
        for line in self._process.stderr:
            said.append(line)
            if line.startswith("DevTools listening on "):
                # The rest of what it says is nobody's; unread, it would stop the browser at last.
                self._rest = threading.Thread(target=self._process.stderr.read)
                self._rest.start()
                return line.split()[-1]
        raise RuntimeError("Chromium did not start:\n" + "".join(said))

    def call(self, method: str, session: str | None = None, **parameters):
        self._messages += 1
        message = {"id": self._messages, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=2 * GUARD))
            if answer.get("method") == "Runtime.exceptionThrown":
                self.exceptions.append(answer["params"]["exceptionDetails"]["exception"]["description"])
            if answer.get("id") == self._messages:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, url: str) -> "Page":
        """A page in a context of its own, as in another browser."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable", session)
        self.call("Page.navigate", session, url=url)
        return Page(self, target, session)

    def close(self) -> None:
        self._open.close()
        self._process.kill()
        self._process.wait(GUARD)
        self._rest.join(GUARD)
        self._process.stderr.close()
        self._profile.cleanup()


class Page:
    """One tab."""

    def __init__(self, browser: Browser, target: str, session: str):
        self._browser, self._target, self._session = browser, target, session

    def run(self, script: str):
        """Evaluates an expression, waits for its promise, and returns its value."""
        answer = self._browser.call(
            "Runtime.evaluate", self._session, expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until a JavaScript condition holds, on this page or the one that comes after it."""
        until = time.monotonic() + GUARD
        while True:
            try:
                self.run(WAIT % {"condition": condition, "guard": GUARD})
                return
            except RuntimeError as error:
                if time.monotonic() < until and any(word in str(error) for word in GONE):
                    continue  # the page went while we waited on it
                read = self.run("document.body.innerText")
                raise AssertionError(f"{condition}: {error}; the page reads:\n{read}") from None

    def wait_for_text(self, selector: str, text: str) -> None:
        self.wait(f"document.querySelector({json.dumps(selector)}).innerText.includes({json.dumps(text)})")

    def texts(self, selector: str) -> list[str]:
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.innerText)")

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, text: str) -> None:
        """Types into whatever has the focus."""
        self._browser.call("Input.insertText", self._session, text=text)

    def press_enter(self) -> None:
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self._browser.call("Input.dispatchKeyEvent", self._session, type="keyDown", **key)
        self._browser.call("Input.dispatchKeyEvent", self._session, type="keyUp", **key)

    def resize(self, width: int, height: int) -> None:
        self._browser.call(
            "Emulation.setDeviceMetricsOverride", self._session, width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def picture(self) -> bytes:
        """All of the page as PNG, also what lies below the fold."""
        self._browser.call("Emulation.setScrollbarsHidden", self._session, hidden=True)
        taken = self._browser.call("Page.captureScreenshot", self._session, format="png", captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)
