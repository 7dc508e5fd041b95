"""The kinds of objects in the cluster, each in one row: its names, its definition, and who may do what.

`make generate` writes the CustomResourceDefinitions and the rules of the charts' Roles from it. The operator's watches
and comparisons, the rights that `check` examines, and the clients' paths follow from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from urllib.parse import quote

from pydantic import BaseModel

from spoke_jobs.contract.custom_resources.spokejob import SpokeJobSpec, SpokeJobStatus
from spoke_jobs.contract.custom_resources.spokelimit import PAUSED, SpokeLimitSpec, SpokeLimitStatus
from spoke_jobs.contract.limit_scopes import EXPECTED, SCOPE_FORM, SCOPE_START
from spoke_jobs.contract.names import GROUP, VERSION
from spoke_jobs.contract.start_rate import FASTEST, LONGEST_PERIOD, MOST_STARTS, RATE_FORM


class Role(StrEnum):
    """Who has rights: an account of ours, or people by a role of Kubernetes' own."""

    OPERATOR = "operator"
    SYNC = "sync"
    """`spoke-jobs sync`."""
    RUNNER = "runner"
    """A process that dispatches jobs."""
    READER = "reader"
    """A person who uses `why`, `show` and `logs`."""
    VIEW = "view"
    EDIT = "edit"
    """Also has the rights of :attr:`VIEW`."""
    ADMIN = "admin"
    """Also has the rights of :attr:`EDIT`."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a role may do with the objects of a kind."""

    role: Role
    verbs: tuple[str, ...]
    why: str = ""
    """A comment in the chart."""
    subresource: str = ""
    when: str = ""
    """The chart's value that switches it on; empty if it always holds."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the API server checks, in its language (CEL), and what it says of an object that breaks the rule."""

    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    type: str
    path: str
    priority: int = 0
    """With 1 it is shown only by `--output=wide`."""


@dataclass(frozen=True, slots=True)
class ResourceDefinition:
    """What the CustomResourceDefinition says besides the names."""

    short_name: str
    description: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()
    """The fields that field selectors may name."""
    rules: tuple[Rule, ...] = ()
    """For the whole object."""
    spec_rules: tuple[Rule, ...] = ()
    mutable: frozenset[str] | None = None
    """The fields of the spec that may change; None if all may."""
    immutable_message: str = ""


USUAL_METADATA = frozenset({"labels", "annotations"})


@dataclass(frozen=True, slots=True)
class KindRow:
    """A kind of objects."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    definition: ResourceDefinition | None = None
    """Of our own kinds."""
    grants: tuple[Grant, ...] = ()
    """Of our own kinds. The rights to Kubernetes' kinds are in the charts and in `cluster/rights.py`."""
    required: bool = False
    """Whether the operator waits until the API server knows the kind. Without another of our kinds, or without the
    rights to it, the operator works on."""
    kept_metadata: frozenset[str] = USUAL_METADATA
    """What the operator keeps of an object's metadata besides the common fields."""


_OF_THE_NAMESPACE = ("maxUnfinished", "maxPriority", "defaultTimeoutSeconds", "maxTimeoutSeconds", "weight")
_SCOPE_IS_KNOWN = " || ".join(f"self.scope.startsWith('{start}')" for start in SCOPE_START)
_STARTS = "int(self.rate.split('/')[0])"
_PERIOD = (
    "((self.rate.find('/[0-9]+') == '' ? 1 : int(self.rate.find('/[0-9]+').substring(1))) * "
    "(self.rate.matches('m(in)?$') ? 60 : "
    "self.rate.endsWith('h') ? 3600 : self.rate.endsWith('d') ? 86400 : 1))"
)
"""The fields of a rate, in the language of the API server's rules. Its pattern is checked as well."""
_WATCH = ("get", "list", "watch")


