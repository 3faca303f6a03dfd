{{/* The services' configuration files. They hold no secrets: those are mounted, and named by environment variables. */}}

{{- define "reprise.catalog" -}}
{{- default (.Files.Get "files/catalog.yaml") .Values.catalog -}}
{{- end -}}

{{/* Paths of one mounted secret's files, for the keys that are named. Takes a dict: tls, folder. */}}
{{- define "reprise.config.tlsPaths" -}}
{{- if .tls.existingSecret }}
{{- with .tls.caKey }}
ca_path: {{ $.folder }}/ca.crt
{{- end }}
{{- with .tls.certificateKey }}
certificate_path: {{ $.folder }}/client.crt
key_path: {{ $.folder }}/client.key
{{- end }}
{{- end }}
{{- end -}}

{{/* What all services have in common. */}}
{{- define "reprise.config.shared" -}}
catalog: /etc/reprise/catalog/catalog.yaml
kafka:
  brokers: {{ toJson .Values.kafka.brokers }}
  properties:
    {{- with .Values.kafka }}
    {{- range $name, $value := .properties }}
    {{ $name }}: {{ $value | toString | quote }}
    {{- end }}
    security.protocol: {{ if .sasl.mechanism }}{{ ternary "SASL_SSL" "SASL_PLAINTEXT" .tls.enabled }}{{ else }}{{ ternary "SSL" "PLAINTEXT" .tls.enabled }}{{ end }}
    {{- with .sasl.mechanism }}
    sasl.mechanism: {{ . }}
    {{- end }}
    {{- if and .tls.enabled .tls.existingSecret }}
    {{- if .tls.caKey }}
    ssl.ca.location: /etc/reprise/connections/kafka/ca.crt
    {{- end }}
    {{- if .tls.certificateKey }}
    ssl.certificate.location: /etc/reprise/connections/kafka/client.crt
    ssl.key.location: /etc/reprise/connections/kafka/client.key
    {{- end }}
    {{- end }}
    {{- end }}
mysql:
  tls_mode: {{ .Values.mysql.tls.mode }}
  {{- with include "reprise.config.tlsPaths" (dict "tls" .Values.mysql.tls "folder" "/etc/reprise/connections/mysql") | trim }}
  tls:
    {{- . | nindent 4 }}
  {{- end }}
redis:
  key_prefix: {{ .Values.redis.keyPrefix | quote }}
  {{- with include "reprise.config.tlsPaths" (dict "tls" .Values.redis.tls "folder" "/etc/reprise/connections/redis") | trim }}
  tls:
    {{- . | nindent 4 }}
  {{- end }}
ingest:
  group: {{ .Values.kafka.consumerGroup | quote }}
log:
  {{- toYaml .Values.log | nindent 2 }}
{{- end -}}

{{- define "reprise.config.controlPlane" -}}
{{- $own := deepCopy .Values.controlPlane.config -}}
{{- $record := pick (default dict .Values.ingest.config.ingest) "max_record" "max_depth" "max_rows_per_record" -}}
{{- $_ := set $own "explain" (merge (default dict $own.explain) $record) -}}
{{- $grpc := dict "listen" (printf "%s:50051" .Values.pods.listen) "insecure" .Values.insecure -}}
{{- $tls := dict -}}
{{- with .Values.controlPlane.tls -}}
{{- if include "reprise.tlsSecret" $ -}}
{{- $tls = dict "certificate_path" "/etc/reprise/identity/tls.crt" "key_path" "/etc/reprise/identity/tls.key" "client_certificates" .clientCertificates -}}
{{- if .clientCa.existingSecret -}}
{{- $_ := set $tls "client_ca_path" "/etc/reprise/identity/client-ca.crt" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $auth := dict -}}
{{- with .Values.controlPlane.auth -}}
{{- $auth = dict "certificates" .certificates "networks" .networks -}}
{{- if or .jwt.existingConfigMap .jwt.existingSecret -}}
{{- $_ := set $auth "jwt" (dict "jwks_path" "/etc/reprise/identity/jwks.json" "issuer" .jwt.issuer "audience" .jwt.audience "role_claim" .jwt.roleClaim "roles" .jwt.roles "leeway" .jwt.leeway) -}}
{{- end -}}
{{- end -}}
{{- $ours := dict "http" (dict "listen" (printf "%s:8090" .Values.pods.listen)) "grpc" $grpc "tls" $tls "auth" $auth -}}
{{- mustMergeOverwrite $own (fromYaml (include "reprise.config.shared" .)) $ours | toYaml -}}
{{- end -}}

{{- define "reprise.config.ingest" -}}
{{- $ours := dict "http" (dict "listen" (printf "%s:8080" .Values.pods.listen)) -}}
{{- mustMergeOverwrite (deepCopy .Values.ingest.config) (fromYaml (include "reprise.config.shared" .)) $ours | toYaml -}}
{{- end -}}

{{/* A replay worker takes the limits of records from the ingest workers' section. */}}
{{- define "reprise.config.replay" -}}
{{- $ours := dict "role" "replay" "http" (dict "listen" (printf "%s:8080" .Values.pods.listen)) -}}
{{- $ingest := dict "ingest" (default dict .Values.ingest.config.ingest) -}}
{{- mustMergeOverwrite (deepCopy .Values.replay.config) (deepCopy $ingest) (fromYaml (include "reprise.config.shared" .)) $ours | toYaml -}}
{{- end -}}

{{/* The seconds of a time such as 1m 30s or 1500ms, rounded up. */}}
{{- define "reprise.seconds" -}}
{{- $milliseconds := 0 -}}
{{- range regexFindAll "[0-9]+(ms|s|m|h|d)" . -1 -}}
{{- $factor := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000) (regexFind "[a-z]+" .) -}}
{{- $milliseconds = add $milliseconds (mul (regexFind "^[0-9]+" . | int64) $factor) -}}
{{- end -}}
{{- div (add $milliseconds 999) 1000 -}}
{{- end -}}

{{/* The grace period: the limit of an orderly shutdown, and what comes after it (6 s at most in the services). */}}
{{- define "reprise.grace" -}}
{{- add (include "reprise.seconds" . | int64) 10 -}}
{{- end -}}
