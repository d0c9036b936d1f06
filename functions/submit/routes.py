"""The table of all that clients and the dashboard may call: address, who may, what it takes, what it answers.

The server obeys it, and `python -m tools.openapi` describes it: a route without `answers` is none of the public ones.
"""

from functions.submit import catalog, description, downloads, jobs, reading, sign_in, uploads
from functions.submit.callers import guard
from shared import wiring
from shared.core.permissions import Action
from shared.http import Route, Routes
from shared.schemas import answers, queries, transfer_answers
from shared.schemas.commands import CommandSchema, TaskCommandSchema
from shared.schemas.downloads import DownloadsRequestSchema, DownloadStatusSchema
from shared.schemas.sign_in import SignInSchema
from shared.schemas.submission import SubmissionSchema
from shared.schemas.uploads import (
    CompletedUploadSchema,
    DaemonSchema,
    FinishedUploadSchema,
    UploadProgressSchema,
    UploadRequestSchema,
)

ROUTES = Routes(
    [
        Route("GET", "/healthz", wiring.healthz),
        Route(
            "GET",
            "/api/openapi.json",
            description.openapi,
            answers={200: answers.DescriptionSchema},
        ),
        Route(
            "GET",
            "/api/oauth_jwt",
            sign_in.oauth_jwt,
            query=queries.GrantQuerySchema,
            answers={200: (answers.GrantSchema, "text/html")},
            refusals=[401, 404, 429],
        ),
        Route(
            "POST",
            "/api/client_token",
            sign_in.client_token,
            body=SignInSchema,
            answers={200: answers.RedirectSchema},
            refusals=[401],
        ),
        Route(
            "GET",
            "/api/v1/accounts/<account_id>",
            catalog.account,
            action=Action.READ,
            answers={200: answers.AccountSchema},
        ),
        Route(
            "GET",
            "/api/v1/projects/",
            catalog.projects,
            action=Action.READ,
            answers={200: answers.ProjectsSchema},
        ),
        Route(
            "GET",
            "/api/v1/instance-types",
            catalog.instance_types,
            action=Action.READ,
            query=queries.FilterQuerySchema,
            answers={200: answers.InstanceTypesSchema},
            refusals=[404],
        ),
        Route(
            "GET",
            "/api/v1/ee/packages",
            catalog.packages,
            action=Action.READ,
            answers={200: answers.PackagesSchema},
        ),
        Route(
            "GET",
            "/api/v1/integrations/env-vars-configs",
            catalog.environments,
            action=Action.READ,
            answers={200: answers.EnvironmentsSchema},
        ),
        Route(
            "GET",
            "/api/v1/jobs",
            reading.jobs,
            action=Action.READ,
            query=queries.ListQuerySchema,
            answers={200: answers.JobsSchema},
        ),
        Route(
            "GET",
            "/api/v1/tasks",
            reading.tasks,
            action=Action.READ,
            query=queries.ListQuerySchema,
            answers={200: answers.TasksSchema},
            refusals=[404],
        ),
        Route(
            "GET",
            "/get_log_file",
            reading.get_log_file,
            action=Action.READ,
            query=queries.LogQuerySchema,
            answers={200: answers.LogSchema},
            refusals=[404],
        ),
        Route(
            "POST",
            "/jobs/",
            jobs.submit,
            action=Action.SUBMIT,
            body=SubmissionSchema,
            answers={201: answers.SubmittedSchema},
        ),
        Route(
            "PUT",
            "/jobs_multi",
            jobs.jobs_multi,
            action=Action.COMMAND,
            body=CommandSchema,
            answers={200: answers.CommandedSchema},
            refusals=[404, 409],
        ),
        Route(
            "PUT",
            "/tasks_multi",
            jobs.tasks_multi,
            action=Action.COMMAND,
            body=TaskCommandSchema,
            answers={200: answers.CommandedSchema},
            refusals=[404, 409],
        ),
        Route(
            "POST",
            "/jobs/<job_id>/downloads",
            downloads.downloads,
            action=Action.DOWNLOAD,
            query=queries.PageQuerySchema,
            body=DownloadsRequestSchema,
            answers={201: transfer_answers.DownloadsSchema},
        ),
        Route(
            "POST",
            "/downloads/status",
            downloads.download_status,
            action=Action.DOWNLOAD,
            body=DownloadStatusSchema,
            answers={200: answers.NotedSchema},
            refusals=[404],
        ),
        Route(
            "GET",
            "/downloads/next",
            downloads.downloads_next,
            action=Action.DOWNLOAD,
            query=queries.NextQuerySchema,
            answers={201: transfer_answers.NextDownloadsSchema},
        ),
        Route(
            "GET",
            "/downloads/<job_id>",
            downloads.legacy_downloads,
            action=Action.DOWNLOAD,
            query=queries.TaskQuerySchema,
            answers={201: transfer_answers.JobDownloadsSchema},
            refusals=[413],
        ),
        Route(
            "POST",
            "/downloads/<download_id>/fail",
            downloads.download_failed,
            action=Action.DOWNLOAD,
            answers={200: answers.NotedSchema},
            refusals=[413],
        ),
        Route(
            "POST",
            "/api/v2/files/get_upload_urls",
            uploads.get_upload_urls,
            action=Action.SUBMIT,
            body=UploadRequestSchema,
            answers={200: transfer_answers.UploadUrlsSchema},
        ),
        Route(
            "POST",
            "/api/v2/files/multipart/complete",
            uploads.complete_multipart,
            action=Action.SUBMIT,
            body=CompletedUploadSchema,
            answers={200: answers.NothingSchema},
            refusals=[404, 409],
        ),
        Route(
            "PUT",
            "/uploads/client/next",
            uploads.next_upload,
            action=Action.SUBMIT,
            body=DaemonSchema,
            answers={201: transfer_answers.NextUploadSchema, 204: ()},
        ),
        Route(
            "POST",
            "/uploads/<upload_id>/update",
            uploads.update_upload,
            action=Action.SUBMIT,
            body=UploadProgressSchema,
            answers={200: answers.NothingSchema},
        ),
        Route(
            "POST",
            "/uploads/<upload_id>/finish",
            uploads.finish_upload,
            action=Action.SUBMIT,
            body=FinishedUploadSchema,
            answers={200: answers.NothingSchema},
        ),
        Route(
            "POST",
            "/uploads/<upload_id>/fail",
            uploads.fail_upload,
            action=Action.SUBMIT,
            body="text/plain",
            answers={200: answers.NothingSchema},
        ),
    ],
    guard=guard,
)
