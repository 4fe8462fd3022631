"""Which notebook a kernel is started for, where the server does not pass it on.

A client may create a session with a path and an empty name (nbclassic does, and so do
scripts); jupyter_server then hands the kernel a JPY_SESSION_NAME that ends with the
directory. The request itself still knows. Nothing is imported that the server has not.
"""

from __future__ import annotations

import sys
from typing import Any


async def notebook_path() -> str | None:
    """The API path, relative to the server's root, in the request being served, or None.

    By jupyter_server's CallContext, which a task inherits from the handler that began it.
    """
    server = sys.modules.get("jupyter_server")
    context = getattr(server, "CallContext", None)
    if context is None:
        return None
    handler = context.get(context.JUPYTER_HANDLER)
    if handler is None or not hasattr(handler, "session_manager"):
        return None
    body: Any = handler.get_json_body() if handler.request.body else None
    if isinstance(body, dict) and isinstance(body.get("path"), str):
        return str(body["path"]).lstrip("/") or None
    session_id = handler.path_kwargs.get("session_id")  # PATCH: another kernel for it
    if session_id is None:
        return None
    model = await handler.session_manager.get_session(session_id=session_id)
    path = model.get("path")
    return path.lstrip("/") or None if isinstance(path, str) else None
