#!/usr/bin/env bash
# AKS: diagnostic setting -> Event Hubs, which editwar reads by the Kafka protocol. Azure itself cannot post the audit log to a URL.
# Creates an Event Hubs namespace with one event hub, a rule to read it, and a diagnostic setting of the cluster.
set -euo pipefail

: "${RESOURCE_GROUP:?set RESOURCE_GROUP to the resource group of the cluster}"
cluster={{cluster}}
id=$(az aks show --resource-group "$RESOURCE_GROUP" --name "$cluster" --query id --output tsv)
# Diagnostic settings need an event hub in the region of the cluster.
location=$(az aks show --resource-group "$RESOURCE_GROUP" --name "$cluster" --query location --output tsv)
# The name of a namespace is part of a host name, so it must be unique in all of Azure.
namespace=${EVENTHUBS_NAMESPACE:-editwar-$cluster}
hub=kube-audit

# The Kafka protocol needs at least the tier Standard.
az eventhubs namespace create --resource-group "$RESOURCE_GROUP" --name "$namespace" \
  --location "$location" --sku Standard
# A day of retention is what editwar can miss without loss.
az eventhubs eventhub create --resource-group "$RESOURCE_GROUP" --namespace-name "$namespace" --name "$hub" \
  --partition-count 4 --cleanup-policy Delete --retention-time-in-hours 24

# The shipper may only read, and only this event hub.
az eventhubs eventhub authorization-rule create --resource-group "$RESOURCE_GROUP" --namespace-name "$namespace" \
  --eventhub-name "$hub" --name editwar --rights Listen

# kube-audit-admin is kube-audit without get and list. The rule is that of the namespace, by which Azure Monitor writes.
az monitor diagnostic-settings create --name editwar --resource "$id" --event-hub "$hub" \
  --event-hub-rule "$(az eventhubs namespace authorization-rule show --resource-group "$RESOURCE_GROUP" \
    --namespace-name "$namespace" --name RootManageSharedAccessKey --query id --output tsv)" \
  --logs '[{"category": "kube-audit-admin", "enabled": true}]'

cat <<END
For the configuration of editwar:
kafka:
  brokers: ['$namespace.servicebus.windows.net:9093']
  topics: {$hub: '$cluster'}
  tls: {enabled: true}
  sasl: {mechanism: PLAIN, username: \$ConnectionString, password_file: /etc/editwar/event-hub}
The password file contains the output of:
  az eventhubs eventhub authorization-rule keys list --resource-group '$RESOURCE_GROUP' --namespace-name '$namespace' \\
    --eventhub-name '$hub' --name editwar --query primaryConnectionString --output tsv
END
