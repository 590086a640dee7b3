#!/bin/sh
# Prints the rules of prometheus/rules.yml as a PrometheusRule for the Prometheus Operator:
#   deployment/k8s/monitoring/prometheus_rule.sh | kubectl apply -f -
set -eu
cat <<'EOF'
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: mmllm
  namespace: production
spec:
EOF
sed 's/^/  /' "$(dirname "$0")/../../prometheus/rules.yml"
