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
{{- define "editwar.config" -}}
webhook:
  listen: 0.0.0.0:8443
  tls: {cert: /etc/editwar/tls/tls.crt, key: /etc/editwar/tls/tls.key}
  auth: {client_ca: /etc/editwar/tls/ca.crt}
admin:
  listen: 0.0.0.0:8080
  tls: {cert: /etc/editwar/tls/tls.crt, key: /etc/editwar/tls/tls.key}
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
