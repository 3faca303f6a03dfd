{{/* What the schema cannot say: rules between values. All faults at once, each with the key to set. */}}

{{- define "reprise.checks" -}}
{{- $faults := list -}}
{{- with .Values -}}
{{- if not .kafka.brokers -}}
{{- $faults = append $faults "kafka.brokers is not set: name at least one broker, as host:port" -}}
{{- end -}}
{{- if not .mysql.existingSecret -}}
{{- $faults = append $faults "mysql.existingSecret is not set: make a secret whose key url holds mysql://user:password@host:3306/database, and name it" -}}
{{- end -}}
{{- if not .redis.existingSecret -}}
{{- $faults = append $faults "redis.existingSecret is not set: make a secret whose key url holds rediss://user:password@host:6379/0, and name it" -}}
{{- end -}}
{{- if and .kafka.sasl.mechanism (not .kafka.sasl.existingSecret) -}}
{{- range $name := list "controlPlane" "ingest" "replay" -}}
{{- if not (get $.Values $name).secrets.kafka -}}
{{- $faults = append $faults (printf "kafka.sasl.existingSecret is not set, but kafka.sasl.mechanism is: name a secret with user name and password, or set %s.secrets.kafka" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $tls := dict "kafka" .kafka.tls "mysql" .mysql.tls "redis" .redis.tls -}}
{{- if ne (empty $tls.certificateKey) (empty $tls.privateKeyKey) -}}
{{- $faults = append $faults (printf "%s.tls.certificateKey and %s.tls.privateKeyKey go together: set both, or neither" $name $name) -}}
{{- end -}}
{{- if and $tls.certificateKey (not $tls.existingSecret) -}}
{{- $faults = append $faults (printf "%s.tls.existingSecret is not set, but %s.tls.certificateKey is" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := .Values.kafka.properties -}}
{{- if regexMatch "password|secret|pem|token|oauthbearer.config" $name -}}
{{- $faults = append $faults (printf "kafka.properties.%s would show a secret to all who may read ConfigMaps: use kafka.sasl.existingSecret or kafka.tls.existingSecret" $name) -}}
{{- else if regexMatch "^(security.protocol|sasl.mechanisms?|sasl.username|ssl.(ca|certificate|key).location)$" $name -}}
{{- $faults = append $faults (printf "kafka.properties.%s follows from kafka.tls and kafka.sasl: set those" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "controlPlane" "ingest" "replay" -}}
{{- range $key, $_ := merge dict (get $.Values $name).podLabels $.Values.pods.labels -}}
{{- if hasPrefix "app.kubernetes.io/" $key -}}
{{- $faults = append $faults (printf "pods.labels and %s.podLabels cannot hold %s: pods are found by it" $name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $faults = concat $faults (include "reprise.checks.callers" . | fromJsonArray) (include "reprise.checks.scaling" . | fromJsonArray) -}}
{{- if $faults -}}
{{- fail (printf "\n\n%d fault(s) in the values:\n- %s\n" (len $faults) (join "\n- " $faults)) -}}
{{- end -}}
{{- end -}}

{{/* Who may call, and how the connection is protected. */}}
{{- define "reprise.checks.callers" -}}
{{- $faults := list -}}
{{- $escape := "or, if something else protects every connection, insecure: true" -}}
{{- if and (not .Values.insecure) (not (include "reprise.authIsOn" .)) -}}
{{- $faults = append $faults (printf "nobody is known to the control plane: set controlPlane.auth.jwt.existingConfigMap (public keys of tokens, with controlPlane.auth.jwt.issuer and .audience) or controlPlane.auth.certificates (mTLS); %s" $escape) -}}
{{- end -}}
{{- if and (not .Values.insecure) (not (include "reprise.tlsSecret" .)) -}}
{{- $faults = append $faults (printf "calls would not be encrypted: set controlPlane.tls.existingSecret or controlPlane.tls.certManager.enabled; %s" $escape) -}}
{{- end -}}
{{- with .Values.controlPlane.auth.jwt -}}
{{- if and .existingConfigMap .existingSecret -}}
{{- $faults = append $faults "controlPlane.auth.jwt.existingConfigMap and controlPlane.auth.jwt.existingSecret exclude each other" -}}
{{- end -}}
{{- if or .existingConfigMap .existingSecret -}}
{{- range $name := list "issuer" "audience" "roleClaim" -}}
{{- if not (get $.Values.controlPlane.auth.jwt $name) -}}
{{- $faults = append $faults (printf "controlPlane.auth.jwt.%s is not set: say what tokens have to say" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.controlPlane.tls -}}
{{- if and .existingSecret .certManager.enabled -}}
{{- $faults = append $faults "controlPlane.tls.existingSecret and controlPlane.tls.certManager.enabled exclude each other" -}}
{{- end -}}
{{- if and .certManager.enabled (not .certManager.issuerRef.name) -}}
{{- $faults = append $faults "controlPlane.tls.certManager.issuerRef.name is not set: name the issuer" -}}
{{- end -}}
{{- if and .clientCa.existingSecret (not (include "reprise.tlsSecret" $)) -}}
{{- $faults = append $faults "controlPlane.tls.clientCa.existingSecret has no effect without controlPlane.tls.existingSecret or controlPlane.tls.certManager.enabled" -}}
{{- end -}}
{{- if and (eq .clientCertificates "required") (not .clientCa.existingSecret) -}}
{{- $faults = append $faults "controlPlane.tls.clientCa.existingSecret is not set, but controlPlane.tls.clientCertificates is required" -}}
{{- end -}}
{{- if and $.Values.controlPlane.auth.certificates (not .clientCa.existingSecret) -}}
{{- $faults = append $faults "controlPlane.tls.clientCa.existingSecret is not set, but controlPlane.auth.certificates is: name the authorities that sign callers' certificates" -}}
{{- end -}}
{{- end -}}
{{- toJson $faults -}}
{{- end -}}

{{- define "reprise.checks.scaling" -}}
{{- $faults := list -}}
{{- range $name := list "ingest" "replay" -}}
{{- $worker := get $.Values $name -}}
{{- with $worker.autoscaling -}}
{{- if and (ne .scaler "none") (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- $faults = append $faults (printf "%s.autoscaling.minReplicas is more than %s.autoscaling.maxReplicas" $name $name) -}}
{{- end -}}
{{- if and (eq .scaler "hpa") (lt (int .minReplicas) 1) -}}
{{- $faults = append $faults (printf "%s.autoscaling.minReplicas has to be 1 or more with hpa" $name) -}}
{{- end -}}
{{- end -}}
{{- if and (eq (toString $worker.rollingUpdate.maxSurge) "0") (eq (toString $worker.rollingUpdate.maxUnavailable) "0") -}}
{{- $faults = append $faults (printf "%s.rollingUpdate.maxSurge and %s.rollingUpdate.maxUnavailable cannot both be 0" $name $name) -}}
{{- end -}}
{{- end -}}
{{- with .Values.replay.autoscaling -}}
{{- if and (eq .scaler "keda") (not .keda.mysql.existingSecret) (not .keda.authenticationRef) -}}
{{- $faults = append $faults "replay.autoscaling.keda.mysql.existingSecret is not set: name a secret with KEDA's connection string, or set replay.autoscaling.keda.authenticationRef" -}}
{{- end -}}
{{- end -}}
{{- toJson $faults -}}
{{- end -}}
