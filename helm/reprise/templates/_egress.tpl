{{/* Where pods may connect to: DNS and some servers. Takes a dict: root, servers (their names). */}}
{{- define "reprise.egress" -}}
- ports:
    {{- range .root.Values.networkPolicy.egress.dns.ports }}
    - { port: {{ . }}, protocol: UDP }
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
{{- range $server := .servers }}
{{- $egress := get $.root.Values.networkPolicy.egress $server }}
{{- $ports := $egress.ports }}
{{- if eq $server "kafka" }}
{{- range $.root.Values.kafka.brokers }}
{{- $ports = append $ports (regexFind "[0-9]+$" . | int) }}
{{- end }}
{{- end }}
{{- $seen := list }}
- ports:
    {{- range $ports }}
    {{- if not (has (int .) $seen) }}
    {{- $seen = append $seen (int .) }}
    - { port: {{ int . }}, protocol: TCP }
    {{- end }}
    {{- end }}
  {{- with $egress.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}
