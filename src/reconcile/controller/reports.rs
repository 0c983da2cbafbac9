//! Reports about assets: metrics, and Events that are sent only when something has changed.

use k8s_openapi::api::core::v1::ObjectReference;

use super::Reconciler;
use crate::reconcile::manifest::Id;
use crate::reconcile::overrides;
use crate::reconcile::plan::DesiredObject;

// === impl Reconciler ===

impl Reconciler {
    /// Reports overrides that are new, and those that are invalid.
    pub(super) async fn report_overrides(&mut self, id: &Id, wanted: &DesiredObject, about: &ObjectReference) {
        self.set_customizations(id, &wanted.customizations);
        for (reason, text) in [
            ("InvalidPatch", invalid(wanted, |i| matches!(i, overrides::Invalid::Patch(_)))),
            ("InvalidIgnoreFields", invalid(wanted, |i| matches!(i, overrides::Invalid::Ignore(..)))),
        ] {
            if text.is_empty() {
                self.clear_report(id, reason);
            } else if self.is_new_report(id, reason, &text) {
                self.events.warn(about, reason, text);
            }
        }
        let is_patched = wanted.customizations.contains(&"patch")
            && !wanted.invalid.iter().any(|i| matches!(i, overrides::Invalid::Patch(_)));
        if !is_patched {
            self.clear_report(id, "PatchApplied");
        } else if self.is_new_report(id, "PatchApplied", &wanted.object["spec"].to_string()) {
            self.events.publish(about, "PatchApplied", "applied the patch annotation".into());
        }
    }

    pub(super) fn set_gauge(&self, gauge: &prometheus::IntGaugeVec, id: &Id, value: i64) {
        gauge.with_label_values(&[id.kind.as_str(), id.name.as_str(), id.namespace.as_str()]).set(value);
    }

    pub(super) fn set_customizations(&self, id: &Id, types: &[&str]) {
        for kind in ["patch", "ignore", "unmanaged"] {
            let labels = [id.kind.as_str(), id.name.as_str(), id.namespace.as_str(), kind];
            if types.contains(&kind) {
                self.metrics.customizations.with_label_values(&labels).set(1)
            } else {
                drop(self.metrics.customizations.remove_label_values(&labels))
            }
        }
    }

    pub(super) fn is_new_report(&mut self, id: &Id, what: &'static str, text: &str) -> bool {
        let reports = &mut self.states.entry(id.clone()).or_default().last_reports;
        reports.insert(what, text.to_owned()).as_deref() != Some(text)
    }

    pub(super) fn clear_report(&mut self, id: &Id, what: &str) {
        if let Some(state) = self.states.get_mut(id) {
            state.last_reports.remove(what);
        }
    }
}

fn invalid(wanted: &DesiredObject, is_it: impl Fn(&overrides::Invalid) -> bool) -> String {
    wanted.invalid.iter().filter(|i| is_it(i)).map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
