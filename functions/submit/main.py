"""The function `submit`: all that the plugins, the command line and the dashboard call."""

import functions_framework
from flask import Request, Response

from functions.submit import catalog, downloads, jobs, sign_in, uploads
from shared import wiring
from shared.http import Routes

ROUTES = Routes(
    [
        ("GET", "/api/oauth_jwt", sign_in.oauth_jwt),
        ("POST", "/api/client_token", sign_in.client_token),
        ("GET", "/api/v1/accounts/<account_id>", catalog.account),
        ("GET", "/api/v1/projects/", catalog.projects),
        ("GET", "/api/v1/instance-types", catalog.instance_types),
        ("GET", "/api/v1/ee/packages", catalog.packages),
        ("GET", "/api/v1/integrations/env-vars-configs", catalog.environments),
        ("GET", "/api/v1/jobs", jobs.jobs),
        ("POST", "/jobs/", jobs.submit),
        ("PUT", "/jobs_multi", jobs.jobs_multi),
        ("PUT", "/tasks_multi", jobs.tasks_multi),
        ("POST", "/jobs/<job_id>/downloads", downloads.downloads),
        ("POST", "/downloads/status", downloads.download_status),
        ("POST", "/api/v2/files/get_upload_urls", uploads.get_upload_urls),
        ("POST", "/api/v2/files/multipart/complete", uploads.complete_multipart),
        ("GET", "/healthz", wiring.healthz),
    ]
)


@functions_framework.http
def submit(request: Request) -> Response:
    """Answer clients and the dashboard."""
    return ROUTES.answer(request)
