{{/* What objects are called, and how they are found. Templates of a component take a dict: root, component. */}}

{{- define "reprise.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "reprise.name" -}}
{{- printf "%s-%s" (include "reprise.fullname" .root) .component -}}
{{- end -}}

{{/* What selects the pods of a component; it never changes. */}}
{{- define "reprise.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* What every object carries. Versions are not in the labels of pods: a new chart alone restarts none. */}}
{{- define "reprise.labels" -}}
{{ include "reprise.selector" . }}
app.kubernetes.io/part-of: reprise
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "reprise.metadata" -}}
name: {{ include "reprise.name" . }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "reprise.labels" . | nindent 2 }}
{{- end -}}

{{- define "reprise.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "reprise.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "reprise.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The secret that holds the server's certificate; empty: connections are not encrypted. */}}
{{- define "reprise.tlsSecret" -}}
{{- with .Values.controlPlane.tls -}}
{{- if .existingSecret -}}
{{- .existingSecret -}}
{{- else if .certManager.enabled -}}
{{- include "reprise.fullname" $ -}}-tls
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" when callers have to say who they are. */}}
{{- define "reprise.authIsOn" -}}
{{- with .Values.controlPlane.auth -}}
{{- if or .jwt.existingConfigMap .jwt.existingSecret .certificates -}}true{{- end -}}
{{- end -}}
{{- end -}}
