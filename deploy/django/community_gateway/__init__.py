"""What a Django project needs beside community-gateway.

    from community_gateway import control, publish

    publish(room=room.pk, event={"event": "poll_opened", "pollId": str(poll.pk)})
    control("kick", room=room.pk, user=user.pk)

Both wait for the commit of the transaction they stand in, and neither ever fails because Redis is away.
"""

from .handover import hand_over
from .publishing import control, for_user, publish
from .quiet import acting, quietly

__all__ = ["acting", "control", "for_user", "hand_over", "publish", "quietly"]
