{{/* Names and labels in the form that Kubernetes recommends. */}}

{{- define "spoke-app.name" -}}
{{- default .Chart.Name (tpl .Values.nameOverride .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "spoke-app.fullname" -}}
{{- $name := include "spoke-app.name" . -}}
{{- with tpl .Values.fullnameOverride . -}}
{{- . | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* (dict "chart" . "component" "sync") */}}
{{- define "spoke-app.selectorLabels" -}}
app.kubernetes.io/name: {{ include "spoke-app.name" .chart | quote }}
app.kubernetes.io/instance: {{ .chart.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "spoke-app.labels" -}}
{{- include "spoke-app.merged" (list (include "spoke-app.ownLabels" .) .chart.Values.commonLabels) -}}
{{- end -}}

{{- define "spoke-app.ownLabels" -}}
{{ include "spoke-app.selectorLabels" . }}
app.kubernetes.io/version: {{ .chart.Values.image.tag | default .chart.Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/part-of: {{ .chart.Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .chart.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .chart.Chart.Name .chart.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/*
Merge labels or annotations from the values into the chart's own. The first that has a name takes precedence. (list OWN GIVEN ...); OWN is
YAML text.
*/}}
{{- define "spoke-app.merged" -}}
{{- $merged := first . | fromYaml -}}
{{- range rest . -}}{{- $merged = merge $merged (. | default dict) -}}{{- end -}}
{{- toYaml $merged -}}
{{- end -}}

{{/*
Defaults with the values that are given in their place, as JSON. Unlike mergeOverwrite, it also takes 0, false and what is empty. null removes
a default. (list DEFAULTS GIVEN)
*/}}
{{- define "spoke-app.overlaid" -}}
{{- $all := deepCopy (first .) -}}
{{- range $name, $value := last . | default dict -}}
{{- $old := index $all $name -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $all $name -}}
{{- else if and (kindIs "map" $value) (kindIs "map" $old) -}}
{{- $_ := set $all $name (include "spoke-app.overlaid" (list $old $value) | fromJson) -}}
{{- else -}}
{{- $_ := set $all $name $value -}}
{{- end -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* A mapping as YAML, without its null fields. */}}
{{- define "spoke-app.withoutNulls" -}}
{{- $kept := dict -}}
{{- range $name, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}{{- $_ := set $kept $name $value -}}{{- end -}}
{{- end -}}
{{- toYaml $kept -}}
{{- end -}}

{{/*
Refuse API servers that cannot select SpokeJobs by their outcome. This is not Chart.yaml's kubeVersion, because without a cluster
(`helm template`) Helm assumes a version of its own, often an old one. That version has patch 0, and comes with APIs that no current
cluster has.
*/}}
{{- define "spoke-app.checkKubernetes" -}}
{{- $version := .Capabilities.KubeVersion.Version -}}
{{- $assumed := and (eq (int64 (semver $version).Patch) 0) (.Capabilities.APIVersions.Has "extensions/v1beta1") -}}
{{- if not (or $assumed (semverCompare ">=1.31.0-0" $version)) -}}
{{- fail (printf "the chart %s is incompatible with Kubernetes %s: it needs 1.31 or later" .Chart.Name $version) -}}
{{- end -}}
{{- end -}}

{{- define "spoke-app.image" -}}
{{- include "spoke-app.imageOf" (dict "chart" . "image" .Values.image) -}}
{{- end -}}

{{/* (dict "chart" . "image" (dict "repository" "shop" "tag" "1")) */}}
{{- define "spoke-app.imageOf" -}}
{{- $repository := required "image.repository: name the application's image, built on spoke-jobs-runner" .image.repository -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ .image.tag | default .chart.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* A service account of this chart's pods. (dict "chart" . "component" "jobs") */}}
{{- define "spoke-app.accountName" -}}
{{- $account := index .chart.Values.serviceAccounts .component -}}
{{- if not (or $account.create $account.name) -}}
{{- fail (printf "serviceAccounts.%s.name: name the existing account, because serviceAccounts.%s.create is false" .component .component) -}}
{{- end -}}
{{- $account.name | default (printf "%s-%s" (include "spoke-app.fullname" .chart) .component) -}}
{{- end -}}

{{/* The service account of pods that dispatch jobs. */}}
{{- define "spoke-app.runnerServiceAccountName" -}}
{{- .Values.runner.serviceAccount.name | default (printf "%s-runner" (include "spoke-app.fullname" .)) -}}
{{- end -}}

{{/* The Secret with the database's URL, as name: and key:. (dict "chart" . "database" .Values.database.jobs) */}}
{{- define "spoke-app.databaseSecret" -}}
{{- $own := .database | default dict -}}
{{- $general := .chart.Values.database -}}
name: {{ tpl (required "database.secretName: name the Secret with the database's URL" ($own.secretName | default $general.secretName)) .chart | quote }}
key: {{ $own.secretKey | default $general.secretKey | quote }}
{{- end -}}

{{/* The variable with the database's URL, or with the file that has it. (dict "chart" . "database" .Values.database.jobs) */}}
{{- define "spoke-app.databaseVariable" -}}
{{- if .chart.Values.secretsAsFiles -}}
- name: SPOKE_DATABASE_URL_FILE
  value: /var/run/secrets/spoke-database/url
{{- else -}}
- name: SPOKE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      {{- include "spoke-app.databaseSecret" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* The mount and the volume of that file, as lists that may be empty. */}}
{{- define "spoke-app.databaseMount" -}}
{{- if .Values.secretsAsFiles -}}
- name: spoke-database
  mountPath: /var/run/secrets/spoke-database
  readOnly: true
{{- end }}
{{- end -}}

{{- define "spoke-app.databaseVolume" -}}
{{- if .chart.Values.secretsAsFiles -}}
{{- $secret := include "spoke-app.databaseSecret" . | fromYaml -}}
- name: spoke-database
  secret:
    secretName: {{ $secret.name | quote }}
    items:
      - {key: {{ $secret.key | quote }}, path: url}
{{- end }}
{{- end -}}

{{/* The same for the tasks' key. */}}
{{- define "spoke-app.tasksKeySecretName" -}}
{{- tpl (required "tasks.key.secretName: name the Secret with the tasks' key, or set tasks.tokens.enabled=true, or tasks.enabled=false" .Values.tasks.key.secretName) . -}}
{{- end -}}

{{- define "spoke-app.tasksKeyMount" -}}
{{- if and .Values.secretsAsFiles .Values.tasks.enabled (not .Values.tasks.tokens.enabled) -}}
- name: spoke-tasks-key
  mountPath: /var/run/secrets/spoke-tasks-key
  readOnly: true
{{- end }}
{{- end -}}

{{- define "spoke-app.tasksKeyVolume" -}}
{{- if and .Values.secretsAsFiles .Values.tasks.enabled (not .Values.tasks.tokens.enabled) -}}
- name: spoke-tasks-key
  secret:
    secretName: {{ include "spoke-app.tasksKeySecretName" . | quote }}
    items:
      - {key: {{ .Values.tasks.key.secretKey | quote }}, path: key}
{{- end }}
{{- end -}}

{{/*
The same for the key of progress tokens. Jobs, tasks and the application's own pods make tokens, and the dashboard or the application reads
them. Without a Secret, there is none.
*/}}
{{- define "spoke-app.progressKeySecretName" -}}
{{- tpl .Values.dashboard.progress.key.secretName . -}}
{{- end -}}

{{- define "spoke-app.progressKeyVariable" -}}
{{- with include "spoke-app.progressKeySecretName" . -}}
{{- if $.Values.secretsAsFiles -}}
- name: SPOKE_PROGRESS_KEY_FILE
  value: /var/run/secrets/spoke-progress-key/key
{{- else -}}
- name: SPOKE_PROGRESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: {{ $.Values.dashboard.progress.key.secretKey | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "spoke-app.progressKeyMount" -}}
{{- if and .Values.secretsAsFiles (include "spoke-app.progressKeySecretName" .) -}}
- name: spoke-progress-key
  mountPath: /var/run/secrets/spoke-progress-key
  readOnly: true
{{- end }}
{{- end -}}

{{- define "spoke-app.progressKeyVolume" -}}
{{- if and .Values.secretsAsFiles (include "spoke-app.progressKeySecretName" .) -}}
- name: spoke-progress-key
  secret:
    secretName: {{ include "spoke-app.progressKeySecretName" . | quote }}
    items:
      - {key: {{ .Values.dashboard.progress.key.secretKey | quote }}, path: key}
{{- end }}
{{- end -}}

{{/*
The variables of a process that dispatches jobs and tasks, as a list for env:. Use them in the application's own chart like this:

  serviceAccountName: {{ include "spoke-app.runnerServiceAccountName" (index .Subcharts "spoke-app") }}
  automountServiceAccountToken: true
  ...
  env:
    {{- include "spoke-app.environment" (index .Subcharts "spoke-app") | nindent 4 }}
*/}}
{{- define "spoke-app.environment" -}}
{{ include "spoke-app.environmentOf" (dict "chart" . "database" dict) }}
{{- end -}}

{{/* The same with another Secret for the database's URL. (dict "chart" . "database" .Values.database.jobs) */}}
{{- define "spoke-app.environmentOf" -}}
{{ include "spoke-app.commonEnvironment" . }}
{{- with .chart }}
{{ include "spoke-app.progressKeyVariable" . }}
{{- if .Values.tasks.enabled }}
- name: SPOKE_TASKS_URL
  value: {{ printf "%s://%s-tasks:8080" (include "spoke-app.tasksScheme" .) (include "spoke-app.fullname" .) | quote }}
{{- if and .Values.tasks.tls.enabled .Values.tasks.tls.ca.key }}
- name: SPOKE_TASKS_CA_FILE
  value: /var/run/secrets/spoke-tasks-ca/ca.crt
{{- end }}
{{- if .Values.tasks.tokens.enabled }}
- name: SPOKE_TASKS_TOKEN_FILE
  value: /var/run/secrets/spoke-tasks/token
{{- else if .Values.secretsAsFiles }}
- name: SPOKE_TASKS_KEY_FILE
  value: /var/run/secrets/spoke-tasks-key/key
{{- else }}
- name: SPOKE_TASKS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "spoke-app.tasksKeySecretName" . | quote }}
      key: {{ .Values.tasks.key.secretKey | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "spoke-app.tasksScheme" -}}
{{- ternary "https" "http" .Values.tasks.tls.enabled -}}
{{- end -}}

{{/* The Secret with the task deployment's certificate and private key. */}}
{{- define "spoke-app.tasksTlsSecretName" -}}
{{- tpl .Values.tasks.tls.secretName . | default (printf "%s-tasks-tls" (include "spoke-app.fullname" .)) -}}
{{- end -}}

{{/* The names of a certificate for the task deployment. Dispatchers use the first. */}}
{{- define "spoke-app.tasksDnsNames" -}}
{{- $name := printf "%s-tasks" (include "spoke-app.fullname" .) -}}
- {{ $name | quote }}
- {{ printf "%s.%s" $name .Release.Namespace | quote }}
- {{ printf "%s.%s.svc" $name .Release.Namespace | quote }}
{{- end -}}

{{/*
The volume mounts and volumes of a pod with these variables, as lists: the Secrets (if secretsAsFiles), the token for the task deployment
(if tasks.tokens.enabled), the CA certificates that verify it (if tasks.tls.enabled), and the values volumes and volumeMounts. Both lists
may be empty.

  volumeMounts:
    {{- include "spoke-app.volumeMounts" (index .Subcharts "spoke-app") | nindent 4 }}
  ...
  volumes:
    {{- include "spoke-app.volumes" (index .Subcharts "spoke-app") | nindent 4 }}
*/}}
{{- define "spoke-app.volumeMounts" -}}
{{ include "spoke-app.databaseMount" . }}
{{ include "spoke-app.progressKeyMount" . }}
{{ include "spoke-app.tasksKeyMount" . }}
{{- if and .Values.tasks.enabled .Values.tasks.tokens.enabled -}}
- name: spoke-tasks-token
  mountPath: /var/run/secrets/spoke-tasks
  readOnly: true
{{- end }}
{{- if and .Values.tasks.enabled .Values.tasks.tls.enabled .Values.tasks.tls.ca.key }}
- name: spoke-tasks-ca
  mountPath: /var/run/secrets/spoke-tasks-ca
  readOnly: true
{{- end }}
{{ include "spoke-app.givenVolumeMounts" . }}
{{- end -}}

{{- define "spoke-app.volumes" -}}
{{ include "spoke-app.volumesOf" (dict "chart" . "database" dict) }}
{{- end -}}

{{/* The same with another Secret for the database's URL. (dict "chart" . "database" .Values.database.jobs) */}}
{{- define "spoke-app.volumesOf" -}}
{{ include "spoke-app.databaseVolume" . }}
{{- with .chart }}
{{ include "spoke-app.progressKeyVolume" . }}
{{ include "spoke-app.tasksKeyVolume" . }}
{{- if and .Values.tasks.enabled .Values.tasks.tokens.enabled }}
- name: spoke-tasks-token
  projected:
    sources:
      - serviceAccountToken: {audience: spoke-tasks, path: token, expirationSeconds: 3600}
{{- end }}
{{- with .Values.tasks.tls }}
{{- if and $.chart.Values.tasks.enabled .enabled .ca.key }}
{{- if and .ca.secretName .ca.configMapName }}
{{- fail "tasks.tls.ca: set secretName or configMapName, not both" }}
{{- end }}
- name: spoke-tasks-ca
  # Only this key: the Secret may also have the private key.
  {{- if .ca.configMapName }}
  configMap:
    name: {{ tpl .ca.configMapName $.chart | quote }}
  {{- else }}
  secret:
    secretName: {{ tpl .ca.secretName $.chart | default (include "spoke-app.tasksTlsSecretName" $.chart) | quote }}
  {{- end }}
    items:
      - key: {{ .ca.key | quote }}
        path: ca.crt
{{- end }}
{{- end }}
{{ include "spoke-app.givenVolumes" . }}
{{- end }}
{{- end -}}

{{/* The volume mounts and volumes of a pod that sends no tasks. */}}
{{- define "spoke-app.givenVolumeMounts" -}}
{{- with .Values.volumeMounts -}}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end -}}

{{- define "spoke-app.givenVolumes" -}}
{{- with .Values.volumes -}}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end -}}

