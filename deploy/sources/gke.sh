#!/usr/bin/env bash
# GKE: Cloud Audit Logs -> log sink -> Pub/Sub topic -> push subscription -> editwar.
# Creates a topic, a log sink and a push subscription in the current project of gcloud.
# Pub/Sub identifies itself with a token of the service account editwar-push: docs/sources/gke.md shows webhook.auth.oidc.
set -euo pipefail

name=editwar-{{cluster}}
endpoint='{{url}}/pubsub/{{cluster}}'
project=$(gcloud config get-value core/project)
account=editwar-push@$project.iam.gserviceaccount.com

# Writes of one cluster. Status writes are in data_access, which is off until you enable it: docs/sources/gke.md.
# Names of clusters are unique only within a location: if there are two of this name, add resource.labels.location="…".
filter='logName=~"cloudaudit.googleapis.com%2F(activity|data_access)$"
protoPayload.serviceName="k8s.io"
resource.type="k8s_cluster"
resource.labels.cluster_name="{{cluster}}"
protoPayload.methodName=~".(create|update|patch|delete|deletecollection)$"'

gcloud pubsub topics create "$name"
gcloud logging sinks create "$name" "pubsub.googleapis.com/projects/$project/topics/$name" --log-filter="$filter"

# The sink writes with an account of its own, which Google has created.
gcloud pubsub topics add-iam-policy-binding "$name" --role=roles/pubsub.publisher \
  --member="$(gcloud logging sinks describe "$name" --format='value(writerIdentity)')"

# The account has no permissions; Pub/Sub signs its requests as this account.
gcloud iam service-accounts describe "$account" >/dev/null 2>&1 || gcloud iam service-accounts create editwar-push

# Unacknowledged messages stay for 7 days and are sent again after 10 s to 10 min. Without `never`, a subscription
# without activity for 31 days is deleted. Pub/Sub only delivers to https with a certificate of a public CA.
gcloud pubsub subscriptions create "$name" --topic="$name" \
  --push-endpoint="$endpoint" --push-auth-service-account="$account" --push-auth-token-audience='{{url}}' \
  --ack-deadline=60 --min-retry-delay=10s --max-retry-delay=600s \
  --message-retention-duration=7d --expiration-period=never
