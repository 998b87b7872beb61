"""A model's answer that is more than all buffers on its way hold."""

from collections.abc import Iterator

from tests.support.script import Act, Step

MIB = 1 << 20


class Long(Step):
    """An answer of many mebibytes."""

    def __init__(self, mebibytes: int) -> None:
        super().__init__()
        self.chunks = mebibytes * MIB // 8_192

    def acts(self) -> Iterator[Act]:
        """The pieces, each with its number, and the end."""
        for number in range(self.chunks):
            yield {"content": f"{number:08}" + "x" * 8_184}
        yield {"finish_reason": "stop"}
