//! Which object would carry a pause by the own switch of a tool, as the enforcer derives it from events.

use std::collections::BTreeMap;

use editwar::detect::annotations::Tool;
use editwar::detect::verdict::{Confidence, State};
use editwar::enforce::means::Means;
use editwar::enforce::plan::Verdict;
use editwar::enforce::selection::Selection;
use editwar::enforce::verdicts::{Judging, contested};
use editwar::pipeline::key::ObjectKey;
use serde_json::{Value, json};

use crate::cluster::{ALICE, Cluster, HPA, Level, Who};
use crate::util;

const ARGO_CD: Who = ("system:serviceaccount:argocd:argocd-application-controller", "argocd-controller");
const FLUX: Who = ("system:serviceaccount:flux-system:kustomize-controller", "kustomize-controller");
const EDITWAR: Who = ("system:serviceaccount:editwar:editwar", "editwar");
const WEB: &str = "deployments.apps/shop/web";
const API: &str = "deployments.apps/shop/api";

fn of_application(name: &str) -> Value {
    json!({"annotations": {"argocd.argoproj.io/tracking-id": format!("{name}:apps/Deployment:shop/web")}})
}

fn of_kustomization() -> Value {
    json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}})
}

/// Creates a Deployment with these marks, and lets a tool and an autoscaler fight over it.
fn fight(cluster: &mut Cluster, path: &str, tool: Who, metadata: &Value) {
    let name = path.rsplit('/').next().unwrap();
    let mut body =
        json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": metadata, "spec": {"replicas": 3}});
    body["metadata"]["name"] = name.into();
    body["metadata"]["namespace"] = "shop".into();
    cluster.create(tool, path, body);
    for _ in 0..10 {
        cluster.wait(5.0);
        cluster.scale(HPA, path, 5);
        cluster.patch(tool, path, "", json!({"metadata": metadata, "spec": {"replicas": 3}}));
    }
}

/// Returns the verdicts after a story, by the text of the object that would carry the pause.
fn verdicts(tools: &[Tool], resources: &[&str], story: impl Fn(&mut Cluster)) -> BTreeMap<String, Verdict> {
    let mut cluster = Cluster::new(Level::RequestResponse);
    story(&mut cluster);
    let pipeline = util::pipeline_of(cluster.lines());
    let split = |resource: &&str| resource.split_once('.').map(|(r, g)| (r.to_owned(), g.to_owned())).unwrap();
    let selection = Selection {
        resources: resources.iter().map(split).collect(),
        tools: tools.iter().copied().collect(),
        ..Selection::default()
    };
    let judging =
        Judging { pipeline: &pipeline, own: EDITWAR.0, confidence: Confidence::Probable, selection: &selection };
    let name = |key: &ObjectKey| {
        let object = key.object();
        format!("{}/{}/{}", object.resource, object.namespace, object.name)
    };
    let found = judging.verdicts(contested(&pipeline).iter());
    found.iter().map(|(key, verdict)| (name(key), verdict.clone())).collect()
}

#[test]
fn the_application_of_argo_cd_carries_the_pauses_of_all_its_objects() {
    let both = |cluster: &mut Cluster| {
        fight(cluster, WEB, ARGO_CD, &of_application("shop"));
        fight(cluster, API, ARGO_CD, &of_application("shop"));
    };
    let found = verdicts(&[Tool::ArgoCd], &["deployments.apps"], both);
    let application = &found["applications/argocd/shop"];
    assert_eq!(application.state, State::Sustained);
    let Some(Means::ArgoCd(objects)) = &application.means else { panic!("{application:?}") };
    let names: Vec<&str> = objects.iter().map(|object| object.object().name).collect();
    assert_eq!(names, ["api", "web"]);
    assert!(application.over.contains("deployments.apps/") && application.over.contains("spec.replicas"));
    assert!(found["deployments/shop/web"].means.is_none(), "the object itself is not paused");
    // An Application in another namespace than Argo CD's own.
    let elsewhere = verdicts(&[Tool::ArgoCd], &["deployments.apps"], |cluster| {
        fight(cluster, WEB, ARGO_CD, &of_application("team_shop"));
    });
    assert!(elsewhere.contains_key("applications/team/shop"), "{:?}", elsewhere.keys());
}

#[test]
fn a_switch_is_used_only_where_it_is_allowed_and_helps() {
    let web = |metadata: Value, tool: Who| move |cluster: &mut Cluster| fight(cluster, WEB, tool, &metadata);
    let carriers = |tools: &[Tool], resources: &[&str], story: &dyn Fn(&mut Cluster)| -> Vec<String> {
        let found = verdicts(tools, resources, story).into_iter();
        found.filter(|(_, verdict)| verdict.means.is_some()).map(|(name, _)| name).collect()
    };
    let deployments = &["deployments.apps"][..];
    let argo_cd = web(of_application("shop"), ARGO_CD);
    assert_eq!(carriers(&[Tool::ArgoCd], deployments, &argo_cd), ["applications/argocd/shop"]);
    assert_eq!(carriers(&[Tool::Flux], deployments, &argo_cd), [""; 0], "the other tool is allowed");
    assert_eq!(carriers(&[Tool::ArgoCd], &["configmaps."], &argo_cd), [""; 0], "the object is not selected");
    assert_eq!(carriers(&[Tool::ArgoCd], deployments, &web(json!({}), ARGO_CD)), [""; 0], "it has no mark");
    let flux = web(of_kustomization(), FLUX);
    assert_eq!(carriers(&[Tool::Flux, Tool::ArgoCd], deployments, &flux), ["deployments/shop/web"]);
    assert_eq!(carriers(&[], deployments, &flux), [""; 0]);

    let unmanaged = |cluster: &mut Cluster| {
        fight(cluster, WEB, ARGO_CD, &of_application("shop"));
        let mode = json!({"metadata": {"annotations": {"platform.kubevirt.io/mode": "unmanaged"}}});
        cluster.patch(ALICE, WEB, "", mode);
    };
    assert_eq!(carriers(&[Tool::ArgoCd], deployments, &unmanaged), [""; 0]);
    // Argo CD creates what alice deletes: its switch would keep the object deleted.
    let recreated = |cluster: &mut Cluster| {
        for _ in 0..10 {
            let body =
                json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": of_application("shop"), "spec": {}});
            cluster.create(ARGO_CD, WEB, body);
            cluster.wait(5.0);
            cluster.delete(ALICE, WEB);
            cluster.wait(5.0);
        }
    };
    let found = verdicts(&[Tool::ArgoCd], deployments, recreated);
    assert_eq!(found["deployments/shop/web"].state, State::Sustained, "it is a war");
    assert_eq!(carriers(&[Tool::ArgoCd], deployments, &recreated), [""; 0]);
}

#[test]
fn only_a_switch_that_editwar_has_set_is_a_pause_that_people_lift() {
    let switch = |value: Value| json!({"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": value}}});
    let removal = |who: Who| {
        let found = verdicts(&[Tool::Flux], &["deployments.apps"], |cluster| {
            fight(cluster, WEB, FLUX, &of_kustomization());
            cluster.patch(who, WEB, "", switch("disabled".into()));
            cluster.wait(5.0);
            cluster.patch(ALICE, WEB, "", switch(Value::Null));
        });
        found["deployments/shop/web"].removal.clone()
    };
    let lifted = removal(EDITWAR).expect("a person lifts the pause");
    assert!(lifted.is_deliberate && &*lifted.actor == ALICE.0, "{lifted:?}");
    assert_eq!(removal(ALICE), None, "her own switch is none of ours");
}
