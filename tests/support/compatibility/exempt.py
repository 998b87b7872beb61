"""What is not exercised, by names as tests/support/compatibility/coverage.py makes them.

A name stands for itself and for all inside it.
"""

from typing import Final

CODE_INTERPRETER: Final = frozenset(
    {
        # What a model makes of files.
        "MessageContentTextAnnotationsFilePathObject",
        "MessageDeltaContentImageFileObject",
        "MessageDeltaContentTextAnnotationsFilePathObject",
        "OpenAIFile.purpose=assistants_output",
        # Runs with the tool, and what it does in a step.
        "RunObject.tools[]|AssistantToolsCode",
        "AssistantsNamedToolChoice.type=code_interpreter",
        "RunStepDetailsToolCallsCodeObject",
        "RunStepDetailsToolCallsCodeOutputLogsObject",
        "RunStepDetailsToolCallsCodeOutputImageObject",
        "RunStepDeltaStepDetailsToolCallsCodeObject",
        "RunStepDeltaStepDetailsToolCallsCodeOutputLogsObject",
        "RunStepDeltaStepDetailsToolCallsCodeOutputImageObject",
    }
)
"""What only code_interpreter fills: tests/rest/test_code_interpreter.py has it."""

NEVER: Final = frozenset(
    {
        # What only batches and fine-tuning make, which this server does not do.
        "OpenAIFile.purpose=batch_output",
        "OpenAIFile.purpose=fine-tune-results",
        # A file is processed as soon as it is there.
        "OpenAIFile.status=uploaded",
        "OpenAIFile.status=error",
        "OpenAIFile.status_details",
        # Nothing shows an upload but what begins and ends it.
        "Upload.status=expired",
        "Upload.file|null",
        # A day must pass, or a server crash three times: the tests of storage have both.
        "VectorStoreObject.status=expired",
        "VectorStoreFileObject.last_error.code=server_error",
        # Chunks are always made by a strategy that is known, and all that is found is on one page.
        "OtherChunkingStrategyResponseParam",
        "VectorStoreFileObject.chunking_strategy|OtherChunkingStrategyResponseParam",
        "VectorStoreSearchResultsPage.next_page|string",
        "VectorStoreFileContentResponse.next_page|string",
        # A batch of files that all have failed is completed.
        "VectorStoreFileBatchObject.status=failed",
        "VectorStoreFileAttributes|null",
        "VectorStoreObject.last_active_at|null",
        # Values that have a default, so that null is never the answer.
        "AssistantObject.tool_resources|null",
        "ThreadObject.tool_resources|null",
        "Metadata|null",
        "AssistantObject.temperature|null",
        "AssistantObject.top_p|null",
        "AssistantObject.response_format|null",
        "RunObject.temperature|null",
        "RunObject.top_p|null",
        "RunObject.response_format|null",
        "RunObject.truncation_strategy|null",
        "RunObject.tool_choice|null",
        "MessageObject.attachments|null",
        "FunctionObject.strict|null",
        # What was null in a request is left out.
        "ResponseFormatJsonSchema.json_schema.strict|null",
        # Only assistants stream, and they speak: no deltas with images, and none for a user's role,
        # which the hosted API left out of deltas, too.
        "MessageDeltaObject.delta.role",
        "MessageDeltaContentImageUrlObject",
        # A step that creates a message has it from the start, and outputs come with the whole step.
        "RunStepDeltaStepDetailsMessageCreationObject",
        "RunStepDeltaStepDetailsToolCallsFunctionObject.function.output|string",
        # A model that has begun to answer reports no rate limit any more.
        "RunStepObject.last_error.code=rate_limit_exceeded",
    }
)
"""Forms that the specification allows and this server never has use for (docs/compatibility.md)."""
