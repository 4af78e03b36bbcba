"""Opens a page in a real browser, uses it as people do, and prints what is seen as JSON: look.py BROWSER PAGE FOLDER WORDS.

WORDS is what to search for; it has to find an entry."""

import json
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

browser, page_file, folder, words = sys.argv[1:]
seen = {"messages": [], "asked": []}

with sync_playwright() as playwright:
    chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-features=AutofillServerCommunication"])
    context = chromium.new_context(viewport={"width": 1300, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.on("console", lambda message: seen["messages"].append(message.text))
    page.on("pageerror", lambda error: seen["messages"].append(str(error)))
    page.on("request", lambda request: seen["asked"].append(request.url))
    page.goto(Path(page_file).resolve().as_uri())
    # In milliseconds. Not by `wait_for_function`, which the page's policy forbids.
    while (paint := page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")) is None:
        page.wait_for_timeout(20)
    seen["first paint"] = paint
    seen["parts"] = page.locator("nav a").all_inner_texts()
    seen["tiles"] = page.locator("#overview .tiles li").all_inner_texts()
    seen["count"] = page.inner_text("#count")
    seen["rows in the document"] = page.locator("#entries .space .row").count()
    urls = "#entries .space .row span:nth-child(2)"
    seen["first"] = page.locator(urls).first.inner_text()

    # The keyboard: to the end, back by one, open, close.
    page.locator("#entries .scroll").focus()
    page.keyboard.press("End")
    seen["last"] = page.locator("#entries .row.current span:nth-child(2)").inner_text()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    seen["opened"] = page.inner_text("#details-title")
    page.keyboard.press("Escape")
    seen["closed"] = not page.locator("#details").evaluate("dialog => dialog.open")

    # Sorting by size: the largest first, then the smallest.
    sizes = page.locator("#entries .head button").nth(4)
    sizes.click()
    seen["largest"] = page.locator(urls).first.inner_text()
    sizes.click()
    seen["smallest"] = page.locator(urls).first.inner_text()

    # Searching, from anywhere, and the details of what is found.
    page.locator("body").press("/")
    page.keyboard.type(words)
    seen["found"] = page.inner_text("#count")
    page.locator("#entries .space .row").first.click()
    seen["details"] = page.inner_text("#details")
    page.locator("#details button").click()
    seen["chain"] = []
    page.fill("#search", "chain")
    if page.locator("#entries .space .row").count():
        page.locator("#entries .space .row").first.click()
        seen["chain"] = page.locator("#details .chain li").all_inner_texts()
        page.keyboard.press("Escape")
    page.fill("#search", "")

    seen["timeline"] = page.locator("#timeline .space .row").all_inner_texts()
    seen["replay"] = page.inner_text("#replay") if page.locator("#replay").count() else None
    seen["differences"] = page.inner_text("#differences") if page.locator("#differences").count() else None

    ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    seen["light"] = ground()
    page.emulate_media(color_scheme="dark")
    seen["dark"] = ground()
    page.click("#theme")
    seen["light again"] = ground()
    page.screenshot(path=f"{folder}/page.png", full_page=True)

    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    seen["printed rows"] = page.locator("#entries .space .row").count()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    seen["hacked"] = page.evaluate("window.hacked === undefined ? null : window.hacked")
    chromium.close()

print(json.dumps(seen))
