"""Connect as a plugin does: prints the projects, instance types, packages and variables that it would offer."""

import json

from ciocore import api_client, data

data.init(product="all")
offered = data.data()
types = offered["instance_types"]
if not isinstance(types, list):
    types = list(types.instance_types.values())
software = offered["software"]
token = api_client.read_conductor_credentials(True)
told = {
    "is_valid": data.valid(),
    "projects": offered["projects"],
    "instance_types": [each["name"] for each in types],
    "descriptions": [each["description"] for each in types],
    "packages": software.to_path_list(),
    "environment": offered.get("extra_environment"),
    "account_id": api_client.account_id_from_jwt(token),
    "account_name": api_client.account_name_from_jwt(token),
}
print("\n" + json.dumps(told), flush=True)
