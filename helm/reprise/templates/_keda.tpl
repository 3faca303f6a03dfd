{{/* What KEDA needs to look at Kafka: a list of TriggerAuthentication's secretTargetRef. */}}
{{- define "reprise.ingest.kedaSecrets" -}}
{{- $secrets := list -}}
{{- with .Values.kafka -}}
{{- if .sasl.mechanism -}}
{{- $name := default .sasl.existingSecret $.Values.ingest.secrets.kafka -}}
{{- $secrets = append $secrets (dict "parameter" "username" "name" $name "key" .sasl.usernameKey) -}}
{{- $secrets = append $secrets (dict "parameter" "password" "name" $name "key" .sasl.passwordKey) -}}
{{- end -}}
{{- if and .tls.enabled .tls.existingSecret -}}
{{- range $parameter, $key := dict "ca" .tls.caKey "cert" .tls.certificateKey "key" .tls.privateKeyKey "keyPassword" .tls.passwordKey -}}
{{- if $key -}}
{{- $secrets = append $secrets (dict "parameter" $parameter "name" $.Values.kafka.tls.existingSecret "key" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $secrets -}}
{{- end -}}
