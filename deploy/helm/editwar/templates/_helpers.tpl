{{- define "editwar.labels" -}}
app.kubernetes.io/name: editwar
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "editwar.selector" -}}
app.kubernetes.io/name: editwar
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "editwar.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}
{{- /* The Secret with the certificates. Empty if each pod makes its own. */ -}}
{{- define "editwar.tlsSecret" -}}
{{ .Values.tls.certManager.enabled | ternary (printf "%s-tls" .Release.Name) .Values.tls.existingSecret }}
{{- end }}
{{- /* Not empty if audit events are posted to the server. */ -}}
{{- define "editwar.isPostedTo" -}}
{{- if or .Values.webhook.enabled .Values.tail.enabled }}true{{ end -}}
{{- end }}
{{- define "editwar.config" -}}
{{- $cert := include "editwar.tlsSecret" . | empty | ternary "server" "tls" }}
{{- if include "editwar.isPostedTo" . }}
webhook:
  listen: 0.0.0.0:8443
  tls: {cert: /etc/editwar/tls/{{ $cert }}.crt, key: /etc/editwar/tls/{{ $cert }}.key}
  auth: {client_ca: /etc/editwar/tls/ca.crt, token_review: true}
{{- end }}
admin:
  listen: 0.0.0.0:8080
  tls: {cert: /etc/editwar/tls/{{ $cert }}.crt, key: /etc/editwar/tls/{{ $cert }}.key}
  auth: {token_review: true}
{{- if or .Values.journal.enabled .Values.kafka.brokers }}
journal:
  {{- if .Values.journal.enabled }}
  path: /var/lib/editwar/journal
  {{- end }}
  {{- if .Values.kafka.brokers }}
  kafka: {topic: {{ .Values.kafka.topic }}}
  {{- end }}
{{- end }}
{{- with .Values.kafka.brokers }}
kafka: {brokers: {{ toJson . }}}
{{- end }}
{{- if .Values.watch.enabled }}
watch: {enabled: true}
{{- end }}
enforce:
  mode: {{ .Values.enforce.mode }}
  resources: {{ toJson .Values.enforce.resources }}
  tools: {{ toJson .Values.enforce.tools }}
  {{- if eq .Values.enforce.mode "reconcile" }}
  assets: /etc/editwar/assets
  {{- end }}
{{- end }}
