{{/* (dict "chart" . "component" "web") */}}
{{- define "texting.selectorLabels" -}}
app.kubernetes.io/name: {{ .chart.Chart.Name }}
app.kubernetes.io/instance: {{ .chart.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "texting.labels" -}}
{{ include "texting.selectorLabels" . }}
app.kubernetes.io/version: {{ .chart.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ .chart.Release.Name }}
app.kubernetes.io/managed-by: {{ .chart.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .chart.Chart.Name .chart.Chart.Version | replace "+" "_" }}
{{- end -}}
