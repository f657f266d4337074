"""Headless Chromium, driven through Selenium."""

import base64
import io
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--window-size=1280,900",
)
NOW = "document.querySelector('video').currentTime"
HEAD = "parseFloat(document.querySelector('.playhead').style.left)"


class Browser:
    """Opens pages as one kind of reader would."""

    def __init__(self, driver, timeout: float = 30.0):
        self.driver, self.timeout = driver, timeout

    def open(self, address, *, width=1280, height=900, dark=False, scripts=True):
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        if isinstance(address, pathlib.Path):
            address = address.as_uri()
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(address)

    def command(self, name, **arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def wait(self, script):
        """Waits until a JavaScript expression is true."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, self.timeout, 0.05).until(
            lambda _: self.run(f"return Boolean({script})"), message=script
        )

    def press(self, key):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def click(self, selector, share):
        """Clicks at a share of an element's width."""
        from selenium.webdriver.common.action_chains import ActionChains

        element = self.one(selector)
        middle = "{block: 'center', behavior: 'instant'}"
        self.run(f"arguments[0].scrollIntoView({middle})", element)
        offset = round((share - 0.5) * element.size["width"])
        actions = ActionChains(self.driver)
        actions.move_to_element_with_offset(element, offset, 0).click().perform()

    def errors(self):
        return [m["message"] for m in self.driver.get_log("browser")]

    def screenshot(self):
        data = self.command("Page.captureScreenshot", format="png")["data"]
        picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("L")
        return np.asarray(picture)


def start(profile: pathlib.Path) -> Browser:
    """Starts a browser, or skips the test that asks for one where there is none."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium with its driver (Debian: chromium, chromium-driver)")
    pytest.importorskip("selenium", reason="selenium is in the extra 'test'")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return Browser(webdriver.Chrome(options=options, service=Service(DRIVER)))
