"""The function `submit`: all that the plugins, the command line and the dashboard call; routes.py has the table."""

import functions_framework
from flask import Request, Response

from functions.submit.routes import ROUTES


@functions_framework.http
def submit(request: Request) -> Response:
    """Answer clients and the dashboard."""
    return ROUTES.answer(request)
