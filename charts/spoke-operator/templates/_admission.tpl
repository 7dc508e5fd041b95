{{/*
Whether the release has the admission policies. By default: if the API server has the API. Without a cluster (`helm template`), Helm has
APIs that no current cluster has, and every cluster that the chart supports has the policies' API. A release without any other
cluster-wide object gets none by default, because whoever installs it may lack the right.
*/}}
{{- define "spoke-operator.bindsAccount" -}}
{{- $enabled := .Values.admissionPolicies.enabled -}}
{{- if kindIs "invalid" $enabled -}}
{{- $apis := .Capabilities.APIVersions -}}
{{- $known := or ($apis.Has "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy") ($apis.Has "extensions/v1beta1") -}}
{{- if and $known (or .Values.crds.enabled (not .Values.watchNamespaces)) -}}true{{- end -}}
{{- else if $enabled -}}
true
{{- end -}}
{{- end -}}

{{/* The variables that the operator sets in the container job. A test compares them with the operator's. */}}
{{- define "spoke-operator.assignedVariables" -}}
['SPOKE_CONTRACT', 'SPOKE_REQUEST_ID', 'SPOKE_REQUEST_UID', 'SPOKE_JOB_TYPE', 'SPOKE_RUN', 'SPOKE_ATTEMPT', 'SPOKE_START_TIMEOUT', 'SPOKE_TIMEOUT', 'SPOKE_POD', 'SPOKE_NODE', 'TRACEPARENT', 'SPOKE_STANDBY', 'SPOKE_STANDBY_SECONDS']
{{- end -}}

{{/* The labels of a pod unless its template has others. A test compares them with the operator's. */}}
{{- define "spoke-operator.defaultLabels" -}}
{'app.kubernetes.io/name': 'spoke-job', 'app.kubernetes.io/component': 'job', 'app.kubernetes.io/part-of': 'spoke-jobs'}
{{- end -}}

{{/* How long a pod stays on a node that is gone, unless the template sets it. A test compares it with the operator's. */}}
{{- define "spoke-operator.nodeGoneSeconds" -}}30{{- end -}}

{{/* The fields of a Job's spec that a Job of the operator may have. A test compares them with the operator's. */}}
{{- define "spoke-operator.jobFields" -}}
['activeDeadlineSeconds', 'backoffLimit', 'completionMode', 'completions', 'manualSelector', 'parallelism', 'podFailurePolicy', 'podReplacementPolicy', 'selector', 'suspend', 'template', 'ttlSecondsAfterFinished']
{{- end -}}

{{/*
Fields of a pod and of a container that a comparison below names, or that the operator sets. All others, also those of later releases of
Kubernetes, must be the template's (otherFields).
*/}}
{{- define "spoke-operator.namedPodFields" -}}
['activeDeadlineSeconds', 'affinity', 'automountServiceAccountToken', 'containers', 'dnsConfig', 'dnsPolicy', 'enableServiceLinks', 'hostAliases', 'hostIPC', 'hostNetwork', 'hostPID', 'hostUsers', 'hostname', 'hostnameOverride', 'imagePullSecrets', 'initContainers', 'nodeName', 'nodeSelector', 'preemptionPolicy', 'priority', 'priorityClassName', 'resourceClaims', 'restartPolicy', 'runtimeClassName', 'schedulerName', 'schedulingGates', 'securityContext', 'serviceAccount', 'serviceAccountName', 'setHostnameAsFQDN', 'shareProcessNamespace', 'subdomain', 'tolerations', 'topologySpreadConstraints', 'volumes']
{{- end -}}
{{- define "spoke-operator.namedContainerFields" -}}
['args', 'command', 'env', 'envFrom', 'image', 'imagePullPolicy', 'lifecycle', 'livenessProbe', 'name', 'ports', 'readinessProbe', 'restartPolicy', 'securityContext', 'startupProbe', 'terminationMessagePath', 'terminationMessagePolicy', 'volumeDevices', 'volumeMounts', 'workingDir']
{{- end -}}

{{/* The same fields in two maps, except some. */}}
{{- define "spoke-operator.sameFields" -}}
dyn({{ .of }}).all(field, field in {{ .except }} || (field in dyn({{ .template }}) && dyn({{ .of }})[field] == dyn({{ .template }})[field])) && dyn({{ .template }}).all(field, field in {{ .except }} || field in dyn({{ .of }}))
{{- end -}}

