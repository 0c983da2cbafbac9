//! Certificates of cert-manager that are stored in the same Secret.

use std::collections::BTreeMap;

use crate::check::finding::{Certainty, Contender, Finding, ObjectId};
use crate::check::snapshot::{Object, Snapshot};

/// Returns the findings.
pub(super) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut by_secret: BTreeMap<ObjectId, Vec<&Object>> = BTreeMap::new();
    for certificate in snapshot.of_kind("cert-manager.io", "Certificate") {
        if let Some(secret) = secret_of(certificate) {
            by_secret.entry(secret).or_default().push(certificate);
        }
    }
    by_secret.into_iter().filter(|(_, found)| found.len() > 1).map(|(secret, found)| finding(secret, &found)).collect()
}

/// Returns the Secret of a Certificate.
pub(super) fn secret_of(certificate: &Object) -> Option<ObjectId> {
    let name = certificate.wanted()["spec"]["secretName"].as_str()?.to_owned();
    Some(ObjectId {
        kind: "Secret".to_owned(),
        namespace: certificate.id.namespace.clone(),
        name,
        ..ObjectId::default()
    })
}

fn finding(secret: ObjectId, certificates: &[&Object]) -> Finding {
    let names: Vec<String> = certificates.iter().map(|certificate| certificate.id.to_string()).collect();
    let contender = |name: &String| Contender { name: name.clone(), does: "is stored in it".to_owned() };
    Finding {
        rule: "shared_secret",
        certainty: Certainty::Possible,
        more_objects: Vec::new(),
        fields: vec!["data".to_owned()],
        contenders: names.iter().map(contender).collect(),
        evidence: vec![format!("spec.secretName of {} is {}", names.join(" and "), secret.name)],
        when: "at each issuance; newer versions of cert-manager issue only one of them".to_owned(),
        advice: format!("give each of {} a secretName of its own", names.join(" and ")),
        remedies: Vec::new(),
        involved: certificates.iter().map(|certificate| certificate.id.clone()).chain([secret.clone()]).collect(),
        object: secret,
    }
}
