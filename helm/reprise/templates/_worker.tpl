{{/* Ingest and replay workers: one program, two roles. Templates take a dict: root, component, values, config. */}}

{{- define "reprise.worker" -}}
{{- $config := printf "reprise.config.%s" .component -}}
{{- $shutdown := get (get .values.config .component) "shutdown" -}}
{{- $dict := merge (dict "config" (include $config .root)) . -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "reprise.metadata" . | nindent 2 }}
spec:
  {{- if eq .values.autoscaling.scaler "none" }}
  replicas: {{ .values.replicas }}
  {{- end }}
  {{- include "reprise.rollingUpdate" . | nindent 2 }}
  selector:
    matchLabels:
      {{- include "reprise.selector" . | nindent 6 }}
  template:
    metadata:
      {{- include "reprise.pod.metadata" $dict | nindent 6 }}
    spec:
      serviceAccountName: {{ include "reprise.serviceAccountName" .root }}
      {{- include "reprise.pod.common" .root | nindent 6 }}
      {{- with include "reprise.pod.placing" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      # {{ .component }}.shutdown is {{ $shutdown }}; then the last tasks end.
      terminationGracePeriodSeconds: {{ include "reprise.grace" $shutdown }}
      containers:
        - name: worker
          {{- include "reprise.container.image" .root | nindent 10 }}
          command: [/usr/local/bin/reprise-worker]
          args: [--config, /etc/reprise/config/worker.yaml]
          env:
            {{- include "reprise.pod.secretVariables" . | nindent 12 }}
            {{- with .values.databaseReplica }}
            {{- if .existingSecret }}
            - name: REPRISE_REPLAY__LIVE_FIRST__REPLICA_URL_FILE
              value: /etc/reprise/connections/mysql/replica-url
            {{- end }}
            {{- end }}
          ports:
            - { name: http, containerPort: 8080, protocol: TCP }
          # Health answers from the first moment on, also while the worker waits for a server: an outage restarts nobody.
          startupProbe:
            httpGet: { path: /healthz, port: http }
            periodSeconds: 2
            failureThreshold: 30
          livenessProbe:
            httpGet: { path: /healthz, port: http }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: { path: /readyz, port: http }
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 3
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          volumeMounts:
            {{- include "reprise.pod.mounts" . | nindent 12 }}
      volumes:
        {{- include "reprise.pod.volumes" . | nindent 8 }}
{{- end -}}

{{- define "reprise.worker.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "reprise.metadata" . | nindent 2 }}
data:
  worker.yaml: |
    {{- include (printf "reprise.config.%s" .component) .root | nindent 4 }}
{{- end -}}

{{/* Each change of the number moves partitions or tasks, so it comes in small steps and seldom goes back. */}}
{{- define "reprise.worker.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 30
  policies:
    - { type: Pods, value: 2, periodSeconds: 60 }
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - { type: Pods, value: 1, periodSeconds: 120 }
{{- end -}}

{{- define "reprise.worker.hpa" -}}
{{- if eq .values.autoscaling.scaler "hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "reprise.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "reprise.name" . }}
  minReplicas: {{ .values.autoscaling.minReplicas }}
  maxReplicas: {{ .values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .values.autoscaling.hpa.cpuUtilization }}
  behavior:
    {{- include "reprise.worker.behavior" . | nindent 4 }}
{{- end -}}
{{- end -}}

{{- define "reprise.worker.podMonitor" -}}
{{- if .root.Values.monitoring.enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  {{- include "reprise.metadata" . | nindent 2 }}
  {{- with .root.Values.monitoring.labels }}
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "reprise.selector" . | nindent 6 }}
  podMetricsEndpoints:
    - port: http
      path: /metrics
      interval: {{ .root.Values.monitoring.interval }}
{{- end -}}
{{- end -}}
