"""The HTTP service: search and answers for other programs, and what clients of OpenAI's chat completions expect.

An index is a "model" of the chat completions: its name answers from its passages with the first language model that is served,
`INDEX@MODEL` with another one, and the name of a language model alone answers without passages.

OpenAI's API reference, "Chat", is the source of the fields. What is not understood is refused and never passed over.
"""
