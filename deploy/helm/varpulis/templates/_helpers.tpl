{{- define "varpulis.name" -}}
{{- printf "%s-varpulis" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "varpulis.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* What a component is selected by: list of the root and the component. */}}
{{- define "varpulis.selector" -}}
app.kubernetes.io/name: varpulis
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "varpulis.labels" -}}
{{ include "varpulis.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end -}}

{{/* The ids of the coordinators at the first start. */}}
{{- define "varpulis.members" -}}
{{- $ids := list -}}
{{- if .Values.coordinators.join -}}
{{- $ids = .Values.coordinators.members -}}
{{- else -}}
{{- range $n := until (int .Values.coordinators.replicas) -}}
{{- $ids = append $ids (printf "%s-coordinator-%d" (include "varpulis.name" $) $n) -}}
{{- end -}}
{{- end -}}
{{- join "," $ids -}}
{{- end -}}

{{/* How a pod finds NATS and logs in: its own name is its user. */}}
{{- define "varpulis.natsEnvironment" -}}
- name: VARPULIS_NATS_URL
  value: {{ join "," .Values.nats.url | quote }}
- name: VARPULIS_NATS_PASSWORD
  value: file:/run/nats/$(VARPULIS_NATS_USER).password
- name: VARPULIS_NATS_TLS_CA
  value: /run/tls/ca.crt
- name: VARPULIS_NATS_TLS_CERT
  value: /run/tls/tls.crt
- name: VARPULIS_NATS_TLS_KEY
  value: /run/tls/tls.key
{{- with .Values.nats.tlsHostname }}
- name: VARPULIS_NATS_TLS_HOSTNAME
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "varpulis.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "varpulis.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Away from others of the same component: list of the root, the component, and hard or soft. */}}
{{- define "varpulis.spread" -}}
affinity:
  podAntiAffinity:
    {{- if eq (index . 2) "hard" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- include "varpulis.selector" . | nindent 12 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "varpulis.selector" . | nindent 14 }}
    {{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "varpulis.selector" . | nindent 8 }}
{{- end -}}

{{- define "varpulis.storage" -}}
accessModes: [ReadWriteOnce]
{{- with .storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end -}}
