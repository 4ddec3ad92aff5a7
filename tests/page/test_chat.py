"""The chat page in a real browser, over the pieces of deploy/dev."""

MESSAGES = "#messages li .text"


def online(*names: str) -> str:
    """The condition that exactly these are shown as online."""
    shown = "[...document.querySelectorAll('#online li')].map((item) => item.innerText).join()"
    return f"{shown} === '{','.join(sorted(names))}'"


def say(page, text: str) -> None:
    page.run("document.querySelector('#text').focus()")
    page.type(text)
    page.press_enter()


def test_two_people_on_two_gateways_talk(visit):
    ada = visit("ada", "one")
    grace = visit("grace", "two")
    for page in (ada, grace):
        page.wait(online("ada", "grace"))

    ada.run("document.querySelector('#text').focus()")
    ada.type("hello from the other side")
    grace.wait_for_text("#typing", "ada is typing")
    ada.press_enter()
    for page in (ada, grace):
        page.wait_for_text("#messages", "hello from the other side")
        assert page.texts(MESSAGES).count("hello from the other side") == 1
    grace.wait("document.querySelector('#typing').innerText === ''")
    say(grace, "hello back")
    ada.wait_for_text("#messages li:not(.mine)", "hello back")

    ada.click("#leave")
    grace.wait(online("grace"))


def test_older_messages_are_loaded_page_by_page(dev, visit):
    dev.sql("""
        INSERT INTO community_message (id, content, message_type, attachments, embeds, mentions, reaction_counts, is_edited,
            is_flagged, is_hidden, is_pinned, author_id, room_id, created_at, updated_at)
        SELECT gen_random_uuid(), 'old ' || at, 'text', '[]', '[]', '[]', '{}', false, false, false, false,
               (SELECT id FROM users_user WHERE username = 'grace'),
               (SELECT id FROM community_room WHERE slug = 'the-engine-room'), now() - interval '1 hour' + at * interval '1 second', now()
        FROM generate_series(1, 120) AS at""")
    ada = visit("ada", "one", "The Engine Room")

    ada.wait(f"document.querySelectorAll('{MESSAGES}').length === 50")
    ada.click("#older")
    ada.wait(f"document.querySelectorAll('{MESSAGES}').length === 100")
    ada.wait("!document.querySelector('#older').disabled")
    ada.click("#older")
    ada.wait("document.querySelector('#older').hidden")
    assert ada.texts(MESSAGES) == [f"old {at}" for at in range(1, 121)]


def test_an_error_is_shown_in_the_gateways_words(visit):
    linus = visit("linus", "one")
    linus.run("document.querySelector('#text').value = '   '")
    linus.click("#send")
    linus.wait_for_text("#error", "Message content is required")


def test_who_is_disconnected_comes_back_with_a_fresh_token(dev, visit):
    margaret, ken = visit("margaret", "one"), visit("ken", "two")
    margaret.wait(online("ken", "margaret"))

    dev.publish("community:control", f'{{"action": "disconnect", "user": "{dev.user("margaret")}"}}')
    margaret.wait_for_text("#status", "4001")
    margaret.wait_for_text("#status", "connected")
    say(margaret, "back again")
    ken.wait_for_text("#messages", "back again")


def test_who_may_not_enter_is_told_so_and_does_not_try_again(dev, browser):
    page = browser.open(f"{dev.page}/?user=linus&gateway=two&room=The%20Engine%20Room")
    page.wait_for_text("#door-error", "4003")
    assert page.run("document.querySelector('#chat').hidden")
    page.close()
