"""With a real gateway: what Django does shows on a socket."""

import time

import people
from core.community import gdpr
from core.community.models import Message, RoomMembership, Thread
from sockets import Tab, enter, enter_app

from community_gateway import control, publish
from community_gateway.sessions import connection_token, log_out_everywhere


def test_a_message_by_rest_or_a_task_shows_as_one_of_the_gateways_own(gateway):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    with enter(gateway, room, grace) as tab, enter(gateway, room, ada) as own:
        own.send(type="send_message", content="by socket")
        by_socket = tab.until("new_message")
        Message.objects.create(room=room, author=ada, content="by task")
        by_task = tab.until("new_message")
    assert by_task["message"]["content"] == "by task"
    assert list(by_task["message"]) == list(by_socket["message"])  # the same fields, in the same order
    same = ("roomId", "threadId", "author", "messageType", "attachments", "embeds", "mentions", "reactionCounts")
    assert {name: by_task["message"][name] for name in same} == {name: by_socket["message"][name] for name in same}


def test_a_pin_in_the_admin_shows_within_a_second(gateway, client):
    ada, boss = people.user(), people.moderator()
    message = people.message(people.room(ada), ada)
    with enter(gateway, message.room, ada) as tab:
        began = time.monotonic()
        message.is_pinned = True
        message.save()
        assert tab.until("message_pinned", messageId=str(message.pk))["isPinned"] is True
        assert time.monotonic() - began < 1
        assert boss.is_superuser


def test_a_moderators_click_shows_on_every_socket_within_a_second(gateway, client):
    ada, grace, boss = people.user(), people.user(), people.moderator()
    message = people.message(people.room(ada, grace), ada, "rude")
    item = people.queued(message)
    client.force_login(boss)

    def click(decision):
        form = {"_decision": decision, "_duration": "", "review_notes": ""}
        answer = client.post(f"/admin/community/moderationqueue/{item.pk}/change/", form)
        assert answer.status_code == 302
        return time.monotonic()

    with enter(gateway, message.room, ada) as own, enter(gateway, message.room, grace) as tab:
        at = click("hide")
        gone = {"event": "message_deleted", "messageId": str(message.pk), "deletedBy": str(boss.pk)}
        assert gone.items() <= tab.until("message_deleted").items()
        assert time.monotonic() - at < 1
        assert own.until("moderation")["action"] == "removed"
        with enter(gateway, message.room, grace) as later:
            pass  # whoever comes now does not see it
        at = click("approve")
        assert tab.until("new_message")["message"]["content"] == "rude"
        assert time.monotonic() - at < 1
        assert [event["event"] for event in tab.settled()] == []
        click("delete")
        assert tab.until("message_deleted", messageId=str(message.pk))
        assert later.socket.close_code is not None


def test_a_message_hidden_and_shown_by_other_code_shows_too(gateway):
    ada = people.user()
    message = people.message(people.room(ada), ada, "hello")
    with enter(gateway, message.room, ada) as tab:
        message.is_hidden = True
        message.save()
        assert tab.until("message_deleted", messageId=str(message.pk))
        message.is_hidden = False
        message.save()
        assert tab.until("new_message")["message"]["id"] == str(message.pk)


def test_a_ban_in_the_admin_ends_the_socket(gateway, client):
    ada, boss = people.user(), people.moderator()
    room = people.room(ada)
    item = people.queued(people.message(room, ada))
    client.force_login(boss)
    with enter(gateway, room, ada) as tab:
        began = time.monotonic()
        form = {"_decision": "ban", "_duration": "", "review_notes": ""}
        assert client.post(f"/admin/community/moderationqueue/{item.pk}/change/", form).status_code == 302
        assert tab.close_code() == 4003
        assert time.monotonic() - began < 1.5
    with enter_app(gateway, ada):
        pass  # the account itself is not closed


def test_a_ban_everywhere_ends_every_socket(gateway, client):
    ada, boss = people.user(), people.moderator()
    room = people.room(ada)
    item = people.queued(people.message(room, ada))
    client.force_login(boss)
    with enter(gateway, room, ada) as tab, enter_app(gateway, ada) as app:
        form = {"_decision": "ban_everywhere", "_duration": "", "review_notes": ""}
        client.post(f"/admin/community/moderationqueue/{item.pk}/change/", form)
        assert (tab.close_code(), app.close_code()) == (4001, 4001)


def test_logging_out_everywhere_ends_the_sockets(gateway):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    with enter(gateway, room, ada) as tab, enter(gateway, room, grace) as other:
        log_out_everywhere(ada)
        assert tab.close_code() == 4001
        other.settled()


