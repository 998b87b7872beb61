"""The graph that the peers serve: one node, which asks the bench's model."""

import os
from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

MODEL = ChatOpenAI(
    base_url=os.environ["BENCH_MODEL_URL"],
    api_key="none",
    model=os.environ["BENCH_MODEL"],
    streaming=True,
)


async def answer(state: MessagesState) -> dict[str, Any]:
    """Returns the model's answer to the messages so far."""
    return {"messages": [await MODEL.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
graph = builder.compile()
