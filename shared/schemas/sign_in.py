"""The bodies of sign-ins."""

from marshmallow import EXCLUDE, Schema, fields, validate


class SignInSchema(Schema):
    """POST /api/client_token: what the sign-in page sends."""

    class Meta:
        unknown = EXCLUDE

    id_token = fields.String(required=True, validate=validate.Length(1, 8192))
    redirect_uri = fields.String(required=True, validate=validate.Length(1, 200))