class Kind(Enum):
    """The table of kinds. A further kind of our own is one row here, and `make generate`."""

    SPOKEJOB = KindRow(
        "SpokeJob",
        "spokejobs",
        GROUP,
        VERSION,
        required=True,
        kept_metadata=frozenset({"labels"}),
        definition=ResourceDefinition(
            short_name="spj",
            description="One run of a background job: created by the application's runner, "
            "turned into Kubernetes Jobs by the operator, one for each attempt.",
            spec=SpokeJobSpec,
            status=SpokeJobStatus,
            columns=(
                Column("Type", "string", ".spec.jobType"),
                Column("Queue", "string", ".spec.queue"),
                Column("Outcome", "string", ".status.outcome"),
                Column("Progress", "integer", ".status.progress.percent"),
                Column("Attempt", "integer", ".status.attempt"),
                Column("Cause", "string", ".status.cause"),
                Column("Age", "date", ".metadata.creationTimestamp"),
                Column("Request", "integer", ".spec.requestId", 1),
                Column("Org", "integer", ".spec.organization", 1),
                Column("Template", "string", ".spec.podTemplate", 1),
                Column("Node", "string", ".status.attempts[-1:].node", 1),
            ),
            selectable=(".status.outcome", ".spec.queue"),
            rules=(
                Rule(
                    "size(self.metadata.name) <= 63",
                    "a SpokeJob's name is also a label's value: at most 63 characters",
                ),
            ),
            mutable=frozenset({"suspend", "cancel", "priority"}),
            immutable_message="a SpokeJob's spec is immutable except for suspend, cancel and priority; dispatch "
            "another job instead",
            spec_rules=(
                Rule("!oldSelf.cancel || self.cancel", "`cancel` can't be unset; retry or dispatch the job again"),
                Rule("!self.locksQueue || self.queue != ''", "locksQueue needs a queue"),
            ),
        ),
        grants=(
            Grant(
                Role.OPERATOR,
                (*_WATCH, "delete"),
                "SpokeJobs: watch and list them, read one before an irreversible decision, delete it when its "
                "retention is over.",
            ),
            Grant(
                Role.OPERATOR,
                ("patch",),
                "Write their status. Their spec belongs to the application; the operator never writes it.",
                "status",
            ),
            Grant(
                Role.SYNC,
                (*_WATCH, "create", "patch"),
                "Create SpokeJobs that are missing after a crash or an outage. Watch and list them, to copy each "
                "outcome to the ledger. Read one before it counts as absent. Patch the spec when a job is "
                "cancelled, suspended or resumed, or when its priority changes.",
            ),
            Grant(
                Role.SYNC,
                ("patch",),
                "Write the status fields that belong to sync: progress, and the row's final state.",
                "status",
            ),
            Grant(
                Role.RUNNER,
                ("create",),
                "Create the SpokeJob of a job that was just committed. Everything else is done by sync and the "
                "operator.",
            ),
            Grant(
                Role.READER,
                _WATCH,
                "The state and the attempts of jobs; kubectl get spokejobs, with and without --watch.",
            ),
            Grant(Role.VIEW, _WATCH),
            Grant(Role.EDIT, ("create", "patch", "delete")),
        ),
    )
    SPOKELIMIT = KindRow(
        "SpokeLimit",
        "spokelimits",
        GROUP,
        VERSION,
        kept_metadata=frozenset({"annotations", "managedFields"}),  # the latter say who set a pause, and when a rate
        definition=ResourceDefinition(
            short_name="spl",
            description="A limit or a pause of jobs in this namespace, or settings of the namespace, which the "
            "operator obeys at once.",
            spec=SpokeLimitSpec,
            status=SpokeLimitStatus,
            columns=(
                Column("Scope", "string", ".spec.scope"),
                Column("Max", "integer", ".spec.maxRunning"),
                Column("Rate", "string", ".spec.rate"),
                Column(PAUSED, "string", f'.status.conditions[?(@.type=="{PAUSED}")].status'),
                Column("Running", "integer", ".status.running"),
                Column("Waiting", "integer", ".status.waiting"),
                Column("Age", "date", ".metadata.creationTimestamp"),
                Column("Reason", "string", ".spec.paused.reason", 1),
                Column("Enforced", "string", '.status.conditions[?(@.type=="Enforced")].status', 1),
            ),
            spec_rules=(
                Rule(
                    f"!({_SCOPE_IS_KNOWN}) || self.scope.matches('{SCOPE_FORM}')",
                    f"scope must be {EXPECTED}",
                ),
                Rule(
                    f"self.scope == 'all' || !({' || '.join(f'has(self.{name})' for name in _OF_THE_NAMESPACE)})",
                    f"{', '.join(_OF_THE_NAMESPACE)} need the scope all",
                ),
                Rule(
                    "!has(self.defaultTimeoutSeconds) || !has(self.maxTimeoutSeconds) || "
                    "self.defaultTimeoutSeconds <= self.maxTimeoutSeconds",
                    "defaultTimeoutSeconds must be at most maxTimeoutSeconds",
                ),
                Rule(
                    f"!has(self.rate) || ({_STARTS} <= {MOST_STARTS} && {_PERIOD} <= {LONGEST_PERIOD} && "
                    f"{_STARTS} <= {FASTEST} * {_PERIOD})",
                    f"rate must be {RATE_FORM}: 1 to {MOST_STARTS:,} starts in at most "
                    f"{LONGEST_PERIOD // 86_400} days, and at most {FASTEST:,}/s",
                ),
                Rule("!has(self.burst) || has(self.rate)", "burst needs a rate"),
            ),
        ),
        grants=(
            Grant(
                Role.OPERATOR,
                _WATCH,
                "SpokeLimits: limits, pauses and settings of namespaces. Write their status only.",
            ),
            Grant(Role.OPERATOR, ("patch",), subresource="status"),
            Grant(
                Role.SYNC,
                ("list", "create", "patch", "delete"),
                "Publish the ledger's limits and pauses for the operator. Sync changes only SpokeLimits that it made; "
                "the right covers all of them.",
                when="sync.publishLimits",
            ),
            Grant(Role.VIEW, _WATCH),
            Grant(Role.ADMIN, ("create", "update", "patch", "delete")),
        ),
    )
    JOB = KindRow("Job", "jobs", "batch")
    POD = KindRow("Pod", "pods", kept_metadata=frozenset({"labels"}))
    TEMPLATE = KindRow("PodTemplate", "podtemplates")
    WARNING = KindRow("Event", "events", kept_metadata=frozenset())
    """What others report of Jobs and pods."""
    EVENT = KindRow("Event", "events", "events.k8s.io", kept_metadata=frozenset())
    """What the operator reports."""
    CONFIGMAP = KindRow("ConfigMap", "configmaps")
    LEASE = KindRow("Lease", "leases", "coordination.k8s.io")
    NAMESPACE = KindRow(
        "Namespace", "namespaces", namespaced=False, kept_metadata=frozenset({"annotations", "managedFields"})
    )

    @property
    def kind(self) -> str:
        """The name as in manifests."""
        return self.value.kind

    @property
    def plural(self) -> str:
        """The name as in paths and in RBAC."""
        return self.value.plural

    @property
    def group(self) -> str:
        """The API group; empty for Kubernetes' core."""
        return self.value.group

    @property
    def api_version(self) -> str:
        """Group and version, as in manifests."""
        return f"{self.value.group}/{self.value.version}" if self.value.group else self.value.version

    @property
    def resource(self) -> str:
        """Plural and group, as `kubectl` names the kind."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def root(self) -> str:
        """The path of the group's version."""
        return f"/{'apis' if self.group else 'api'}/{self.api_version}"

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Return the path of one object, or of all objects in a namespace or in the cluster."""
        within = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        return f"{self.root}{within}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")

    def grants_of(self, role: Role) -> Iterator[Grant]:
        """Yield what a role may do with the objects."""
        return (grant for grant in self.value.grants if grant.role is role)


CUSTOM = tuple(kind for kind in Kind if kind.value.definition is not None)
"""Our own kinds."""
