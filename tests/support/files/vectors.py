"""Vectors without texts, in vector stores."""

import numpy as np

from service.files.embeddings import Matrix, normalized
from storage.segments import NewChunk
from tests.support.files.world import PROJECT, World

DIMENSIONS = 256


def vectors(count: int, seed: int = 1, dimensions: int = DIMENSIONS) -> Matrix:
    """Returns so many vectors that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    return normalized(rng.standard_normal((count, dimensions), dtype=np.float32))


async def add(world: World, segment: int, place: int, rows: Matrix) -> None:
    """Adds chunks with these vectors to a segment."""
    chunks = [NewChunk(0, 1, "text")] * len(rows)
    await world.segments.add(
        PROJECT, segment, place, chunks, lambda tx, first: world.vectors.add(tx, first, rows)
    )


async def put(
    world: World, store: str, file_id: str, rows: Matrix, batch: int = 500, **attributes: str
) -> int:
    """Puts a file into a store whose chunks have these vectors; returns its segment."""
    entry = await world.entry(store, file_id, attributes)
    segment = await world.segments.begin(PROJECT, store, "e")
    for at in range(0, len(rows), batch):
        await add(world, segment, at, rows[at : at + batch])
    await world.point(entry, segment)
    return segment
