"""The recipe for Channels, as it is printed in docs/django-howto.md."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator

from django_highwater import current_token, use_token
from django_highwater.seeing import recorded

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "django-howto.md"


def recipe() -> Any:
    """The consumer that the page shows."""
    from channels.generic.websocket import AsyncJsonWebsocketConsumer

    section = HOWTO.read_text().partition("## Channels")[2]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block
    names = {
        "AsyncJsonWebsocketConsumer": AsyncJsonWebsocketConsumer,
        "use_token": use_token,
        "current_token": current_token,
        "sync_to_async": sync_to_async,
    }
    exec(block[1], names)
    return names["Chat"]


def test_a_message_sees_what_the_one_before_it_wrote(site: None, lag: Callable[..., Any]) -> None:
    from project.models import Wish

    levels: list[str | None] = []

    class Chat(recipe()):  # type: ignore[misc]
        """Saves what it is told, and says what there is."""

        async def answer(self, content: Any) -> None:
            if content["save"]:
                await Wish.objects.acreate(thing=content["save"])
            with recorded() as statements:
                things = [wish.thing async for wish in Wish.objects.order_by("id")]
            levels.extend(statement.level for statement in statements)
            await self.send_json(things)

    async def story() -> list[Any]:
        socket = ApplicationCommunicator(Chat.as_asgi(), {"type": "websocket", "path": "/"})
        await socket.send_input({"type": "websocket.connect"})
        assert (await socket.receive_output(10))["type"] == "websocket.accept"
        answers = []
        for save in ("x", "", "y", ""):
            await socket.send_input({"type": "websocket.receive", "text": json.dumps({"save": save})})
            answers.append(json.loads((await socket.receive_output(10))["text"]))
        await socket.send_input({"type": "websocket.disconnect", "code": 1000})
        await socket.wait(10)
        return answers

    with lag():
        assert async_to_sync(story)() == [["x"], ["x"], ["x", "y"], ["x", "y"]]
    # The first message has no position yet.
    assert levels == [None, "session", "session", "session"]
