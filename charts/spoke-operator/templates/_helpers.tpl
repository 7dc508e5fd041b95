{{/* Names and labels in the form that Kubernetes recommends. */}}

{{- define "spoke-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "spoke-operator.fullname" -}}
{{- $name := include "spoke-operator.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "spoke-operator.selectorLabels" -}}
{{ include "spoke-operator.releaseLabels" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "spoke-operator.testSelectorLabels" -}}
{{ include "spoke-operator.releaseLabels" . }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "spoke-operator.releaseLabels" -}}
app.kubernetes.io/name: {{ include "spoke-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "spoke-operator.labels" -}}
{{ include "spoke-operator.selectorLabels" . }}
{{ include "spoke-operator.furtherLabels" . }}
{{- end -}}

{{- define "spoke-operator.testLabels" -}}
{{ include "spoke-operator.testSelectorLabels" . }}
{{ include "spoke-operator.furtherLabels" . }}
{{- end -}}

{{- define "spoke-operator.furtherLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/part-of: spoke-jobs
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Merge labels or annotations from the values into the chart's own, which take precedence. (list OWN GIVEN); OWN is YAML text. */}}
{{- define "spoke-operator.merged" -}}
{{- toYaml (merge (index . 0 | fromYaml) (index . 1 | default dict)) -}}
{{- end -}}

{{- define "spoke-operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "spoke-operator.fullname" .) -}}
{{- end -}}

{{- define "spoke-operator.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "spoke-operator.lease" -}}
{{ .Release.Namespace }}/{{ include "spoke-operator.fullname" . }}
{{- end -}}

{{/* The part that the pods of the operator and of the test have in common. */}}
{{- define "spoke-operator.podCommons" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
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

{{- define "spoke-operator.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
