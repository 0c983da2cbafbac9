//! The built-in rules: the classes and roles of the accounts and tools of widely used software. The first rule that
//! matches decides. `*` matches any number of characters. The tool is a field manager, or the product at the beginning
//! of a user agent.
//!
//! Sources: `[m]` the project's manifests, charts or constants; `[r]` recordings of real clusters in `fixtures`; `[d]`
//! the vendor's documentation; `[k]` common knowledge without a source here.

use super::class::ActorClass;
use super::role::Role;

/// A built-in rule; see [`super::ActorRule`].
pub(super) struct BuiltInRule {
    pub(super) actor: &'static str,
    pub(super) tool: &'static str,
    pub(super) class: ActorClass,
    pub(super) role: Role,
}

const fn rule(actor: &'static str, tool: &'static str, class: ActorClass, role: Role) -> BuiltInRule {
    BuiltInRule { actor, tool, class, role }
}

pub(super) const RULES: &[BuiltInRule] = &[
    // Webhooks: the actor is `webhook CONFIGURATION/NAME`.
    rule("webhook kyverno-*", "", ActorClass::Webhook, Role::Policy), // [m] kyverno pkg/config/config.go: kyverno-{resource,policy,verify}-mutating-webhook-cfg
    rule("webhook gatekeeper-*", "", ActorClass::Webhook, Role::Policy), // [m] gatekeeper deploy/gatekeeper.yaml: gatekeeper-mutating-webhook-configuration
    rule("webhook vpa-webhook-config*", "", ActorClass::Webhook, Role::Vpa), // [m] autoscaler vertical-pod-autoscaler/pkg/admission-controller/config.go
    rule("webhook *", "", ActorClass::Webhook, Role::Webhook),
    // The control plane.
    rule("system:apiserver", "", ActorClass::Apiserver, Role::Apiserver),
    rule("system:node:*", "", ActorClass::Node, Role::Node),
    rule("system:bootstrap:*", "", ActorClass::Node, Role::Node), // [k] a kubelet that joins with a bootstrap token
    rule("system:serviceaccount:kube-system:horizontal-pod-autoscaler", "", ActorClass::Controller, Role::Hpa), // [m] kubernetes controller_policy.go
    rule("system:kube-controller-manager/horizontal-pod-autoscaler", "", ActorClass::Controller, Role::Hpa),
    rule("system:kube-controller-manager/*:horizontal-pod-autoscaler", "", ActorClass::Controller, Role::Hpa),
    rule("system:kube-controller-manager*", "", ActorClass::Controller, Role::InTree),
    rule("system:cloud-controller-manager*", "", ActorClass::Controller, Role::InTree),
    rule("eks:cloud-controller-manager", "", ActorClass::Controller, Role::InTree), // [m] falco plugins/k8saudit/rules: eks_allowed_k8s_users
    rule("system:kube-scheduler*", "", ActorClass::Controller, Role::InTree),
    // These rules match any tool: server-side-apply managers are named after the controller
    // (clusterrole-aggregation-controller, service-cidr-controller, kubernetes-service-cidr-controller) [r], and a
    // cloud-controller-manager uses the accounts node-, service- and route-controller too [m] cloud-provider
    // app/controllermanager.go.
    // [m] all: kubernetes plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go and namespace_policy.go.
    rule("system:serviceaccount:kube-system:attachdetach-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:bootstrap-signer", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:certificate-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:cloud-provider", "", ActorClass::Controller, Role::InTree),
    rule(
        "system:serviceaccount:kube-system:clusterrole-aggregation-controller",
        "",
        ActorClass::Controller,
        Role::InTree,
    ),
    rule("system:serviceaccount:kube-system:cronjob-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:daemon-set-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:deployment-controller", "", ActorClass::Controller, Role::InTree),
    rule(
        "system:serviceaccount:kube-system:device-taint-eviction-controller",
        "",
        ActorClass::Controller,
        Role::InTree,
    ),
    rule("system:serviceaccount:kube-system:disruption-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:endpoint-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:endpointslice-controller", "", ActorClass::Controller, Role::InTree),
    rule(
        "system:serviceaccount:kube-system:endpointslicemirroring-controller",
        "",
        ActorClass::Controller,
        Role::InTree,
    ),
    rule("system:serviceaccount:kube-system:ephemeral-volume-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:expand-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:generic-garbage-collector", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:job-controller", "", ActorClass::Controller, Role::InTree),
    rule(
        "system:serviceaccount:kube-system:kube-apiserver-serving-clustertrustbundle-publisher",
        "",
        ActorClass::Controller,
        Role::InTree,
    ),
    rule("system:serviceaccount:kube-system:leader-election-controller", "", ActorClass::Controller, Role::InTree),
    rule(
        "system:serviceaccount:kube-system:legacy-service-account-token-cleaner",
        "",
        ActorClass::Controller,
        Role::InTree,
    ),
    rule("system:serviceaccount:kube-system:namespace-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:node-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:persistent-volume-binder", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:pod-garbage-collector", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:podcertificaterequestcleaner", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:pv-protection-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:pvc-protection-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:replicaset-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:replication-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:resource-claim-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:resourcequota-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:root-ca-cert-publisher", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:route-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:selinux-warning-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:service-account-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:service-ca-cert-publisher", "", ActorClass::Controller, Role::InTree), // [r] in the recordings; OpenShift's fork has it
    rule("system:serviceaccount:kube-system:service-cidrs-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:service-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:statefulset-controller", "", ActorClass::Controller, Role::InTree),
    rule(
        "system:serviceaccount:kube-system:storage-version-garbage-collector",
        "",
        ActorClass::Controller,
        Role::InTree,
    ),
    rule(
        "system:serviceaccount:kube-system:storage-version-migrator-controller",
        "",
        ActorClass::Controller,
        Role::InTree,
    ),
    rule("system:serviceaccount:kube-system:token-cleaner", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:ttl-after-finished-controller", "", ActorClass::Controller, Role::InTree),
    rule("system:serviceaccount:kube-system:ttl-controller", "", ActorClass::Controller, Role::InTree),
    rule(
        "system:serviceaccount:kube-system:validatingadmissionpolicy-status-controller",
        "",
        ActorClass::Controller,
        Role::InTree,
    ),
    rule(
        "system:serviceaccount:kube-system:volumeattributesclass-protection-controller",
        "",
        ActorClass::Controller,
        Role::InTree,
    ),
    // Controllers that are not listed above. Their user agent identifies them.
    rule("system:serviceaccount:kube-system:*", "kube-controller-manager", ActorClass::Controller, Role::InTree), // [r]
    rule("system:serviceaccount:kube-system:*cloud-controller-manager*", "", ActorClass::Controller, Role::InTree), // [m] cloud-provider
    rule("system:serviceaccount:openshift-infra:*", "", ActorClass::Controller, Role::InTree), // [k] OpenShift's in-tree controllers
    // Autoscalers.
    rule("system:serviceaccount:*:vpa-*", "", ActorClass::Controller, Role::Vpa), // [m] autoscaler vertical-pod-autoscaler/deploy/vpa-rbac.yaml
    rule("system:serviceaccount:*:*vertical-pod-autoscaler*", "", ActorClass::Controller, Role::Vpa), // [m] its Helm chart
    rule("system:vpa-*", "", ActorClass::Controller, Role::Vpa), // [k] GKE's own VPA
    rule("vpa-*", "", ActorClass::Controller, Role::Vpa),        // [m] falco: vpa-recommender, vpa-updater as users
    rule("system:serviceaccount:*:keda*", "", ActorClass::Controller, Role::Autoscaler), // [m] keda config/service_account/service_account.yaml
    rule("system:serviceaccount:*", "keda", ActorClass::Controller, Role::Autoscaler),   // [r] user agent keda/v…
    rule("system:serviceaccount:*:*autoscaler*", "", ActorClass::Controller, Role::Autoscaler), // [m] cluster-autoscaler's chart: RELEASE-PROVIDER-cluster-autoscaler; kube-dns-autoscaler
    rule("system:cluster-autoscaler", "", ActorClass::Controller, Role::Autoscaler),            // [k] GKE
    rule("cluster-autoscaler", "", ActorClass::Controller, Role::Autoscaler), // [m] falco: allowed_k8s_users
    rule("system:serviceaccount:*:karpenter*", "", ActorClass::Controller, Role::Autoscaler), // [m] karpenter-provider-aws chart
    rule("*", "karpenter", ActorClass::Controller, Role::Autoscaler), // [m] karpenter pkg/operator/operator.go: user agent karpenter/VERSION
    rule("system:serviceaccount:knative-serving:*", "autoscaler*", ActorClass::Controller, Role::Autoscaler), // [m] all use the account `controller`; only the binary differs
    // Argo: Rollouts and Workflows are not GitOps tools, even in the namespace argocd.
    rule("system:serviceaccount:*:argo-rollouts*", "", ActorClass::Controller, Role::Operator), // [m] argo-rollouts manifests/base/argo-rollouts-sa.yaml
    rule("system:serviceaccount:*:argocd-*", "", ActorClass::Gitops, Role::ArgoCd), // [m] argo-cd manifests/base/**/*-sa.yaml; argocd-manager in target clusters
    rule("system:serviceaccount:*:*-argocd-*", "", ActorClass::Gitops, Role::ArgoCd), // [k] argocd-operator: INSTANCE-argocd-application-controller
    rule("system:serviceaccount:argocd:*", "", ActorClass::Gitops, Role::ArgoCd),
    rule("system:serviceaccount:openshift-gitops:*", "", ActorClass::Gitops, Role::ArgoCd), // [m] gitops-operator controllers/argocd_controller.go
    rule("system:serviceaccount:flux-system:*", "", ActorClass::Gitops, Role::Flux), // [m] flux2 manifests/bases/*/account.yaml
    rule("system:serviceaccount:*:kustomize-controller", "", ActorClass::Gitops, Role::Flux),
    rule("system:serviceaccount:*:helm-controller", "", ActorClass::Gitops, Role::Flux),
    rule("system:serviceaccount:*:source-controller", "", ActorClass::Gitops, Role::Flux),
    rule("system:serviceaccount:*:notification-controller", "", ActorClass::Gitops, Role::Flux),
    rule("system:serviceaccount:*:image-automation-controller", "", ActorClass::Gitops, Role::Flux),
    rule("system:serviceaccount:*:image-reflector-controller", "", ActorClass::Gitops, Role::Flux),
    rule("system:serviceaccount:config-management-*", "", ActorClass::Gitops, Role::Gitops), // [m] kpt-config-sync
    rule("system:serviceaccount:*:*root-reconciler*", "", ActorClass::Gitops, Role::Gitops), // [m] kpt-config-sync pkg/core/names.go
    rule("system:serviceaccount:*:*ns-reconciler*", "", ActorClass::Gitops, Role::Gitops),
    rule("system:serviceaccount:*:fleet-*", "", ActorClass::Gitops, Role::Gitops), // [m] fleet charts: fleet-agent, fleet-controller
    rule("system:serviceaccount:cattle-fleet-*", "", ActorClass::Gitops, Role::Gitops), // also gitjob, helmops [m]
    rule("system:serviceaccount:*:kapp-controller*", "", ActorClass::Gitops, Role::Gitops),
    // Impersonated accounts: Flux's spec.serviceAccountName leaves only the tool.
    rule("*", "argocd-*", ActorClass::Gitops, Role::ArgoCd), // [m] field manager argocd-controller; user agents argocd-application-controller, argocd-server, …
    rule("*", "kustomize-controller", ActorClass::Gitops, Role::Flux), // [m] kustomize-controller main.go
    rule("*", "helm-controller", ActorClass::Gitops, Role::Flux), // [m] helm-controller main.go sets Helm's manager to this
    rule("*", "source-controller", ActorClass::Gitops, Role::Flux),
    rule("*", "notification-controller", ActorClass::Gitops, Role::Flux),
    rule("*", "image-automation-controller", ActorClass::Gitops, Role::Flux),
    rule("*", "gotk-*", ActorClass::Gitops, Role::Flux), // [m] kustomize-controller main.go:373 StatusManager: gotk-kustomize-controller, gotk-source-controller
    rule("*", "configsync*", ActorClass::Gitops, Role::Gitops), // [m] kpt-config-sync pkg/api/configsync/register.go: FieldManager = GroupName, `configsync.gke.io`
    rule("system:serviceaccount:*", "fleetagent", ActorClass::Gitops, Role::Gitops), // [k] the agent's binary
    // Policy engines.
    rule("system:serviceaccount:*:kyverno*", "", ActorClass::Controller, Role::Policy), // [m] kyverno charts: kyverno-{admission,background,cleanup,reports}-controller
    rule("system:serviceaccount:*", "background-controller", ActorClass::Controller, Role::Policy), // [r] its older user agent
    rule("*", "kyverno*", ActorClass::Controller, Role::Policy), // [m] SSA manager kyverno-generate; [r] user agent kyverno/v…
    rule("*", "Kyverno", ActorClass::Controller, Role::Policy), // [m] pkg/config/client.go: user agent Kyverno/VERSION since 1.13.2
    rule("system:serviceaccount:*:gatekeeper-*", "", ActorClass::Controller, Role::Policy), // [m] gatekeeper-admin in gatekeeper-system
    rule("system:serviceaccount:*", "gatekeeper", ActorClass::Controller, Role::Policy),    // [m] main.go user agent
    // cert-manager: one account, a tool per controller.
    rule("system:serviceaccount:*:cert-manager*", "", ActorClass::Controller, Role::CertManager), // [m] deploy/charts/cert-manager: cert-manager, -cainjector, -webhook
    rule("system:serviceaccount:*", "cert-manager-*", ActorClass::Controller, Role::CertManager), // [m] pkg/util/useragent.go
    // Cloud add-on managers, and OpenShift's cluster version operator.
    rule("eks:*", "", ActorClass::Automation, Role::AddonManager), // [d] AWS default-roles-users: names reserved for EKS
    rule("*", "eks", ActorClass::Automation, Role::AddonManager),  // [d] AWS: add-ons are applied as field manager eks
    rule("system:addon-manager", "", ActorClass::Automation, Role::AddonManager), // [m] falco: allowed_k8s_users; GKE, kops
    rule("*addon-manager*", "", ActorClass::Automation, Role::AddonManager), // [d] GDC: kube-system:addon-manager-controller-sa
    rule("*@container-engine-robot.iam.gserviceaccount.com", "", ActorClass::Automation, Role::AddonManager), // [k] GKE itself
    rule("aksService", "", ActorClass::Automation, Role::AddonManager), // seen in public AKS admission logs, group system:masters
    rule("hcpService", "", ActorClass::Automation, Role::AddonManager), // likewise
    rule("acsService", "", ActorClass::Automation, Role::AddonManager), // [k]
    rule("readinessChecker", "", ActorClass::Automation, Role::AddonManager), // likewise. NOT masterclient: that is `az aks get-credentials --admin`
    rule("system:serviceaccount:openshift-cluster-version:*", "", ActorClass::Controller, Role::AddonManager), // [m] CVO install/: `default`, and `cluster-version-operator`
    // Pipelines.
    rule("system:serviceaccount:tekton-pipelines:*", "", ActorClass::Controller, Role::Operator), // [m] tekton config/200-serviceaccount.yaml: the controllers, not the runs
    rule("system:serviceaccount:openshift-pipelines:*", "", ActorClass::Controller, Role::Operator), // [k]
    rule("system:serviceaccount:*:pipeline", "", ActorClass::Automation, Role::Ci), // [k] OpenShift Pipelines' account of runs
    rule("system:serviceaccount:*:*gitlab*", "", ActorClass::Automation, Role::Ci),
    rule("system:serviceaccount:*gitlab-agent*:*", "", ActorClass::Automation, Role::Ci), // agentk: what CI jobs do by default (access_as: agent)
    rule("system:serviceaccount:gitlab-runner*:*", "", ActorClass::Automation, Role::Ci),
    rule("system:serviceaccount:cattle-impersonation-system:*", "", ActorClass::Person, Role::Console), // [m] rancher pkg/impersonation: a Rancher user in a downstream cluster
    rule("gitlab:ci_job:*", "", ActorClass::Automation, Role::Ci), // [m] gitlab-agent: username gitlab:ci_job:JOB_ID
    rule("system:serviceaccount:*:*jenkins*", "", ActorClass::Automation, Role::Ci),
    rule("system:serviceaccount:jenkins*:*", "", ActorClass::Automation, Role::Ci),
    rule("system:serviceaccount:*:*spinnaker*", "", ActorClass::Automation, Role::Ci), // [k] clouddriver runs kubectl
    rule("system:serviceaccount:spinnaker:*", "", ActorClass::Automation, Role::Ci),
    rule("system:serviceaccount:*:*-gha-rs-controller", "", ActorClass::Controller, Role::Operator), // [m] actions-runner-controller charts
    rule("system:serviceaccount:*:*-gha-rs-kube-mode", "", ActorClass::Automation, Role::Ci), // [m] gha-runner-scale-set/templates/_helpers.tpl
    rule("system:serviceaccount:*:*-gha-rs-no-permission", "", ActorClass::Automation, Role::Ci),
    rule("system:serviceaccount:*:*-listener", "ghalistener", ActorClass::Automation, Role::Ci), // [m] resourcebuilder.go: NAME-HASH-listener
    rule("system:serviceaccount:arc-runners:*", "", ActorClass::Automation, Role::Ci), // [k] the namespace of GitHub's tutorial
    rule("system:serviceaccount:*:tf-runner", "", ActorClass::Automation, Role::Terraform), // [k] tofu-controller's runner pods
    // [k] names that people give to the accounts of pipelines.
    rule("system:serviceaccount:ci:*", "", ActorClass::Automation, Role::Ci),
    rule("system:serviceaccount:ci-*:*", "", ActorClass::Automation, Role::Ci),
    rule("system:serviceaccount:cicd:*", "", ActorClass::Automation, Role::Ci),
    rule("ci", "", ActorClass::Automation, Role::Ci),
    rule("ci-*", "", ActorClass::Automation, Role::Ci),
    rule("cd-*", "", ActorClass::Automation, Role::Ci),
    rule("*-ci", "", ActorClass::Automation, Role::Ci),
    rule("*-bot", "", ActorClass::Automation, Role::Ci),
    rule("*[bot]", "", ActorClass::Automation, Role::Ci),
    rule("jenkins*", "", ActorClass::Automation, Role::Ci),
    rule("*-pipeline", "", ActorClass::Automation, Role::Ci),
    rule("*repo:*/*:*", "", ActorClass::Automation, Role::Ci), // [d] GitHub's OIDC `sub`, with any prefix; new form repo:OWNER@ID/NAME@ID:…
    rule("*project_path:*:ref_type:*", "", ActorClass::Automation, Role::Ci), // [d] GitLab's OIDC `sub`
    rule("arn:aws:sts::*:assumed-role/*/GitHubActions*", "", ActorClass::Automation, Role::Ci), // [k] default session name of configure-aws-credentials
    rule("arn:aws:sts::*:assumed-role/*/AWSCodeBuild-*", "", ActorClass::Automation, Role::Ci), // [k]
    rule("arn:aws:sts::*:assumed-role/*/GitLabRunner-*", "", ActorClass::Automation, Role::Ci), // [k] GitLab's documented example
    rule("*.gserviceaccount.com", "", ActorClass::Automation, Role::Ci), // [k] a Google service account is never a person
    // Infrastructure as code, under any account.
    rule("*", "Terraform*", ActorClass::Automation, Role::Terraform), // [m] terraform-provider-kubernetes: field manager Terraform
    rule("*", "HashiCorp*", ActorClass::Automation, Role::Terraform), // [m] user agent HashiCorp/1.0 Terraform/VERSION; gavinbunney/kubectl the same
    rule("*", "terraform-provider-*", ActorClass::Automation, Role::Terraform), // [m] Helm provider: no manager set, so the plugin's binary
    rule("*", "pulumi-*", ActorClass::Automation, Role::Terraform), // [m] pulumi-kubernetes (client-side), pulumi-kubernetes-RANDOM (server-side), pulumi-resource-kubernetes
    rule("*", "ansible*", ActorClass::Automation, Role::Ci), // [m] kubernetes.core k8s: field_manager of its example
    // A ServiceAccount with a person's tool is a script or a pipeline, not a person and not an operator.
    rule("system:serviceaccount:*", "helm", ActorClass::Automation, Role::Helm),
    rule("system:serviceaccount:*", "Helm", ActorClass::Automation, Role::Helm),
    rule("system:serviceaccount:*", "kubectl*", ActorClass::Automation, Role::Ci),
    rule("system:serviceaccount:*", "oc", ActorClass::Automation, Role::Ci),
    rule("system:serviceaccount:*", "Mozilla", ActorClass::Person, Role::Console), // a token pasted into a console
    rule("system:serviceaccount:*", "Headlamp*", ActorClass::Person, Role::Console),
    rule("system:serviceaccount:*", "dashboard", ActorClass::Person, Role::Console),
    rule("system:serviceaccount:*", "", ActorClass::Controller, Role::Operator),
    // Field managers that a watch shows: `MANAGER (OPERATION)`, or `MANAGER (OPERATION SUBRESOURCE)`. A client that does
    // not choose a manager has the first part of its user agent, which is the name of its program [m] apimachinery
    // managedfields.
    rule("kube-controller-manager (* scale)", "", ActorClass::Controller, Role::Hpa), // no other of its controllers writes scale
    rule("kube-controller-manager (*)", "", ActorClass::Controller, Role::InTree),    // [r]
    rule("kube-scheduler (*)", "", ActorClass::Controller, Role::InTree),
    rule("*-controller-manager (*)", "", ActorClass::Controller, Role::InTree), // [m] cloud-provider
    rule("kube-apiserver (*)", "", ActorClass::Apiserver, Role::Apiserver),     // [r] its own objects, at startup
    rule("kubelet (*)", "", ActorClass::Node, Role::Node),                      // [m] kubelet's user agent
    rule("keda* (*)", "", ActorClass::Controller, Role::Autoscaler),            // [r] user agent keda/v…
    rule("*autoscaler* (*)", "", ActorClass::Controller, Role::Autoscaler),
    rule("recommender (*)", "", ActorClass::Controller, Role::Vpa), // [m] autoscaler vertical-pod-autoscaler/pkg: the names of its binaries
    rule("updater (*)", "", ActorClass::Controller, Role::Vpa),     // likewise
    rule("cert-manager-* (*)", "", ActorClass::Controller, Role::CertManager), // [m] pkg/util/useragent.go
    rule("cainjector (*)", "", ActorClass::Controller, Role::CertManager), // [m] its binary
    rule("background-controller (*)", "", ActorClass::Controller, Role::Policy), // [r]
    rule("gatekeeper (*)", "", ActorClass::Controller, Role::Policy), // [m] main.go user agent
    // Persons.
    rule("*", "OpenAPI-Generator", ActorClass::Automation, Role::Ci), // [m] kubernetes-client/python: Ansible, or any Python script
    rule("*", "helm", ActorClass::Person, Role::Helm),                // [m] helm cmd/helm/helm.go
    rule("*", "Helm", ActorClass::Person, Role::Helm), // [m] helm internal/version/version.go: user agent Helm/VERSION
    rule("*", "Mozilla", ActorClass::Person, Role::Console), // [m] openshift/console and Lens pass on the browser's user agent
    rule("*", "Headlamp*", ActorClass::Person, Role::Console), // [m] headlamp kubeconfig.go: `Headlamp VERSION (linux/amd64)`: no slash before the version
    rule("*", "dashboard", ActorClass::Person, Role::Console), // [k]
    rule("*", "kubectl*", ActorClass::Person, Role::Kubectl),
    rule("*", "oc", ActorClass::Person, Role::Kubectl),
    rule("k9s (*)", "", ActorClass::Person, Role::Console), // [k]
    rule("* (Apply)", "", ActorClass::Controller, Role::Operator), // most programs that people run are above
    rule("* (Update)", "", ActorClass::Controller, Role::Operator),
    rule("* (Apply *)", "", ActorClass::Controller, Role::Operator),
    rule("* (Update *)", "", ActorClass::Controller, Role::Operator),
    rule("*", "", ActorClass::Person, Role::Person),
];