def test_a_mute_takes_the_right_to_write_and_nothing_else(gateway):
    ada = people.user()
    room = people.room(ada)
    with enter(gateway, room, ada) as tab:
        membership = RoomMembership.objects.get(room=room, user=ada)
        membership.role = "muted"
        membership.save()
        assert tab.settled() is not None
        deadline = time.monotonic() + 10
        while True:  # the order and the frame come by different ways
            tab.send(type="send_message", content="x")
            answer = tab.next()
            if answer["event"] == "error" and answer["code"] == "cannot_send":
                break
            assert time.monotonic() < deadline, answer


def test_an_archived_room_is_told(gateway):
    ada = people.user()
    room = people.room(ada)
    with enter(gateway, room, ada) as tab:
        room.is_archived = True
        room.save()
        assert tab.until("room_updated")["room"]["isArchived"] is True


def test_an_event_reaches_whom_it_names(gateway):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    with enter(gateway, room, ada) as one, enter(gateway, room, grace) as other, enter_app(gateway, ada) as app:
        publish(room=room, event={"event": "poll", "n": 1}, to=[ada.pk])
        publish(room=room, event={"event": "poll", "n": 2}, except_=[ada.pk])
        publish(room=room, event={"event": "poll", "n": 3})
        publish(user=ada, event={"event": "badge"})
        assert [one.until("poll")["n"] for _ in range(2)] == [1, 3]
        assert [other.until("poll")["n"] for _ in range(2)] == [2, 3]
        assert app.until("badge") == {"event": "badge"}


def test_an_event_of_a_thread_reaches_who_reads_it(gateway):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    with people.quietly():
        thread = Thread.objects.create(room=room, creator=ada, title="t")
    with enter(gateway, room, ada) as reader, enter(gateway, room, grace) as other:
        reader.send(type="open_thread", thread_id=str(thread.pk))
        assert reader.until("thread_state")["thread"]["id"] == str(thread.pk)
        publish(thread=thread, event={"event": "poll", "n": 1})
        publish(thread=thread, event={"event": "poll", "n": 2}, except_=[ada.pk])
        message = Message.objects.create(room=room, thread=thread, author=grace, content="inside")
        message.content = "changed"
        message.save()
        message.is_pinned = True
        message.save()
        assert reader.until("poll")["n"] == 1
        assert reader.until("new_message")["message"]["content"] == "inside"
        assert reader.until("message_edited")["message"]["content"] == "changed"
        assert reader.until("message_pinned")["threadId"] == str(thread.pk)
        publish(room=room, event={"event": "poll", "n": 3})
        assert reader.until("poll")["n"] == 3
        assert other.until("poll")["n"] == 3  # nothing of the thread came before
        assert not [event for event in other.settled() if event["event"] != "poll"]


def test_a_kick_by_control(gateway):
    ada = people.user()
    room = people.room(ada)
    with enter(gateway, room, ada) as tab:
        control("kick", room=room, user=ada)
        assert tab.close_code() == 4003


def test_an_account_that_goes_leaves_every_open_page_at_once(gateway):
    """Its messages and reactions go from the pages of others, its name from who is online, its own sockets end."""
    ada, grace = people.user(), people.user()
    room, talk = people.room(ada, grace), people.direct(ada, grace)
    said = [people.message(room, ada, f"I live in Elm Street {number}") for number in range(3)]
    kept, written = people.message(room, grace, "nice"), people.message(talk.room, ada, "my telephone is 555")
    dm = f"ws://{gateway.public}/ws/community/dm/{talk.pk}/?connection_token="
    with (enter(gateway, room, grace) as tab, Tab(dm + connection_token(grace)) as other,
          enter(gateway, room, ada) as own, enter_app(gateway, ada) as app):
        own.send(type="add_reaction", message_id=str(kept.pk), emoji="👍")
        assert tab.until("reaction_updated", added=True)["reactionCounts"] == {"👍": 1}
        other.until("dm_state"), other.settled()
        gdpr.anonymise(ada)
        gone = {tab.until("message_deleted")["messageId"] for _ in said}
        assert gone == {str(one.pk) for one in said}
        assert tab.until("reaction_updated", messageId=str(kept.pk))["reactionCounts"] == {}
        assert other.until("message_deleted")["messageId"] == str(written.pk)
        assert own.close_code() == app.close_code() == 4001
        assert tab.until("user_left")["userId"] == str(ada.pk)
    with Tab(f"ws://{gateway.public}/ws/community/room/{room.pk}/?connection_token={connection_token(grace)}") as later:
        state = later.until("room_state")
        assert [one["content"] for one in state["messages"]] == ["[Message deleted]"] * 3 + ["nice"]
        assert {one["author"]["username"] for one in state["messages"][:3]} == {"Unknown"}
        assert (state["room"]["memberCount"], state["onlineUsers"][0]["username"]) == (1, grace.username)
