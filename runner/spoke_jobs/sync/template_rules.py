"""Which types of jobs the namespace's PodTemplates are for, as sync last read it.

The operator enforces the same rule. Sync enforces it as well, so that a row with a forged PodTemplate never becomes a
SpokeJob.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from spoke_jobs.cluster.cluster_client import SpokeJobClient
from spoke_jobs.contract.allowed_types import ANNOTATION_TYPES, allows_type
from spoke_jobs.contract.names import is_object_name
from spoke_jobs.shared.api_errors import Forbidden
from spoke_jobs.shared.object_fields import mapping

logger = logging.getLogger(__name__)

READ_AGAIN_SECONDS = 10.0
_MOST = 1000
"""How many PodTemplates are remembered. Forged rows may name any number."""


class TemplateRules:
    """The list of types of each PodTemplate. It is read when a row names the PodTemplate, and again when it is old."""

    def __init__(self, api: SpokeJobClient, clock: Callable[[], float]) -> None:
        self._api = api
        self._clock = clock
        self._known: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._may_read = True

    def allow(self, template: str, job_type: str) -> bool:
        """Whether jobs of this type may use the PodTemplate. If sync can't tell, the operator decides.

        :raises ApiError: if the PodTemplate can't be read now.
        """
        return allows_type(self._annotations(template), job_type)

    def _annotations(self, name: str) -> Mapping[str, Any]:
        if not is_object_name(name):  # the API server refuses the SpokeJob
            return {}
        read_at, annotations = self._known.get(name, (float("-inf"), {}))
        if self._clock() < read_at + READ_AGAIN_SECONDS:
            return annotations
        if len(self._known) >= _MOST:
            self._known.clear()
        annotations = self._read(name)
        self._known[name] = (self._clock(), annotations)
        return annotations

    def _read(self, name: str) -> Mapping[str, Any]:
        try:
            found = self._api.pod_template(name)
        except Forbidden as error:
            if self._may_read:
                logger.warning("may not read PodTemplates, so only the operator checks their types: %s", error)
            self._may_read = False
            return {}
        self._may_read = True
        annotations = mapping(mapping(found or {}, "metadata"), "annotations")
        return {key: value for key, value in annotations.items() if key == ANNOTATION_TYPES}
