//! The built-in rules: the classes and roles of the accounts and tools of widely used software. The first rule that
//! matches decides. `*` matches any number of characters. The tool is a field manager, or the product at the beginning
//! of a user agent.
//!
//! Sources: [m] the project's manifests, charts or constants; [r] recordings of real clusters in `fixtures`; [d] the
//! vendor's documentation; [k] common knowledge without a source here.

use super::{Class, Role};

/// Actor, tool, class, role.
pub(super) const RULES: &[(&str, &str, Class, Role)] = &[
    // Webhooks: the actor is `webhook CONFIGURATION/NAME`.
    ("webhook kyverno-*", "", Class::Webhook, Role::Policy), // [m] kyverno pkg/config/config.go: kyverno-{resource,policy,verify}-mutating-webhook-cfg
    ("webhook gatekeeper-*", "", Class::Webhook, Role::Policy), // [m] gatekeeper deploy/gatekeeper.yaml: gatekeeper-mutating-webhook-configuration
    ("webhook vpa-webhook-config*", "", Class::Webhook, Role::Vpa), // [m] autoscaler vertical-pod-autoscaler/pkg/admission-controller/config.go
    ("webhook *", "", Class::Webhook, Role::Webhook),
    // The control plane.
    ("system:apiserver", "", Class::Apiserver, Role::Apiserver),
    ("system:node:*", "", Class::Node, Role::Node),
    ("system:bootstrap:*", "", Class::Node, Role::Node), // [k] a kubelet that joins with a bootstrap token
    ("system:serviceaccount:kube-system:horizontal-pod-autoscaler", "", Class::Controller, Role::Hpa), // [m] kubernetes controller_policy.go
    ("system:kube-controller-manager/horizontal-pod-autoscaler", "", Class::Controller, Role::Hpa),
    ("system:kube-controller-manager/*:horizontal-pod-autoscaler", "", Class::Controller, Role::Hpa),
    ("system:kube-controller-manager*", "", Class::Controller, Role::InTree),
    ("system:cloud-controller-manager*", "", Class::Controller, Role::InTree),
    ("eks:cloud-controller-manager", "", Class::Controller, Role::InTree), // [m] falco plugins/k8saudit/rules: eks_allowed_k8s_users
    ("system:kube-scheduler*", "", Class::Controller, Role::InTree),
    // Whatever the tool: SSA managers are named after the controller (clusterrole-aggregation-controller,
    // service-cidr-controller, kubernetes-service-cidr-controller) [r], and a cloud-controller-manager shares node-,
    // service- and route-controller [m] cloud-provider app/controllermanager.go.
    // [m] all: kubernetes plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go and namespace_policy.go.
    ("system:serviceaccount:kube-system:attachdetach-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:bootstrap-signer", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:certificate-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:cloud-provider", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:clusterrole-aggregation-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:cronjob-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:daemon-set-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:deployment-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:device-taint-eviction-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:disruption-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:endpoint-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:endpointslice-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:endpointslicemirroring-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:ephemeral-volume-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:expand-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:generic-garbage-collector", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:job-controller", "", Class::Controller, Role::InTree),
    (
        "system:serviceaccount:kube-system:kube-apiserver-serving-clustertrustbundle-publisher",
        "",
        Class::Controller,
        Role::InTree,
    ),
    ("system:serviceaccount:kube-system:leader-election-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:legacy-service-account-token-cleaner", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:namespace-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:node-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:persistent-volume-binder", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:pod-garbage-collector", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:podcertificaterequestcleaner", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:pv-protection-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:pvc-protection-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:replicaset-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:replication-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:resource-claim-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:resourcequota-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:root-ca-cert-publisher", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:route-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:selinux-warning-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:service-account-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:service-ca-cert-publisher", "", Class::Controller, Role::InTree), // [r] in the recordings; OpenShift's fork has it
    ("system:serviceaccount:kube-system:service-cidrs-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:service-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:statefulset-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:storage-version-garbage-collector", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:storage-version-migrator-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:token-cleaner", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:ttl-after-finished-controller", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:ttl-controller", "", Class::Controller, Role::InTree),
    (
        "system:serviceaccount:kube-system:validatingadmissionpolicy-status-controller",
        "",
        Class::Controller,
        Role::InTree,
    ),
    (
        "system:serviceaccount:kube-system:volumeattributesclass-protection-controller",
        "",
        Class::Controller,
        Role::InTree,
    ),
    // New ones that the list does not know yet: their user agent says it.
    ("system:serviceaccount:kube-system:*", "kube-controller-manager", Class::Controller, Role::InTree), // [r]
    ("system:serviceaccount:kube-system:*cloud-controller-manager*", "", Class::Controller, Role::InTree), // [m] cloud-provider
    ("system:serviceaccount:openshift-infra:*", "", Class::Controller, Role::InTree), // [k] OpenShift's in-tree controllers
    // Autoscalers.
    ("system:serviceaccount:*:vpa-*", "", Class::Controller, Role::Vpa), // [m] autoscaler vertical-pod-autoscaler/deploy/vpa-rbac.yaml
    ("system:serviceaccount:*:*vertical-pod-autoscaler*", "", Class::Controller, Role::Vpa), // [m] its Helm chart
    ("system:vpa-*", "", Class::Controller, Role::Vpa),                  // [k] GKE's own VPA
    ("vpa-*", "", Class::Controller, Role::Vpa), // [m] falco: vpa-recommender, vpa-updater as users
    ("system:serviceaccount:*:keda*", "", Class::Controller, Role::Autoscaler), // [m] keda config/service_account/service_account.yaml
    ("system:serviceaccount:*", "keda", Class::Controller, Role::Autoscaler),   // [r] user agent keda/v…
    ("system:serviceaccount:*:*autoscaler*", "", Class::Controller, Role::Autoscaler), // [m] cluster-autoscaler's chart: RELEASE-PROVIDER-cluster-autoscaler; kube-dns-autoscaler
    ("system:cluster-autoscaler", "", Class::Controller, Role::Autoscaler),            // [k] GKE
    ("cluster-autoscaler", "", Class::Controller, Role::Autoscaler),                   // [m] falco: allowed_k8s_users
    ("system:serviceaccount:*:karpenter*", "", Class::Controller, Role::Autoscaler), // [m] karpenter-provider-aws chart
    ("*", "karpenter", Class::Controller, Role::Autoscaler), // [m] karpenter pkg/operator/operator.go: user agent karpenter/VERSION
    ("system:serviceaccount:knative-serving:*", "autoscaler*", Class::Controller, Role::Autoscaler), // [m] one SA `controller` for all; the binary tells
    // Argo: Rollouts and Workflows are no GitOps, even in the namespace argocd.
    ("system:serviceaccount:*:argo-rollouts*", "", Class::Controller, Role::Operator), // [m] argo-rollouts manifests/base/argo-rollouts-sa.yaml
    ("system:serviceaccount:*:argocd-*", "", Class::Gitops, Role::ArgoCd), // [m] argo-cd manifests/base/**/*-sa.yaml; argocd-manager in target clusters
    ("system:serviceaccount:*:*-argocd-*", "", Class::Gitops, Role::ArgoCd), // [k] argocd-operator: INSTANCE-argocd-application-controller
    ("system:serviceaccount:argocd:*", "", Class::Gitops, Role::ArgoCd),
    ("system:serviceaccount:openshift-gitops:*", "", Class::Gitops, Role::ArgoCd), // [m] gitops-operator controllers/argocd_controller.go
    ("system:serviceaccount:flux-system:*", "", Class::Gitops, Role::Flux), // [m] flux2 manifests/bases/*/account.yaml
    ("system:serviceaccount:*:kustomize-controller", "", Class::Gitops, Role::Flux),
    ("system:serviceaccount:*:helm-controller", "", Class::Gitops, Role::Flux),
    ("system:serviceaccount:*:source-controller", "", Class::Gitops, Role::Flux),
    ("system:serviceaccount:*:notification-controller", "", Class::Gitops, Role::Flux),
    ("system:serviceaccount:*:image-automation-controller", "", Class::Gitops, Role::Flux),
    ("system:serviceaccount:*:image-reflector-controller", "", Class::Gitops, Role::Flux),
    ("system:serviceaccount:config-management-*", "", Class::Gitops, Role::Gitops), // [m] kpt-config-sync
    ("system:serviceaccount:*:*root-reconciler*", "", Class::Gitops, Role::Gitops), // [m] kpt-config-sync pkg/core/names.go
    ("system:serviceaccount:*:*ns-reconciler*", "", Class::Gitops, Role::Gitops),
    ("system:serviceaccount:*:fleet-*", "", Class::Gitops, Role::Gitops), // [m] fleet charts: fleet-agent, fleet-controller
    ("system:serviceaccount:cattle-fleet-*", "", Class::Gitops, Role::Gitops), // also gitjob, helmops [m]
    ("system:serviceaccount:*:kapp-controller*", "", Class::Gitops, Role::Gitops),
    // Impersonated accounts: Flux's spec.serviceAccountName leaves only the tool.
    ("*", "argocd-*", Class::Gitops, Role::ArgoCd), // [m] field manager argocd-controller; user agents argocd-application-controller, argocd-server, …
    ("*", "kustomize-controller", Class::Gitops, Role::Flux), // [m] kustomize-controller main.go
    ("*", "helm-controller", Class::Gitops, Role::Flux), // [m] helm-controller main.go sets Helm's manager to this
    ("*", "source-controller", Class::Gitops, Role::Flux),
    ("*", "notification-controller", Class::Gitops, Role::Flux),
    ("*", "image-automation-controller", Class::Gitops, Role::Flux),
    ("*", "gotk-*", Class::Gitops, Role::Flux), // [m] kustomize-controller main.go:373 StatusManager: gotk-kustomize-controller, gotk-source-controller
    ("*", "configsync*", Class::Gitops, Role::Gitops), // [m] kpt-config-sync pkg/api/configsync/register.go: FieldManager = GroupName, `configsync.gke.io`
    ("system:serviceaccount:*", "fleetagent", Class::Gitops, Role::Gitops), // [k] the agent's binary
    // Policy engines.
    ("system:serviceaccount:*:kyverno*", "", Class::Controller, Role::Policy), // [m] kyverno charts: kyverno-{admission,background,cleanup,reports}-controller
    ("system:serviceaccount:*", "background-controller", Class::Controller, Role::Policy), // [r] its older user agent
    ("*", "kyverno*", Class::Controller, Role::Policy), // [m] SSA manager kyverno-generate; [r] user agent kyverno/v…
    ("*", "Kyverno", Class::Controller, Role::Policy), // [m] pkg/config/client.go: user agent Kyverno/VERSION since 1.13.2
    ("system:serviceaccount:*:gatekeeper-*", "", Class::Controller, Role::Policy), // [m] gatekeeper-admin in gatekeeper-system
    ("system:serviceaccount:*", "gatekeeper", Class::Controller, Role::Policy),    // [m] main.go user agent
    // cert-manager: one account, a tool per controller.
    ("system:serviceaccount:*:cert-manager*", "", Class::Controller, Role::CertManager), // [m] deploy/charts/cert-manager: cert-manager, -cainjector, -webhook
    ("system:serviceaccount:*", "cert-manager-*", Class::Controller, Role::CertManager), // [m] pkg/util/useragent.go
    // Cloud add-on managers, and the operator of operators.
    ("eks:*", "", Class::Automation, Role::AddonManager), // [d] AWS default-roles-users: names reserved for EKS
    ("*", "eks", Class::Automation, Role::AddonManager),  // [d] AWS: add-ons are applied as field manager eks
    ("system:addon-manager", "", Class::Automation, Role::AddonManager), // [m] falco: allowed_k8s_users; GKE, kops
    ("*addon-manager*", "", Class::Automation, Role::AddonManager), // [d] GDC: kube-system:addon-manager-controller-sa
    ("*@container-engine-robot.iam.gserviceaccount.com", "", Class::Automation, Role::AddonManager), // [k] GKE itself
    ("aksService", "", Class::Automation, Role::AddonManager), // seen in public AKS admission logs, group system:masters
    ("hcpService", "", Class::Automation, Role::AddonManager), // likewise
    ("acsService", "", Class::Automation, Role::AddonManager), // [k]
    ("readinessChecker", "", Class::Automation, Role::AddonManager), // likewise. NOT masterclient: that is `az aks get-credentials --admin`
    ("system:serviceaccount:openshift-cluster-version:*", "", Class::Controller, Role::AddonManager), // [m] CVO install/: `default`, and `cluster-version-operator`
    // Pipelines.
    ("system:serviceaccount:tekton-pipelines:*", "", Class::Controller, Role::Operator), // [m] tekton config/200-serviceaccount.yaml: the controllers, not the runs
    ("system:serviceaccount:openshift-pipelines:*", "", Class::Controller, Role::Operator), // [k]
    ("system:serviceaccount:*:pipeline", "", Class::Automation, Role::Ci), // [k] OpenShift Pipelines' account of runs
    ("system:serviceaccount:*:*gitlab*", "", Class::Automation, Role::Ci),
    ("system:serviceaccount:*gitlab-agent*:*", "", Class::Automation, Role::Ci), // agentk: what CI jobs do by default (access_as: agent)
    ("system:serviceaccount:gitlab-runner*:*", "", Class::Automation, Role::Ci),
    ("system:serviceaccount:cattle-impersonation-system:*", "", Class::Person, Role::Console), // [m] rancher pkg/impersonation: a Rancher user in a downstream cluster
    ("gitlab:ci_job:*", "", Class::Automation, Role::Ci), // [m] gitlab-agent: username gitlab:ci_job:JOB_ID
    ("system:serviceaccount:*:*jenkins*", "", Class::Automation, Role::Ci),
    ("system:serviceaccount:jenkins*:*", "", Class::Automation, Role::Ci),
    ("system:serviceaccount:*:*spinnaker*", "", Class::Automation, Role::Ci), // [k] clouddriver runs kubectl
    ("system:serviceaccount:spinnaker:*", "", Class::Automation, Role::Ci),
    ("system:serviceaccount:*:*-gha-rs-controller", "", Class::Controller, Role::Operator), // [m] actions-runner-controller charts
    ("system:serviceaccount:*:*-gha-rs-kube-mode", "", Class::Automation, Role::Ci), // [m] gha-runner-scale-set/templates/_helpers.tpl
    ("system:serviceaccount:*:*-gha-rs-no-permission", "", Class::Automation, Role::Ci),
    ("system:serviceaccount:*:*-listener", "ghalistener", Class::Automation, Role::Ci), // [m] resourcebuilder.go: NAME-HASH-listener
    ("system:serviceaccount:arc-runners:*", "", Class::Automation, Role::Ci), // [k] the namespace of GitHub's tutorial
    ("system:serviceaccount:*:tf-runner", "", Class::Automation, Role::Terraform), // [k] tofu-controller's runner pods
    // [k] names that people give to the accounts of pipelines.
    ("system:serviceaccount:ci:*", "", Class::Automation, Role::Ci),
    ("system:serviceaccount:ci-*:*", "", Class::Automation, Role::Ci),
    ("system:serviceaccount:cicd:*", "", Class::Automation, Role::Ci),
    ("ci", "", Class::Automation, Role::Ci),
    ("ci-*", "", Class::Automation, Role::Ci),
    ("cd-*", "", Class::Automation, Role::Ci),
    ("*-ci", "", Class::Automation, Role::Ci),
    ("*-bot", "", Class::Automation, Role::Ci),
    ("*[bot]", "", Class::Automation, Role::Ci),
    ("jenkins*", "", Class::Automation, Role::Ci),
    ("*-pipeline", "", Class::Automation, Role::Ci),
    ("*repo:*/*:*", "", Class::Automation, Role::Ci), // [d] GitHub's OIDC `sub`, with any prefix; new form repo:OWNER@ID/NAME@ID:…
    ("*project_path:*:ref_type:*", "", Class::Automation, Role::Ci), // [d] GitLab's OIDC `sub`
    ("arn:aws:sts::*:assumed-role/*/GitHubActions*", "", Class::Automation, Role::Ci), // [k] default session name of configure-aws-credentials
    ("arn:aws:sts::*:assumed-role/*/AWSCodeBuild-*", "", Class::Automation, Role::Ci), // [k]
    ("arn:aws:sts::*:assumed-role/*/GitLabRunner-*", "", Class::Automation, Role::Ci), // [k] GitLab's documented example
    ("*.gserviceaccount.com", "", Class::Automation, Role::Ci), // [k] a Google service account is never a person
    // Infrastructure as code, whoever runs it.
    ("*", "Terraform*", Class::Automation, Role::Terraform), // [m] terraform-provider-kubernetes: field manager Terraform
    ("*", "HashiCorp*", Class::Automation, Role::Terraform), // [m] user agent HashiCorp/1.0 Terraform/VERSION; gavinbunney/kubectl the same
    ("*", "terraform-provider-*", Class::Automation, Role::Terraform), // [m] Helm provider: no manager set, so the plugin's binary
    ("*", "pulumi-*", Class::Automation, Role::Terraform), // [m] pulumi-kubernetes (client-side), pulumi-kubernetes-RANDOM (server-side), pulumi-resource-kubernetes
    ("*", "ansible*", Class::Automation, Role::Ci),        // [m] kubernetes.core k8s: field_manager of its example
    // A ServiceAccount with a person's tool is a script or a pipeline, not a person and not an operator.
    ("system:serviceaccount:*", "helm", Class::Automation, Role::Helm),
    ("system:serviceaccount:*", "Helm", Class::Automation, Role::Helm),
    ("system:serviceaccount:*", "kubectl*", Class::Automation, Role::Ci),
    ("system:serviceaccount:*", "oc", Class::Automation, Role::Ci),
    ("system:serviceaccount:*", "Mozilla", Class::Person, Role::Console), // a token pasted into a console
    ("system:serviceaccount:*", "Headlamp*", Class::Person, Role::Console),
    ("system:serviceaccount:*", "dashboard", Class::Person, Role::Console),
    ("system:serviceaccount:*", "", Class::Controller, Role::Operator),
    // Persons.
    ("*", "OpenAPI-Generator", Class::Automation, Role::Ci), // [m] kubernetes-client/python: Ansible, or any Python script
    ("*", "helm", Class::Person, Role::Helm),                // [m] helm cmd/helm/helm.go
    ("*", "Helm", Class::Person, Role::Helm), // [m] helm internal/version/version.go: user agent Helm/VERSION
    ("*", "Mozilla", Class::Person, Role::Console), // [m] openshift/console and Lens pass on the browser's user agent
    ("*", "Headlamp*", Class::Person, Role::Console), // [m] headlamp kubeconfig.go: `Headlamp VERSION (linux/amd64)`: no slash before the version
    ("*", "dashboard", Class::Person, Role::Console), // [k]
    ("*", "kubectl*", Class::Person, Role::Kubectl),
    ("*", "oc", Class::Person, Role::Kubectl),
    ("*", "", Class::Person, Role::Person),
];

/// Real identities, by which the rules are tested.
#[cfg(test)]
pub(super) const REAL: &[(&str, &str, Class, Role)] = &[
    // In-tree.
    (
        "system:serviceaccount:kube-system:deployment-controller",
        "kube-controller-manager",
        Class::Controller,
        Role::InTree,
    ),
    (
        "system:serviceaccount:kube-system:clusterrole-aggregation-controller",
        "clusterrole-aggregation-controller",
        Class::Controller,
        Role::InTree,
    ),
    (
        "system:serviceaccount:kube-system:service-cidrs-controller",
        "service-cidr-controller",
        Class::Controller,
        Role::InTree,
    ),
    (
        "system:serviceaccount:kube-system:generic-garbage-collector",
        "kube-controller-manager",
        Class::Controller,
        Role::InTree,
    ),
    (
        "system:serviceaccount:kube-system:pod-garbage-collector",
        "kube-controller-manager",
        Class::Controller,
        Role::InTree,
    ),
    (
        "system:serviceaccount:kube-system:persistent-volume-binder",
        "kube-controller-manager",
        Class::Controller,
        Role::InTree,
    ),
    (
        "system:serviceaccount:kube-system:root-ca-cert-publisher",
        "kube-controller-manager",
        Class::Controller,
        Role::InTree,
    ),
    (
        "system:serviceaccount:kube-system:ttl-after-finished-controller",
        "kube-controller-manager",
        Class::Controller,
        Role::InTree,
    ),
    (
        "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
        "kube-controller-manager",
        Class::Controller,
        Role::Hpa,
    ),
    (
        "system:serviceaccount:kube-system:node-controller",
        "aws-cloud-controller-manager",
        Class::Controller,
        Role::InTree,
    ),
    ("system:serviceaccount:kube-system:brand-new-thing", "kube-controller-manager", Class::Controller, Role::InTree),
    ("system:kube-controller-manager", "kube-controller-manager", Class::Controller, Role::InTree),
    ("system:kube-scheduler", "kube-scheduler", Class::Controller, Role::InTree),
    ("system:apiserver", "kube-apiserver", Class::Apiserver, Role::Apiserver),
    ("system:node:node-1", "kubelet", Class::Node, Role::Node),
    ("system:serviceaccount:kube-system:aws-load-balancer-controller", "controller", Class::Controller, Role::Operator),
    // Autoscalers.
    ("system:serviceaccount:kube-system:vpa-recommender", "recommender", Class::Controller, Role::Vpa),
    ("system:serviceaccount:kube-system:vpa-updater", "updater", Class::Controller, Role::Vpa),
    ("webhook vpa-webhook-config/vpa.k8s.io", "", Class::Webhook, Role::Vpa),
    ("system:serviceaccount:keda:keda-operator", "keda", Class::Controller, Role::Autoscaler),
    (
        "system:serviceaccount:kube-system:ca-aws-cluster-autoscaler",
        "cluster-autoscaler",
        Class::Controller,
        Role::Autoscaler,
    ),
    ("system:serviceaccount:kube-system:karpenter", "karpenter", Class::Controller, Role::Autoscaler),
    (
        "system:serviceaccount:kube-system:kube-dns-autoscaler",
        "cluster-proportional-autoscaler",
        Class::Controller,
        Role::Autoscaler,
    ),
    ("system:serviceaccount:knative-serving:controller", "autoscaler", Class::Controller, Role::Autoscaler),
    ("system:serviceaccount:knative-serving:controller", "controller", Class::Controller, Role::Operator),
    // GitOps.
    ("system:serviceaccount:argocd:argocd-application-controller", "argocd-controller", Class::Gitops, Role::ArgoCd),
    ("system:serviceaccount:argocd:argocd-server", "argocd-server", Class::Gitops, Role::ArgoCd),
    (
        "system:serviceaccount:argocd:argocd-applicationset-controller",
        "argocd-applicationset-controller",
        Class::Gitops,
        Role::ArgoCd,
    ),
    ("system:serviceaccount:argocd:argocd-image-updater-controller", "manager", Class::Gitops, Role::ArgoCd),
    ("system:serviceaccount:kube-system:argocd-manager", "argocd-controller", Class::Gitops, Role::ArgoCd),
    (
        "system:serviceaccount:openshift-gitops:openshift-gitops-argocd-application-controller",
        "argocd-controller",
        Class::Gitops,
        Role::ArgoCd,
    ),
    ("system:serviceaccount:argocd:argo-rollouts", "rollouts-controller", Class::Controller, Role::Operator),
    ("system:serviceaccount:flux-system:kustomize-controller", "kustomize-controller", Class::Gitops, Role::Flux),
    ("system:serviceaccount:flux-system:helm-controller", "helm-controller", Class::Gitops, Role::Flux),
    ("system:serviceaccount:flux-system:notification-controller", "notification-controller", Class::Gitops, Role::Flux),
    ("system:serviceaccount:team-a:deployer", "kustomize-controller", Class::Gitops, Role::Flux),
    (
        "system:serviceaccount:config-management-system:root-reconciler-prod",
        "configsync.gke.io",
        Class::Gitops,
        Role::Gitops,
    ),
    ("system:serviceaccount:cattle-fleet-system:fleet-agent", "fleetagent", Class::Gitops, Role::Gitops),
    ("system:serviceaccount:cattle-fleet-system:gitjob", "fleetcontroller", Class::Gitops, Role::Gitops),
    // Policy, certificates.
    (
        "system:serviceaccount:kyverno:kyverno-background-controller",
        "kyverno-generate",
        Class::Controller,
        Role::Policy,
    ),
    ("system:serviceaccount:kyverno:kyverno-admission-controller", "Kyverno", Class::Controller, Role::Policy),
    ("webhook kyverno-resource-mutating-webhook-cfg/mutate.kyverno.svc-fail", "", Class::Webhook, Role::Policy),
    ("system:serviceaccount:gatekeeper-system:gatekeeper-admin", "gatekeeper", Class::Controller, Role::Policy),
    ("webhook gatekeeper-mutating-webhook-configuration/mutation.gatekeeper.sh", "", Class::Webhook, Role::Policy),
    (
        "system:serviceaccount:cert-manager:cert-manager",
        "cert-manager-certificates-issuing",
        Class::Controller,
        Role::CertManager,
    ),
    (
        "system:serviceaccount:cert-manager:cert-manager",
        "cert-manager-certificates-trigger",
        Class::Controller,
        Role::CertManager,
    ),
    (
        "system:serviceaccount:cert-manager:cert-manager-cainjector",
        "cert-manager-cainjector",
        Class::Controller,
        Role::CertManager,
    ),
    // Operators.
    (
        "system:serviceaccount:external-secrets:external-secrets",
        "externalsecrets.external-secrets.io/db",
        Class::Controller,
        Role::Operator,
    ),
    ("system:serviceaccount:kube-system:sealed-secrets-controller", "controller", Class::Controller, Role::Operator),
    (
        "system:serviceaccount:ingress-nginx:ingress-nginx",
        "nginx-ingress-controller",
        Class::Controller,
        Role::Operator,
    ),
    ("system:serviceaccount:istio-system:istiod", "pilot-discovery", Class::Controller, Role::Operator),
    ("webhook istio-sidecar-injector/rev.namespace.sidecar-injector.istio.io", "", Class::Webhook, Role::Webhook),
    ("system:serviceaccount:monitoring:prometheus-operator", "PrometheusOperator", Class::Controller, Role::Operator),
    (
        "system:serviceaccount:kafka:strimzi-cluster-operator",
        "strimzi-kafka-operator",
        Class::Controller,
        Role::Operator,
    ),
    ("system:serviceaccount:cnpg-system:cnpg-manager", "manager", Class::Controller, Role::Operator),
    (
        "system:serviceaccount:crossplane-system:crossplane",
        "apiextensions.crossplane.io/composed/1a2b",
        Class::Controller,
        Role::Operator,
    ),
    ("system:serviceaccount:capi-system:capi-manager", "capi-topology", Class::Controller, Role::Operator),
    ("system:serviceaccount:elastic-system:elastic-operator", "elastic-operator", Class::Controller, Role::Operator),
    ("system:serviceaccount:default:reloader-reloader", "Reloader", Class::Controller, Role::Operator),
    ("system:serviceaccount:tigera-operator:tigera-operator", "operator", Class::Controller, Role::Operator),
    ("system:serviceaccount:kubevirt:kubevirt-controller", "virt-controller", Class::Controller, Role::Operator),
    (
        "system:serviceaccount:tekton-pipelines:tekton-pipelines-controller",
        "controller",
        Class::Controller,
        Role::Operator,
    ),
    // Cloud.
    ("eks:addon-manager", "eks", Class::Automation, Role::AddonManager),
    ("eks:cloud-controller-manager", "aws-cloud-controller-manager", Class::Controller, Role::InTree),
    ("system:addon-manager", "kubectl-client-side-apply", Class::Automation, Role::AddonManager),
    ("aksService", "kubectl-client-side-apply", Class::Automation, Role::AddonManager),
    ("masterclient", "kubectl-edit", Class::Person, Role::Kubectl),
    (
        "system:serviceaccount:openshift-cluster-version:default",
        "cluster-version-operator",
        Class::Controller,
        Role::AddonManager,
    ),
    // Pipelines and infrastructure as code.
    ("alice", "Terraform", Class::Automation, Role::Terraform),
    ("alice", "HashiCorp", Class::Automation, Role::Terraform),
    ("system:serviceaccount:infra:deployer", "HashiCorp", Class::Automation, Role::Terraform),
    ("alice", "terraform-provider-helm_v2.17.0_x5", Class::Automation, Role::Terraform),
    ("alice", "pulumi-kubernetes-6f1c2d3e", Class::Automation, Role::Terraform),
    ("alice", "OpenAPI-Generator", Class::Automation, Role::Ci),
    ("gitlab:ci_job:1074499489", "kubectl-client-side-apply", Class::Automation, Role::Ci),
    ("gitlab:user:alice", "kubectl-edit", Class::Person, Role::Kubectl),
    ("system:serviceaccount:gitlab-agent-prod:prod-gitlab-agent", "helm", Class::Automation, Role::Ci),
    ("system:serviceaccount:shop:pipeline", "kubectl-client-side-apply", Class::Automation, Role::Ci),
    (
        "https://token.actions.githubusercontent.com#repo:acme/shop:ref:refs/heads/main",
        "kubectl",
        Class::Automation,
        Role::Ci,
    ),
    ("github:repo:acme/shop:environment:prod", "helm", Class::Automation, Role::Ci),
    (
        "repo:octocat@123456/my-repo@456789:ref:refs/heads/main",
        "kubectl-client-side-apply",
        Class::Automation,
        Role::Ci,
    ),
    ("system:serviceaccount:team-a:deployer", "gotk-kustomize-controller", Class::Gitops, Role::Flux),
    (
        "system:serviceaccount:arc-runners:big-gha-rs-kube-mode",
        "kubectl-client-side-apply",
        Class::Automation,
        Role::Ci,
    ),
    ("arn:aws:sts::111122223333:assumed-role/deploy/GitHubActions", "helm", Class::Automation, Role::Ci),
    ("deployer@acme-prod.iam.gserviceaccount.com", "kubectl-client-side-apply", Class::Automation, Role::Ci),
    ("ci-bot", "kubectl-scale", Class::Automation, Role::Ci),
    ("renovate[bot]", "kubectl", Class::Automation, Role::Ci),
    ("system:serviceaccount:ci:deployer-*", "Helm", Class::Automation, Role::Ci),
    ("system:serviceaccount:ops:backup", "kubectl-patch", Class::Automation, Role::Ci),
    ("system:serviceaccount:ops:release", "Helm", Class::Automation, Role::Helm),
    // Persons.
    ("alice", "kubectl-edit", Class::Person, Role::Kubectl),
    ("kubernetes-admin", "kubectl-client-side-apply", Class::Person, Role::Kubectl),
    ("kube:admin", "Mozilla", Class::Person, Role::Console),
    ("alice", "oc", Class::Person, Role::Kubectl),
    ("alice", "helm", Class::Person, Role::Helm),
    ("alice", "k9s", Class::Person, Role::Person),
    ("alice", "Headlamp 0.40.0 (linux", Class::Person, Role::Console),
    ("arn:aws:iam::111122223333:user/alice", "kubectl-edit", Class::Person, Role::Kubectl),
    ("alice@example.com", "kubectl-edit", Class::Person, Role::Kubectl),
    (
        "system:serviceaccount:cattle-impersonation-system:cattle-impersonation-u-x7k2p",
        "Mozilla",
        Class::Person,
        Role::Console,
    ),
    // Those of the old table.
    (
        "system:kube-controller-manager/horizontal-pod-autoscaler",
        "kube-controller-manager",
        Class::Controller,
        Role::Hpa,
    ),
    (
        "system:serviceaccount:openshift-cnv:virt-platform-autopilot",
        "virt-platform-autopilot",
        Class::Controller,
        Role::Operator,
    ),
    ("system:serviceaccount:deploy:robot", "kustomize-controller", Class::Gitops, Role::Flux),
    ("alice", "Mozilla", Class::Person, Role::Console),
    ("bob", "stormclient", Class::Person, Role::Person),
    ("webhook tags/tags.example.com", "", Class::Webhook, Role::Webhook),
];
