"""The render agent: claims one attempt, renders it in a sandbox, reports how it ended.

Standard library only; imports nothing of the other rooms, because it travels alone on the machine image. Nothing
happens at import. docs/protocol.md, section "Agents", says what it exchanges with the server.
"""
