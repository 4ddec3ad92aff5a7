"""Celery's tasks of the community."""

from celery import shared_task

from core.users.models import User

from .models import DirectMessageThread, Message


@shared_task(bind=True, name="core.community.tasks.process_agent_dm_task", max_retries=2, ignore_result=True)
def process_agent_dm_task(self, message_id: str, thread_id: str, agent_user_id: int) -> None:
    """An agent answers. A real project asks a model here; this one says that it has read the message."""
    from .services import send_message

    thread = DirectMessageThread.objects.select_related("room").get(pk=thread_id)
    agent = User.objects.get(pk=agent_user_id, tier="team")
    message = Message.objects.get(pk=message_id, room=thread.room)
    send_message(thread.room, agent, f"I have read your {len(message.content)} characters.", reply_to=message.pk)