{{/* The same field in the pod and in the template. */}}
{{- define "spoke-operator.sameOfPod" -}}
{{- range $number, $field := . }}{{ if $number }} && {{ end }}variables.pod.?{{ $field }} == variables.given.?{{ $field }}{{ end -}}
{{- end -}}

{{/* The same fields in each container and in the template's container of that name. */}}
{{- define "spoke-operator.sameOfContainers" -}}
variables.containers.all(c, variables.givenContainers.exists(t, t.name == c.name
{{- range . }} && c.?{{ . }} == t.?{{ . }}{{ end }}))
{{- end -}}

{{/*
What a Job must have in common with its PodTemplate, by the names that admissionPolicies.without may list. `what` completes the sentence
"... differ from those of the PodTemplate". Compare docs/how-to/podtemplates.md, "What the operator sets".
*/}}
{{- define "spoke-operator.templateChecks" -}}
serviceAccounts:
  - what: service account and token of the pod
    expression: >-
      {{ include "spoke-operator.sameOfPod" (list "serviceAccountName") }} &&
      variables.pod.?automountServiceAccountToken.orValue(true) ==
      variables.given.?automountServiceAccountToken.orValue(false)
containers:
  - what: the pod's containers
    expression: >-
      variables.pod.containers.map(c, c.name) == variables.given.containers.map(c, c.name) &&
      variables.pod.?initContainers.orValue([]).map(c, c.name) ==
      variables.given.?initContainers.orValue([]).map(c, c.name) &&
      {{ include "spoke-operator.sameOfContainers" (list "restartPolicy") }}
images:
  - what: the pod's images
    expression: >-
      {{ include "spoke-operator.sameOfContainers" (list "image" "imagePullPolicy") }} &&
      {{ include "spoke-operator.sameOfPod" (list "imagePullSecrets") }}
commands:
  - what: the commands of the pod's containers
    expression: >-
      {{ include "spoke-operator.sameOfContainers" (list "workingDir" "lifecycle" "livenessProbe" "readinessProbe" "startupProbe") }} &&
      variables.containers.all(c, c.name == 'job' ||
        variables.givenContainers.exists(t, t.name == c.name && c.?command == t.?command && c.?args == t.?args))
  - what: the termination messages of the pod's containers
    expression: >-
      variables.containers.all(c, variables.givenContainers.exists(t, t.name == c.name && (c.name == 'job' ?
        c.?terminationMessagePolicy.orValue('File') == 'File' &&
        c.?terminationMessagePath.orValue('/dev/termination-log') == '/dev/termination-log' :
        c.?terminationMessagePolicy == t.?terminationMessagePolicy &&
        c.?terminationMessagePath == t.?terminationMessagePath)))
environment:
  - what: the environment variables of the pod's containers
    expression: >-
      {{ include "spoke-operator.sameOfPod" (list "enableServiceLinks") }} &&
      {{ include "spoke-operator.sameOfContainers" (list "envFrom") }} &&
      variables.containers.all(c, variables.givenContainers.exists(t, t.name == c.name &&
        (c.name == 'job' ? c.?env.orValue([]).filter(e, !(e.name in variables.assigned)) ==
          t.?env.orValue([]).filter(e, !(e.name in variables.assigned)) : c.?env == t.?env)))
  - what: the sources of the variables that the operator sets
    expression: >-
      variables.containers.all(c, c.?env.orValue([]).all(e, !(e.name in variables.assigned) ||
        c.name != 'job' || !has(e.valueFrom) || has(e.valueFrom.fieldRef)))
volumes:
  - what: the pod's volumes
    expression: >-
      {{ include "spoke-operator.sameOfPod" (list "volumes" "resourceClaims") }} &&
      {{ include "spoke-operator.sameOfContainers" (list "volumeMounts" "volumeDevices" "resources.?claims") }}
network:
  - what: the pod's host name and DNS settings
    expression: >-
      {{ include "spoke-operator.sameOfPod" (list "dnsPolicy" "dnsConfig" "hostAliases" "hostname" "hostnameOverride" "subdomain" "setHostnameAsFQDN") }}
nodeAccess:
  - what: the pod's rights on its node
    expression: >-
      {{ include "spoke-operator.sameOfPod" (list "hostNetwork" "hostPID" "hostIPC" "hostUsers" "shareProcessNamespace" "runtimeClassName") }} &&
      {{ include "spoke-operator.sameOfContainers" (list "ports") }}
