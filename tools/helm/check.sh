#!/bin/sh
# Lints the chart, renders it with its values and with others, and reads each rendering strictly
# as Kubernetes' own types: a field that there is not, or of another type, is an error.
set -eu

cd "$(dirname "$0")"
chart=../../deploy/helm/mintmark
kube=1.30.0
helm() { ${HELM:-go tool helm} "$@"; }

helm lint --strict --kube-version "$kube" "$chart"
for values in "" "podMonitor.enabled=true,persistence.enabled=false,secrets=db,replicas=2,config=store: {postgres: {dsnFile: /run/mintmark/secrets/dsn}},env[0].name=MINTMARK_AUDIT_REPLICA,env[0].value=a" \
	"networkPolicy.from[0].namespaceSelector.matchLabels.team=issuer,networkPolicy.egress[0].ports[0].port=5432,persistence.storageClass=fast" \
	"networkPolicy.enabled=false,podDisruptionBudget.enabled=false,files.keyring\.yaml=environment: production"; do
	helm template release "$chart" --kube-version "$kube" --set "$values" | go run . "$values"
done

if helm template release "$chart" --kube-version "$kube" --set replicas=2 >/dev/null 2>&1; then
	echo "helm-check: two replicas are rendered with a SQLite database each" >&2
	exit 1
fi
