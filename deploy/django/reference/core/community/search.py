"""Full-text search in messages, by Postgres."""

from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector

from .models import Message

CONFIG = "simple"  # no language: a community has many


def search(room, text: str, hidden_from: set[int]):
    """Messages of a room, the best matches first. Words as people type them: `"a phrase" -without or`."""
    vector, query = SearchVector("content", config=CONFIG), SearchQuery(text, config=CONFIG, search_type="websearch")
    found = Message.objects.annotate(vector=vector, rank=SearchRank(vector, query)).filter(
        room=room, is_hidden=False, vector=query
    ).exclude(message_type="deleted")
    if hidden_from:
        found = found.exclude(author_id__in=hidden_from)
    return found.select_related("author", "reply_to__author").order_by("-rank", "-created_at", "-pk")