nodes:
  - what: the rules for the pod's node
    expression: >-
      {{ include "spoke-operator.sameOfPod" (list "nodeName" "nodeSelector" "affinity" "topologySpreadConstraints" "schedulerName" "schedulingGates" "priorityClassName" "priority" "preemptionPolicy") }}
  - what: the pod's tolerations
    expression: >-
      variables.pod.?tolerations.orValue([]).all(toleration, toleration in variables.given.?tolerations.orValue([]) ||
        toleration.?key.orValue('') in ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'] &&
        toleration.?effect.orValue('') == 'NoExecute' && has(toleration.tolerationSeconds) &&
        toleration.tolerationSeconds <= {{ include "spoke-operator.nodeGoneSeconds" . }}) &&
      variables.given.?tolerations.orValue([]).all(toleration, toleration in variables.pod.?tolerations.orValue([]))
securityContexts:
  - what: the security contexts of the pod
    expression: >-
      {{ include "spoke-operator.sameOfPod" (list "securityContext.?runAsUser" "securityContext.?runAsGroup" "securityContext.?fsGroup" "securityContext.?supplementalGroups" "securityContext.?supplementalGroupsPolicy" "securityContext.?sysctls" "securityContext.?seLinuxOptions" "securityContext.?windowsOptions" "securityContext.?appArmorProfile" "securityContext.?fsGroupChangePolicy" "securityContext.?seLinuxChangePolicy") }} &&
      variables.pod.?securityContext.?runAsNonRoot.orValue(false) ==
      variables.given.?securityContext.?runAsNonRoot.orValue(true) &&
      variables.pod.?securityContext.?seccompProfile.orValue({}) ==
      variables.given.?securityContext.?seccompProfile.orValue({'type': 'RuntimeDefault'})
  - what: the security contexts of the containers
    expression: >-
      {{ include "spoke-operator.sameOfContainers" (list "securityContext.?privileged" "securityContext.?runAsUser" "securityContext.?runAsGroup" "securityContext.?runAsNonRoot" "securityContext.?readOnlyRootFilesystem" "securityContext.?procMount" "securityContext.?seLinuxOptions" "securityContext.?seccompProfile" "securityContext.?windowsOptions" "securityContext.?appArmorProfile" "securityContext.?capabilities.?add") }} &&
      variables.containers.all(c, variables.givenContainers.exists(t, t.name == c.name &&
        c.?securityContext.?allowPrivilegeEscalation.orValue(true) ==
        t.?securityContext.?allowPrivilegeEscalation.orValue(false) &&
        c.?securityContext.?capabilities.?drop.orValue([]) ==
        t.?securityContext.?capabilities.?drop.orValue(['ALL'])))
labels:
  - what: the pod's labels
    expression: >-
      variables.podLabels.all(key, key.startsWith('jobs.spoke.dev/') || key in ['app.kubernetes.io/managed-by',
        'batch.kubernetes.io/controller-uid', 'batch.kubernetes.io/job-name', 'controller-uid', 'job-name'] ||
        key in variables.copiedLabels || (key in variables.givenLabels ?
          variables.podLabels[key] == variables.givenLabels[key] :
          variables.defaultLabels[?key].orValue('') == variables.podLabels[key])) &&
      variables.givenLabels.all(key, key in variables.podLabels || key.startsWith('jobs.spoke.dev/')) &&
      variables.defaultLabels.all(key, key in variables.podLabels)
  - what: the pod's annotations
    expression: >-
      variables.podAnnotations.all(key, key == 'cluster-autoscaler.kubernetes.io/safe-to-evict' ||
        key in variables.givenAnnotations && variables.podAnnotations[key] == variables.givenAnnotations[key]) &&
      variables.givenAnnotations.all(key, key in variables.podAnnotations)
otherFields:
  - what: other fields of the pod
    expression: >-
      {{ include "spoke-operator.sameFields" (dict "of" "variables.pod" "template" "variables.given" "except" "variables.namedPodFields") }}
  - what: other fields of the pod's containers
    expression: >-
      variables.containers.all(c, variables.givenContainers.exists(t, t.name == c.name && (c.name == 'job' ?
        {{ include "spoke-operator.sameFields" (dict "of" "c" "template" "t" "except" "(variables.namedContainerFields + ['resources'])") }} :
        {{ include "spoke-operator.sameFields" (dict "of" "c" "template" "t" "except" "variables.namedContainerFields") }})))
{{- end -}}
