"""What a server has loaded is not looked through for garbage again and again."""

import asyncio
import gc
from pathlib import Path

from service.listening import Part
from service.models.client import ChatModel
from service.server import Server
from service.settings import Settings
from tests.support.stack import free_address


async def test_the_garbage_collector_leaves_out_what_is_loaded(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, grpc_address=free_address())
    model = ChatModel("http://127.0.0.1:1/v1", "none", idle_timeout=60)
    serving, stop = asyncio.Event(), asyncio.Event()
    server = Server(settings, Part(settings.grpc_address), model, lambda *_: [])
    work = asyncio.create_task(server.serve(serving, stop))
    try:
        async with asyncio.timeout(60):
            await serving.wait()
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
        stop.set()
        await work
        await model.close()