{{- define "spoke-app.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- tpl (toYaml .) $ | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The accounts whose tokens the task deployment accepts: the release's own accounts that dispatch, and tasks.tokens.callers. */}}
{{- define "spoke-app.tasksCallers" -}}
{{- $namespace := .Release.Namespace -}}
{{- $own := list (include "spoke-app.runnerServiceAccountName" .) -}}
{{- range tuple "jobs" "tasks" -}}{{- $own = append $own (include "spoke-app.accountName" (dict "chart" $ "component" .)) -}}{{- end -}}
{{- $callers := list -}}
{{- range $own -}}{{- $callers = append $callers (printf "%s/%s" $namespace .) -}}{{- end -}}
{{- range $given := .Values.podTemplates -}}
{{- $template := include "spoke-app.overlaid" (list $.Values.podTemplateDefaults $given) | fromJson -}}
{{- with $template.serviceAccountName -}}
{{- $callers = append $callers (printf "%s/%s" $namespace (tpl . $)) -}}
{{- end -}}
{{- end -}}
{{- concat $callers .Values.tasks.tokens.callers | uniq | join "," -}}
{{- end -}}

{{/* The environment of all containers. (dict "chart" . "database" .Values.database.jobs) */}}
{{- define "spoke-app.commonEnvironment" -}}
{{- $database := include "spoke-app.databaseVariable" . -}}
{{- with .chart -}}
- name: JOB_RUNNER
  value: {{ $.runner | default "kubernetes" }}
- name: SPOKE_APP
  value: {{ required "app: name the module that declares the application's jobs" .Values.app | quote }}
- name: SPOKE_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: SPOKE_SERVICE_ACCOUNT
  valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}
{{ $database }}
{{- with .Values.database.schema }}
- name: SPOKE_SCHEMA
  value: {{ . | quote }}
{{- end }}
{{- with .Values.env }}
{{ tpl (toYaml .) $.chart }}
{{- end }}
{{- end }}
{{- end -}}

{{/* spoke-app.environment for a pod without API credentials. Sync creates the SpokeJobs of the jobs that it dispatches. */}}
{{- define "spoke-app.environmentWithoutCredentials" -}}
{{ include "spoke-app.environmentWithoutCredentialsOf" (dict "chart" . "database" dict) }}
{{- end -}}

{{/* The same with another Secret for the database's URL. (dict "chart" . "database" .Values.database.jobs) */}}
{{- define "spoke-app.environmentWithoutCredentialsOf" -}}
- name: SPOKE_SUBMIT
  value: sync
{{ include "spoke-app.environmentOf" . }}
{{- end -}}

{{/*
The security contexts of a pod and of a container. By default they have what the Pod Security Standard `restricted` requires. The image
must have a numeric user that is not root. The container's takes (dict "readOnlyRootFilesystem" true "chart" .); without a chart, it has
the defaults.
*/}}
{{- define "spoke-app.podSecurityContext" -}}
{{- include "spoke-app.withoutNulls" (.Values.podSecurityContext | default dict) -}}
{{- end -}}

{{- define "spoke-app.securityContext" -}}
{{- $context := dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL")) -}}
{{- with .chart -}}{{- $context = deepCopy (.Values.securityContext | default dict) -}}{{- end -}}
{{- if not (hasKey $context "readOnlyRootFilesystem") -}}
{{- $_ := set $context "readOnlyRootFilesystem" .readOnlyRootFilesystem -}}
{{- end -}}
{{- include "spoke-app.withoutNulls" $context -}}
{{- end -}}

{{/*
The part that the pods of sync, tasks, workers, migrations and the test have in common. (dict "chart" . "component" "sync"); "own" are the
component's values, if they are not the chart's value of that name.
*/}}
{{- define "spoke-app.podCommons" -}}
{{- $general := .chart.Values -}}
{{- $own := .own | default (index $general .component) -}}
enableServiceLinks: false
securityContext:
  {{- include "spoke-app.podSecurityContext" .chart | nindent 2 }}
{{- with include "spoke-app.imagePullSecrets" .chart }}
{{ . }}
{{- end }}
{{- range $field := list "priorityClassName" "nodeSelector" "tolerations" "affinity" }}
{{- with ternary (index $general $field) (index $own $field) (kindIs "invalid" (index $own $field)) }}
{{ $field }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Additional environment of a component's container, after its own env:. (dict "chart" . "component" "sync") */}}
{{- define "spoke-app.componentEnvironment" -}}
{{- $own := .own | default (index .chart.Values .component) -}}
{{- with $own.env -}}
{{ tpl (toYaml .) $.chart }}
{{- end }}
{{- end -}}

{{/* envFrom: of a component's container. (dict "chart" . "component" "sync") */}}
{{- define "spoke-app.envFrom" -}}
{{- $own := .own | default (index .chart.Values .component) -}}
{{- with concat (.chart.Values.envFrom | default list) ($own.envFrom | default list) -}}
envFrom:
  {{- tpl (toYaml .) $.chart | nindent 2 }}
{{- end }}
{{- end -}}

{{/* How replicas are spread: as the values say, else over nodes. (dict "chart" . "component" "sync") */}}
{{- define "spoke-app.spread" -}}
{{- $own := .own | default (index .chart.Values .component) -}}
topologySpreadConstraints:
{{- if $own.topologySpreadConstraints }}
{{- include "spoke-app.constraints" (dict "chart" .chart "component" .component "constraints" $own.topologySpreadConstraints) | nindent 2 }}
{{- else }}
  - topologyKey: kubernetes.io/hostname
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "spoke-app.selectorLabels" . | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end -}}

{{/* Given constraints, each with a selector. (dict "chart" . "component" "sync" "constraints" LIST) */}}
{{- define "spoke-app.constraints" -}}
{{- $constraints := list -}}
{{- range .constraints -}}
{{- $constraint := deepCopy . -}}
{{- if not (hasKey . "labelSelector") -}}
{{- $_ := set $constraint "labelSelector" (dict "matchLabels" (include "spoke-app.selectorLabels" $ | fromYaml)) -}}
{{- end -}}
{{- $constraints = append $constraints $constraint -}}
{{- end -}}
{{- toYaml $constraints -}}
{{- end -}}

{{/* (dict "chart" . "component" "sync") */}}
{{- define "spoke-app.disruptionBudget" }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ printf "%s-%s" (include "spoke-app.fullname" .chart) .component | quote }}
  namespace: {{ .chart.Release.Namespace | quote }}
  labels:
    {{- include "spoke-app.labels" . | nindent 4 }}
spec:
  # A drain evicts the pods one after the other. A pod that is not ready does not block a drain.
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "spoke-app.selectorLabels" . | nindent 6 }}
{{- end -}}

