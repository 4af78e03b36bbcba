"""Watches a run that goes on in a real browser, and prints what is seen as JSON: live.py BROWSER URL FOLDER FIRST SECOND.

URL is that of the proxy, or one with a path, of a page that is beside it.
The run waits for the file `go` in FOLDER before it asks for what has SECOND in its URL, and for `done` before it ends.
"""

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

browser, url, folder, first, second = sys.argv[1:]
seen = {"messages": []}


def wait_for(page, selector, text):
    """Not by `wait_for_function`, which the page's policy forbids."""
    for _ in range(1000):
        if text in page.inner_text(selector):
            return
        page.wait_for_timeout(20)
    sys.exit(f"{selector} has no {text}: {page.inner_text(selector)}")


with sync_playwright() as playwright:
    chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-features=AutofillServerCommunication"])
    page = chromium.new_page()
    page.on("console", lambda message: seen["messages"].append(message.text))
    page.on("pageerror", lambda error: seen["messages"].append(str(error)))
    page.goto(url)
    wait_for(page, "main", first)
    seen["second is there too early"] = second in page.inner_text("#timeline, #replay")
    Path(folder, "go").touch()
    wait_for(page, "main", second)
    seen["state"] = page.inner_text("#state")

    if urlsplit(url).path == "/":
        through = chromium.new_context(proxy={"server": url}).new_page()
        through.goto("http://buildproxy.internal/")
        wait_for(through, "main", second)
        seen["title through the proxy"] = through.title()
        through.close()

    Path(folder, "done").touch()
    wait_for(page, "#state", "has ended")
    seen["state at the end"] = page.inner_text("#state")
    seen["tiles"] = page.inner_text("#overview .tiles")
    chromium.close()

print(json.dumps(seen))
