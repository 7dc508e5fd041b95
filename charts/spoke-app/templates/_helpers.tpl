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
app.kubernetes.io/name: {{ include "spoke-app.name" .chart }}
app.kubernetes.io/instance: {{ .chart.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "spoke-app.labels" -}}
{{ include "spoke-app.selectorLabels" . }}
app.kubernetes.io/version: {{ .chart.Values.image.tag | default .chart.Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/part-of: {{ .chart.Release.Name }}
app.kubernetes.io/managed-by: {{ .chart.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .chart.Chart.Name .chart.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Merge labels or annotations from the values into the chart's own, which take precedence. (list OWN GIVEN); OWN is YAML text. */}}
{{- define "spoke-app.merged" -}}
{{- toYaml (merge (index . 0 | fromYaml) (index . 1 | default dict)) -}}
{{- end -}}

{{- define "spoke-app.image" -}}
{{- $repository := required "image.repository: name the application's image, built on spoke-jobs-runner" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The service account of pods that dispatch jobs. */}}
{{- define "spoke-app.runnerServiceAccountName" -}}
{{- .Values.runner.serviceAccount.name | default (printf "%s-runner" (include "spoke-app.fullname" .)) -}}
{{- end -}}

{{- define "spoke-app.databaseSecretName" -}}
{{- tpl (required "database.secretName: name the Secret with the database's URL" .Values.database.secretName) . -}}
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
{{ include "spoke-app.environmentOfMigrations" . }}
{{- if .Values.tasks.enabled }}
- name: SPOKE_TASKS_URL
  value: http://{{ include "spoke-app.fullname" . }}-tasks:8080
{{- if .Values.tasks.tokens.enabled }}
- name: SPOKE_TASKS_TOKEN_FILE
  value: /var/run/secrets/spoke-tasks/token
{{- else }}
- name: SPOKE_TASKS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ tpl (required "tasks.key.secretName: name the Secret with the tasks' key, or set tasks.tokens.enabled=true, or tasks.enabled=false" .Values.tasks.key.secretName) . }}
      key: {{ .Values.tasks.key.secretKey }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
The volume mounts and volumes of a pod with these variables, as lists: the token for the task deployment (if tasks.tokens.enabled), and
the values volumes and volumeMounts. Both lists may be empty.

  volumeMounts:
    {{- include "spoke-app.volumeMounts" (index .Subcharts "spoke-app") | nindent 4 }}
  ...
  volumes:
    {{- include "spoke-app.volumes" (index .Subcharts "spoke-app") | nindent 4 }}
*/}}
{{- define "spoke-app.volumeMounts" -}}
{{- if and .Values.tasks.enabled .Values.tasks.tokens.enabled -}}
- name: spoke-tasks-token
  mountPath: /var/run/secrets/spoke-tasks
  readOnly: true
{{- end }}
{{ include "spoke-app.givenVolumeMounts" . }}
{{- end -}}

{{- define "spoke-app.volumes" -}}
{{- if and .Values.tasks.enabled .Values.tasks.tokens.enabled -}}
- name: spoke-tasks-token
  projected:
    sources:
      - serviceAccountToken: {audience: spoke-tasks, path: token, expirationSeconds: 3600}
{{- end }}
{{ include "spoke-app.givenVolumes" . }}
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
{{- range tuple "jobs" "tasks" -}}{{- $own = append $own (printf "%s-%s" (include "spoke-app.fullname" $) .) -}}{{- end -}}
{{- $callers := list -}}
{{- range $own -}}{{- $callers = append $callers (printf "%s/%s" $namespace .) -}}{{- end -}}
{{- range $given := .Values.podTemplates -}}
{{- with ($given | default dict).serviceAccountName | default $.Values.podTemplateDefaults.serviceAccountName -}}
{{- $callers = append $callers (printf "%s/%s" $namespace (tpl . $)) -}}
{{- end -}}
{{- end -}}
{{- concat $callers .Values.tasks.tokens.callers | uniq | join "," -}}
{{- end -}}

{{/* The environment of migrations. It uses no Secret but the database's, because the release's objects do not exist yet. */}}
{{- define "spoke-app.environmentOfMigrations" -}}
- name: JOB_RUNNER
  value: kubernetes
- name: SPOKE_APP
  value: {{ required "app: name the module that declares the application's jobs" .Values.app | quote }}
- name: SPOKE_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: SPOKE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "spoke-app.databaseSecretName" . }}
      key: {{ .Values.database.secretKey }}
{{- with .Values.env }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end -}}

{{/* spoke-app.environment for a pod without API credentials. Sync creates the SpokeJobs of the jobs that it dispatches. */}}
{{- define "spoke-app.environmentWithoutCredentials" -}}
- name: SPOKE_SUBMIT
  value: sync
{{ include "spoke-app.environment" . }}
{{- end -}}

{{/*
The security contexts of a pod and of a container that the Pod Security Standard `restricted` requires. The pod's also has the value
podSecurityContext. The image must have a numeric user that is not root.
*/}}
{{- define "spoke-app.podSecurityContext" -}}
{{- $restricted := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- toYaml (mergeOverwrite $restricted (deepCopy (.Values.podSecurityContext | default dict))) -}}
{{- end -}}

{{- define "spoke-app.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ .readOnlyRootFilesystem }}
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The part that the pods of sync, tasks, migrations and the test have in common. */}}
{{- define "spoke-app.podCommons" -}}
enableServiceLinks: false
securityContext:
  {{- include "spoke-app.podSecurityContext" . | nindent 2 }}
{{- with include "spoke-app.imagePullSecrets" . }}
{{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Spread replicas over nodes. (dict "chart" . "component" "sync") */}}
{{- define "spoke-app.spread" -}}
topologySpreadConstraints:
  - topologyKey: kubernetes.io/hostname
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "spoke-app.selectorLabels" . | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- end -}}

{{/* (dict "chart" . "component" "sync") */}}
{{- define "spoke-app.disruptionBudget" }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "spoke-app.fullname" .chart }}-{{ .component }}
  namespace: {{ .chart.Release.Namespace }}
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
