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
app.kubernetes.io/name: {{ include "spoke-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "spoke-operator.labels" -}}
{{- include "spoke-operator.merged" (list (include "spoke-operator.ownLabels" .) .Values.commonLabels) -}}
{{- end -}}

{{- define "spoke-operator.ownLabels" -}}
{{ include "spoke-operator.selectorLabels" . }}
{{ include "spoke-operator.furtherLabels" . }}
{{- end -}}

{{- define "spoke-operator.testLabels" -}}
{{- $own := printf "%s\n%s" (include "spoke-operator.testSelectorLabels" .) (include "spoke-operator.furtherLabels" .) -}}
{{- include "spoke-operator.merged" (list $own .Values.commonLabels) -}}
{{- end -}}

{{- define "spoke-operator.furtherLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/part-of: spoke-jobs
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/*
Merge labels or annotations from the values into the chart's own. The first that has a name takes precedence. (list OWN GIVEN ...); OWN is
YAML text.
*/}}
{{- define "spoke-operator.merged" -}}
{{- $merged := first . | fromYaml -}}
{{- range rest . -}}{{- $merged = merge $merged (. | default dict) -}}{{- end -}}
{{- toYaml $merged -}}
{{- end -}}

{{/* A mapping as YAML, without its null fields. */}}
{{- define "spoke-operator.withoutNulls" -}}
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
{{- define "spoke-operator.checkKubernetes" -}}
{{- $version := .Capabilities.KubeVersion.Version -}}
{{- $assumed := and (eq (int64 (semver $version).Patch) 0) (.Capabilities.APIVersions.Has "extensions/v1beta1") -}}
{{- if not (or $assumed (semverCompare ">=1.31.0-0" $version)) -}}
{{- fail (printf "the chart %s is incompatible with Kubernetes %s: it needs 1.31 or later" .Chart.Name $version) -}}
{{- end -}}
{{- end -}}

{{- define "spoke-operator.serviceAccountName" -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.name: name the existing account, because serviceAccount.create is false" -}}
{{- end -}}
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
  {{- include "spoke-operator.withoutNulls" .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
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
{{- include "spoke-operator.withoutNulls" .Values.securityContext -}}
{{- end -}}

{{/* The present names of the values in `operator`, by the names that the next release no longer accepts. */}}
{{- define "spoke-operator.renamed" -}}
newsPerSecond: statusWritesPerSecond
newsAtOnce: statusWritesAtOnce
newsWithinSeconds: statusWritesWithinSeconds
deafAfterSeconds: unhealthyAfterSeconds
{{- end -}}

{{/* The values in `operator` by their present names, as JSON. A value with an old name takes the place of the one with the new name. */}}
{{- define "spoke-operator.settings" -}}
{{- $settings := deepCopy .Values.operator -}}
{{- range $old, $new := include "spoke-operator.renamed" . | fromYaml -}}
{{- if hasKey $settings $old -}}
{{- if not (kindIs "invalid" (get $settings $old)) -}}{{- $_ := set $settings $new (get $settings $old) -}}{{- end -}}
{{- $_ := unset $settings $old -}}
{{- end -}}
{{- end -}}
{{- toJson $settings -}}
{{- end -}}
