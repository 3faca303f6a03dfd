{{/* What pods are made of. Templates take a dict: root, component, values (of the component), secrets. */}}

{{/* Pod Security Standards: restricted. */}}
{{- define "reprise.pod.security" -}}
runAsNonRoot: true
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- with get $.Values.pods $key }}
{{ $key }}: {{ int64 . }}
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "reprise.container.security" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The beginning of every container. */}}
{{- define "reprise.container.image" -}}
image: {{ include "reprise.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "reprise.container.security" . | nindent 2 }}
{{- end -}}

{{/* The beginning of every pod's spec. */}}
{{- define "reprise.pod.common" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "reprise.pod.security" . | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Where the pods of a Deployment go. */}}
{{- define "reprise.pod.placing" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.topologySpread.topologyKeys }}
topologySpreadConstraints:
  {{- range . }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $.root.Values.pods.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "reprise.selector" $ | nindent 8 }}
    # Counts only pods of one version, so that a rolling update leaves them spread.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of the pods of a Deployment. Takes config (its text) beside. */}}
{{- define "reprise.pod.metadata" -}}
labels:
  {{- include "reprise.selector" . | nindent 2 }}
  {{- with merge (deepCopy .values.podLabels) .root.Values.pods.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/catalog: {{ include "reprise.catalog" .root | sha256sum }}
  checksum/config: {{ .config | sha256sum }}
  {{- with merge (deepCopy .values.podAnnotations) .root.Values.pods.annotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Variables that name the files of secrets. */}}
{{- define "reprise.pod.secretVariables" -}}
- name: REPRISE_MYSQL__URL_FILE
  value: /etc/reprise/connections/mysql/url
- name: REPRISE_REDIS__URL_FILE
  value: /etc/reprise/connections/redis/url
{{- with .root.Values.kafka }}
{{- if .sasl.mechanism }}
- name: REPRISE_KAFKA__PROPERTIES__SASL__USERNAME_FILE
  value: /etc/reprise/connections/kafka/username
- name: REPRISE_KAFKA__PROPERTIES__SASL__PASSWORD_FILE
  value: /etc/reprise/connections/kafka/password
{{- end }}
{{- if and .tls.enabled .tls.existingSecret .tls.certificateKey .tls.passwordKey }}
- name: REPRISE_KAFKA__PROPERTIES__SSL__KEY__PASSWORD_FILE
  value: /etc/reprise/connections/kafka/client.password
{{- end }}
{{- end }}
{{- end -}}

{{/* One projected secret. Takes a dict: secret, items (path → key; those without a key are left out). */}}
{{- define "reprise.pod.projected" -}}
- secret:
    name: {{ .secret }}
    items:
      {{- range $path, $key := .items }}
      {{- if $key }}
      - { key: {{ $key | quote }}, path: {{ $path | quote }} }
      {{- end }}
      {{- end }}
{{- end -}}

{{/* The files of MySQL's secrets. Takes a dict: root, secret (of the URL). */}}
{{- define "reprise.pod.mysqlFiles" -}}
{{- with .root.Values.mysql }}
{{ include "reprise.pod.projected" (dict "secret" $.secret "items" (dict "mysql/url" .urlKey)) }}
{{- if and .tls.existingSecret (or .tls.caKey .tls.certificateKey) }}
{{ include "reprise.pod.projected" (dict "secret" .tls.existingSecret "items" (dict "mysql/ca.crt" .tls.caKey "mysql/client.crt" .tls.certificateKey "mysql/client.key" .tls.privateKeyKey)) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* All that a service connects with, in one read-only folder. */}}
{{- define "reprise.pod.connections" -}}
- name: connections
  projected:
    defaultMode: 0440
    sources:
      {{- include "reprise.pod.mysqlFiles" (dict "root" .root "secret" (default .root.Values.mysql.existingSecret .values.secrets.mysql)) | trim | nindent 6 }}
      {{- with .root.Values.redis }}
      {{- include "reprise.pod.projected" (dict "secret" (default .existingSecret $.values.secrets.redis) "items" (dict "redis/url" .urlKey)) | nindent 6 }}
      {{- if and .tls.existingSecret (or .tls.caKey .tls.certificateKey) }}
      {{- include "reprise.pod.projected" (dict "secret" .tls.existingSecret "items" (dict "redis/ca.crt" .tls.caKey "redis/client.crt" .tls.certificateKey "redis/client.key" .tls.privateKeyKey)) | nindent 6 }}
      {{- end }}
      {{- end }}
      {{- with .root.Values.kafka }}
      {{- if .sasl.mechanism }}
      {{- include "reprise.pod.projected" (dict "secret" (default .sasl.existingSecret $.values.secrets.kafka) "items" (dict "kafka/username" .sasl.usernameKey "kafka/password" .sasl.passwordKey)) | nindent 6 }}
      {{- end }}
      {{- if and .tls.enabled .tls.existingSecret (or .tls.caKey .tls.certificateKey) }}
      {{- include "reprise.pod.projected" (dict "secret" .tls.existingSecret "items" (dict "kafka/ca.crt" .tls.caKey "kafka/client.crt" .tls.certificateKey "kafka/client.key" .tls.privateKeyKey "kafka/client.password" .tls.passwordKey)) | nindent 6 }}
      {{- end }}
      {{- end }}
      {{- with .values.databaseReplica }}
      {{- if .existingSecret }}
      {{- include "reprise.pod.projected" (dict "secret" .existingSecret "items" (dict "mysql/replica-url" .urlKey)) | nindent 6 }}
      {{- end }}
      {{- end }}
{{- end -}}

{{/* The volumes of a service: its configuration, the catalog, and its connections. */}}
{{- define "reprise.pod.volumes" -}}
- name: config
  configMap:
    name: {{ include "reprise.name" . }}
- name: catalog
  configMap:
    name: {{ include "reprise.fullname" .root }}-catalog
{{ include "reprise.pod.connections" . }}
{{- end -}}

{{- define "reprise.pod.mounts" -}}
- { name: config, mountPath: /etc/reprise/config, readOnly: true }
- { name: catalog, mountPath: /etc/reprise/catalog, readOnly: true }
- { name: connections, mountPath: /etc/reprise/connections, readOnly: true }
{{- end -}}

{{/* How pods of a Deployment are replaced. */}}
{{- define "reprise.rollingUpdate" -}}
minReadySeconds: {{ .values.minReadySeconds }}
revisionHistoryLimit: 5
strategy:
  type: RollingUpdate
  rollingUpdate:
    maxSurge: {{ .values.rollingUpdate.maxSurge }}
    maxUnavailable: {{ .values.rollingUpdate.maxUnavailable }}
{{- end -}}

{{/* A disruption budget. A pod that is not ready anyway never holds up the draining of a node. */}}
{{- define "reprise.disruptionBudget" -}}
{{- if .values.podDisruptionBudget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "reprise.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "reprise.selector" . | nindent 6 }}
{{- end -}}
{{- end -}}
