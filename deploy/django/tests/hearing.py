"""What Django publishes, as the gateways hear it."""

import json

import redis

GUARD = 10.0


class Hearing:
    """Subscribed to everything from its beginning on."""

    def __init__(self, url: str):
        self._redis = redis.Redis.from_url(url)
        self._pubsub = self._redis.pubsub()
        self._pubsub.psubscribe("community:*")
        assert self._pubsub.get_message(timeout=GUARD)["type"] == "psubscribe"

    def next(self) -> tuple[str, dict]:
        """The next channel and payload; a gateway's own envelopes are passed over."""
        while True:
            message = self._pubsub.get_message(timeout=GUARD)
            assert message is not None, "nothing was published"
            if message["data"][:1] != b"{":
                continue
            payload = json.loads(message["data"])
            if (payload.get("event"), payload.get("action")) != ("moderation", "removed"):  # a gateway's to an author
                return message["channel"].decode(), payload

    def all(self) -> list[tuple[str, dict]]:
        """Everything until now: a word of ours marks the end."""
        self._redis.publish("community:end", '{"event":"end"}')
        found = []
        while (heard := self.next())[0] != "community:end":
            found.append(heard)
        return found

    def orders(self) -> list[dict]:
        """The orders among everything until now."""
        return [payload for channel, payload in self.all() if channel == "community:control"]

    def close(self) -> None:
        self._pubsub.close()
        self._redis.close()
