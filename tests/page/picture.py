#!/usr/bin/env python3
"""Takes the picture of the operator's page that README.md shows, src/admin/page.png.

    target/venv/bin/python tests/page/picture.py

Starts deploy/dev, lets people talk on both gateways, takes Redis away for a moment, looks somebody up who said too much,
and writes what Chromium shows then. Takes some three minutes."""

import random

from browser import Browser
from conftest import ADMIN_TOKEN
from dev import ROOT, Dev

LOOKS = 75  # of the page at the instances, one every two seconds
WORDS = "good morning all who has seen the new map it is in the library by the window see you there".split()


def say(page, text: str) -> None:
    page.run(f"document.querySelector('#text').value = {text!r}")
    page.click("#send")


def main() -> None:
    dev = Dev(GATEWAY_LIMIT_CONNECTS_PER_MINUTE=0, GATEWAY_LIMIT_MESSAGES_PER_MINUTE=25,
              GATEWAY_ADMIN_TOKEN=f"oncall:{ADMIN_TOKEN}")
    browser = Browser()
    try:
        people = []
        for name, gateway, room in [("ada", "one", "General"), ("grace", "two", "General"), ("linus", "two", "General"),
                                    ("ken", "two", "General"), ("ada", "one", "The%20Engine%20Room")]:
            people.append(browser.open(f"{dev.page}/?user={name}&gateway={gateway}&room={room}"))
            people[-1].wait_for_text("#status", "connected")
        operator = browser.open(f"{dev.operations[0]}/admin/")
        operator.resize(1180, 900)
        operator.wait("document.querySelector('#token') !== null")
        operator.run(f"document.querySelector('#token').value = '{ADMIN_TOKEN}'")
        operator.click("#door button")
        operator.wait_for_text("#state", "all 2 deliver")
        chance = random.Random(7)
        for look in range(LOOKS):
            if look == LOOKS // 2:
                with dev.redis_away():
                    operator.wait("document.querySelectorAll('#dependencies [data-part=redis] rect.down').length > 0")
                operator.wait_for_text("#state", "all 2 deliver")
            for page in people:
                if chance.random() < 0.35 + 0.3 * (look % 20 < 8):
                    say(page, " ".join(chance.sample(WORDS, 4)))
            operator.wait(f"looks > {look}")
        for _ in range(45):
            say(people[2], "again!")
        people[2].wait("document.querySelector('#error').innerText !== ''")  # then the limit was hit
        operator.run(f"document.querySelector('#what').value = '{dev.user('linus')}'")
        operator.click("#look button")
        operator.wait_for_text("#limits", "send_message")
        operator.wait_for_text("#rooms tbody", "two")
        (ROOT / "src" / "admin" / "page.png").write_bytes(operator.picture())
    finally:
        browser.close()
        dev.close()


if __name__ == "__main__":
    main()
