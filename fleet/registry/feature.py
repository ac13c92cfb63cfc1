# SPDX-License-Identifier: Apache-2.0
"""What the registry gives to the server: routes, files and the renewal task."""

from fleet.registry.registry import Registry
from fleet.registry.routes import make_file_routes, make_model_routes
from fleet.services import Feature, OpenPath, PeriodicTask, Services

_RENEWAL_SECONDS = 300.0
_DELTAS_SECONDS = 2.0


def build(services: Services, registry: Registry) -> Feature:
    """Return the feature around ``registry``."""
    files = make_file_routes(services.layout.tuf)
    return Feature(
        name="registry",
        routers=(make_model_routes(registry),),
        tasks=(
            PeriodicTask("registry-renewal", _RENEWAL_SECONDS, registry.renew),
            PeriodicTask("registry-deltas", _DELTAS_SECONDS, registry.make_deltas),
        ),
        open_paths=(OpenPath("GET", r"/tuf/.+"), OpenPath("HEAD", r"/tuf/.+")),
        mount=lambda app: app.include_router(files),
        start=registry.start,
    )