{{/* Whether a PodTemplate asks for standby pods. */}}
{{- define "spoke-app.hasStandbyPods" -}}
{{- range .Values.podTemplates -}}
{{- if dig "standby" $.Values.podTemplateDefaults.standby (. | default dict) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* The annotations by which a PodTemplate bounds the jobs that use it, from one of podTemplates merged with the defaults, and asks for standby
pods. */}}
{{- define "spoke-app.templateRules" -}}
{{- $rules := dict -}}
{{- with .copiedLabels -}}{{- $_ := set $rules "copied-labels" (join "," .) -}}{{- end -}}
{{- range $key, $given := dict "allowed-types" .allowedTypes "allowed-resources" .allowedResources -}}
{{- if not (kindIs "invalid" $given) -}}{{- $_ := set $rules $key (join "," $given) -}}{{- end -}}
{{- end -}}
{{- range $key, $given := dict "min-resources" .minResources "max-resources" .maxResources -}}
{{- $amounts := list -}}
{{- range $name, $amount := $given -}}
{{- /* Without toJson, a large number would be rendered as 1e+06. */ -}}
{{- if not (kindIs "invalid" $amount) -}}{{- $amounts = append $amounts (printf "%s=%s" $name (kindIs "string" $amount | ternary $amount ($amount | toJson))) -}}{{- end -}}
{{- end -}}
{{- with $amounts -}}{{- $_ := set $rules $key (join "," .) -}}{{- end -}}
{{- end -}}
{{- with .standby -}}
{{- $bounds := splitList "-" . -}}
{{- if gt (index $bounds 0 | int) (index $bounds 1 | int) -}}
{{- fail (printf "standby: %s of a PodTemplate: the first number, the fewest standby pods, must not be over the second" .) -}}
{{- end -}}
{{- if gt (index $bounds 1 | int) 500 -}}
{{- fail (printf "standby: %s of a PodTemplate: the second number, the most standby pods, must be at most 500" .) -}}
{{- end -}}
{{- $_ := set $rules "standby" . -}}
{{- end -}}
{{- range $key, $value := $rules }}
jobs.spoke.dev/{{ $key }}: {{ $value | quote }}
{{- end -}}
{{- end -}}
