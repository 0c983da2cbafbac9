//! The kinds of evidence that an answer can be based on, from least to most, and what the next better kind takes.
//! `doctor` and `setup` share it.

use crate::query::views::Levels;

/// A kind of evidence, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// The owners of fields, as an object has them now.
    ManagedFields,
    /// The revisions of a watch.
    Watch,
    /// An audit log at level Metadata, without a watch.
    Metadata,
    /// An audit log at level Metadata, joined with a watch.
    WatchAndMetadata,
    /// The reviews of an admission webhook, without an audit log.
    Reviews,
    /// An audit log at level Metadata, with the reviews of an admission webhook.
    ReviewsAndMetadata,
    /// An audit log at level Request.
    Request,
    /// An audit log at level RequestResponse.
    RequestResponse,
}

/// What a kind of evidence needs and shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Description {
    pub(super) name: &'static str,
    pub(super) needs: &'static str,
    pub(super) shows: &'static str,
    /// What it does not show.
    pub(super) lacks: &'static str,
    pub(super) commands: &'static [&'static str],
}

/// Where an account may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reach {
    #[default]
    Nowhere,
    /// In the namespace that was examined.
    Namespace,
    Everywhere,
}

/// What an account may read in a cluster without a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    /// Where it may get or list objects.
    pub(super) read: Reach,
    /// Where it may list and watch them.
    pub(super) watch: Reach,
    /// Whether objects have `managedFields`, if that is known.
    pub(super) has_managed_fields: Option<bool>,
}

/// The evidence that a user has, and how to get more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// The best kind, if there is any.
    pub(super) has: Option<Evidence>,
    /// What it shows.
    pub(super) text: String,
    /// The next better kind, and what it takes. `None` if no kind is better.
    pub(super) next: Option<String>,
}

// === impl Evidence ===

impl Evidence {
    /// The kinds that are worth aiming for. An audit log at level Metadata alone is not among them, because a watch beside
    /// it only needs read access; nor is an admission webhook alone, because every cluster has such a log.
    pub(super) const ALL: [Evidence; 6] = [
        Evidence::ManagedFields,
        Evidence::Watch,
        Evidence::WatchAndMetadata,
        Evidence::ReviewsAndMetadata,
        Evidence::Request,
        Evidence::RequestResponse,
    ];

    /// Returns the evidence of a server with these writes. `None` if it has none yet.
    ///
    /// A policy logs some kinds of objects with more detail than others. The highest level that most writes with bodies
    /// have is taken for its intention.
    pub(super) fn of_server(levels: &Levels, is_watching: bool) -> Option<Evidence> {
        let is_watching = is_watching || levels.watched > 0;
        if levels.request_response > 0 && levels.request_response >= levels.request {
            Some(Evidence::RequestResponse)
        } else if levels.request > 0 {
            Some(Evidence::Request)
        } else if levels.metadata > 0 && levels.fields_reviewed > 0 {
            Some(Evidence::ReviewsAndMetadata)
        } else if levels.reviewed > 0 {
            Some(Evidence::Reviews)
        } else if levels.metadata > 0 {
            Some(if is_watching { Evidence::WatchAndMetadata } else { Evidence::Metadata })
        } else {
            is_watching.then_some(Evidence::Watch)
        }
    }

    /// Returns the best evidence that an account with these rights can have at once. `None` if it can have none.
    pub(super) fn of_rights(rights: &Rights) -> Option<Evidence> {
        if rights.has_managed_fields == Some(false) {
            None
        } else if rights.watch != Reach::Nowhere {
            Some(Evidence::Watch)
        } else {
            (rights.read != Reach::Nowhere).then_some(Evidence::ManagedFields)
        }
    }

    /// Returns the next better kind.
    fn next(self) -> Option<Evidence> {
        match self {
            Evidence::ManagedFields => Some(Evidence::Watch),
            Evidence::Watch | Evidence::Metadata => Some(Evidence::WatchAndMetadata),
            Evidence::Reviews | Evidence::WatchAndMetadata => Some(Evidence::ReviewsAndMetadata),
            Evidence::ReviewsAndMetadata => Some(Evidence::Request),
            Evidence::Request => Some(Evidence::RequestResponse),
            Evidence::RequestResponse => None,
        }
    }

    /// Names the next better kind and how to get it.
    fn next_by(self, how: &str) -> Option<String> {
        self.next().map(|kind| format!("{}, {how}", kind.description().name))
    }

    pub(super) fn description(self) -> Description {
        match self {
            Evidence::ManagedFields => Description {
                name: "managedFields",
                needs: "a kubeconfig with read access",
                shows: "who owns each field now, and fights that are foreseeable",
                lacks: "wars: earlier writes, their values and accounts",
                commands: &["editwar who deployment/web -n shop", "editwar check"],
            },
            Evidence::Watch => Description {
                name: "a watch",
                needs: "permission to list and watch",
                shows: "wars: field managers, fields, values of contested objects",
                lacks: "accounts, who deleted an object, refused requests",
                commands: &["editwar watch", "editwar serve --watch (Helm: watch.enabled=true)"],
            },
            Evidence::Metadata => Description {
                name: "an audit log at level Metadata",
                needs: "an audit log, such as that of a managed cluster",
                shows: "accounts and the objects that they write",
                lacks: "fields and values",
                commands: &["editwar analyze AUDIT.log"],
            },
            Evidence::WatchAndMetadata => Description {
                name: "a watch and an audit log at level Metadata",
                needs: "a watch, and an audit log such as that of a managed cluster",
                shows: "the same wars with accounts; deletions and refused requests",
                lacks: "which account wrote, if requests overlap or share a manager",
                commands: &[
                    "editwar watch --record watch.jsonl",
                    "editwar analyze AUDIT.log watch.jsonl",
                    "editwar serve --watch --tail AUDIT.log",
                ],
            },
            Evidence::Reviews => Description {
                name: "an admission webhook",
                needs: "permission to create a ValidatingWebhookConfiguration",
                shows: "accounts, fields, values before and after",
                lacks: "whether a write was stored, user agents",
                commands: &["editwar setup admission --certs DIR"],
            },
            Evidence::ReviewsAndMetadata => Description {
                name: "an admission webhook and an audit log at level Metadata",
                needs: "permission to create a ValidatingWebhookConfiguration",
                shows: "accounts, fields, values before and after, outcomes",
                lacks: "objects that the webhook is not asked about",
                commands: &["editwar setup admission --certs DIR", "editwar serve --tail AUDIT.log"],
            },
            Evidence::Request => Description {
                name: "an audit log at level Request",
                needs: "an audit policy that logs writes with request bodies",
                shows: "accounts, and the changes that each request asks for",
                lacks: "what defaults, webhooks and other writers made of them",
                commands: &["editwar analyze AUDIT.log"],
            },
            Evidence::RequestResponse => Description {
                name: "an audit log at level RequestResponse",
                needs: "access to the flags of kube-apiserver",
                shows: "everything: accounts, fields, values before and after",
                lacks: "only what the policy does not log, such as values of Secrets",
                commands: &["editwar setup policy", "editwar setup webhook --certs DIR", "editwar serve"],
            },
        }
    }
}

// === impl Standing ===

impl Standing {
    /// Returns the evidence of a server.
    pub(super) fn of_server(levels: &Levels, is_watching: bool) -> Standing {
        let Some(has) = Evidence::of_server(levels, is_watching) else {
            let next = "a watch, which needs permission to list and watch: editwar serve --watch (Helm: \
                        watch.enabled=true)";
            return Standing { has: None, text: "none has arrived yet".into(), next: Some(next.into()) };
        };
        let Description { name, shows, .. } = has.description();
        let joined = match has {
            Evidence::WatchAndMetadata => {
                format!("; accounts of {} of {} writes are known", levels.joined, levels.watched)
            }
            _ => String::new(),
        };
        let how = match has {
            Evidence::ManagedFields => "which adds wars: editwar serve --watch",
            Evidence::Watch => "which adds accounts: editwar serve --watch --tail AUDIT.log",
            Evidence::Metadata => "which adds fields and values: editwar serve --watch (Helm: watch.enabled=true)",
            Evidence::WatchAndMetadata => {
                "which adds values before and after, and who wrote if requests overlap: editwar setup admission; or \
                 RequestResponse, if you can set the policy of kube-apiserver: editwar setup policy"
            }
            Evidence::Reviews => "which adds outcomes: editwar serve --tail AUDIT.log",
            Evidence::ReviewsAndMetadata => {
                "or better RequestResponse, if you can set the policy of kube-apiserver: editwar setup policy"
            }
            Evidence::Request | Evidence::RequestResponse => {
                "which adds what each request has changed: editwar setup policy"
            }
        };
        Standing { has: Some(has), text: format!("{name}: {shows}{joined}"), next: has.next_by(how) }
    }

    /// Returns the evidence that an account can have without a server. `flags` choose the cluster, and `namespace` is the
    /// one in which the rights were examined.
    pub(super) fn of_rights(rights: &Rights, flags: &str, namespace: &str) -> Standing {
        let flags = if flags.is_empty() { String::new() } else { format!(" {flags}") };
        let at = |reach: Reach| match reach {
            Reach::Namespace => format!("{flags} -n {namespace}"),
            Reach::Everywhere | Reach::Nowhere => flags.clone(),
        };
        let has = Evidence::of_rights(rights);
        let (text, next) = match has {
            Some(Evidence::ManagedFields) => (
                format!("managedFields: who owns each field now: editwar who KIND/NAME{}", at(rights.read)),
                Evidence::ManagedFields.next_by(
                    "which shows wars; ask for permission to list and watch, such as the ClusterRole view: editwar watch",
                ),
            ),
            Some(kind) => {
                let watch = format!("editwar watch{}", at(rights.watch));
                let how = format!(
                    "which adds accounts: {watch} --record watch.jsonl, and then editwar analyze AUDIT.log watch.jsonl"
                );
                (format!("a watch: field managers, fields and values of wars: {watch}"), kind.next_by(&how))
            }
            None if rights.has_managed_fields == Some(false) => (
                "none: the objects of this cluster have no managedFields".to_owned(),
                Some("an audit log: editwar analyze AUDIT.log".to_owned()),
            ),
            None => (
                "none: this account may not read objects".to_owned(),
                Some(format!(
                    "managedFields and a watch; ask for permission to list and watch, such as the ClusterRole view: \
                     editwar watch{flags}"
                )),
            ),
        };
        Standing { has, text, next }
    }

    /// Returns the evidence if neither a cluster nor a server answers.
    pub(super) fn of_nothing() -> Standing {
        Standing {
            has: None,
            text: "none: neither a cluster nor a server answers".to_owned(),
            next: Some(
                "managedFields and a watch, with --kubeconfig FILE; or --server URL for a running server. An audit log \
                 needs neither: editwar analyze AUDIT.log"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(metadata: u64, request: u64, request_response: u64, watched: u64) -> Levels {
        Levels { metadata, request, request_response, watched, joined: metadata.min(watched), ..Levels::default() }
    }

    #[test]
    fn the_evidence_of_a_server_is_the_best_that_it_receives() {
        for (found, is_watching, expected) in [
            (levels(0, 0, 0, 0), false, None),
            (levels(0, 0, 0, 0), true, Some(Evidence::Watch)),
            (levels(0, 0, 0, 3), true, Some(Evidence::Watch)),
            (levels(5, 0, 0, 0), false, Some(Evidence::Metadata)),
            (levels(5, 0, 0, 0), true, Some(Evidence::WatchAndMetadata)),
            (levels(5, 0, 0, 3), true, Some(Evidence::WatchAndMetadata)),
            (levels(5, 2, 0, 0), false, Some(Evidence::Request)),
            (levels(5, 2, 1, 3), true, Some(Evidence::Request)),
            (levels(5, 0, 1, 0), false, Some(Evidence::RequestResponse)),
            (levels(5, 2, 2, 3), true, Some(Evidence::RequestResponse)),
        ] {
            let standing = Standing::of_server(&found, is_watching);
            assert_eq!(standing.has, expected, "{found:?} {is_watching}");
            let is_best = expected == Some(Evidence::RequestResponse);
            assert_eq!(standing.next.is_none(), is_best, "{standing:?}");
        }
        let reviewed =
            |metadata, reviewed, fields_reviewed| Levels { metadata, reviewed, fields_reviewed, ..Levels::default() };
        for (found, expected) in [
            (reviewed(0, 7, 0), Evidence::Reviews),
            (reviewed(9, 0, 7), Evidence::ReviewsAndMetadata),
            (reviewed(9, 2, 5), Evidence::ReviewsAndMetadata),
            // The audit log of another cluster, or of other objects.
            (reviewed(9, 7, 0), Evidence::Reviews),
        ] {
            assert_eq!(Standing::of_server(&found, false).has, Some(expected), "{found:?}");
        }
        let joined = Standing::of_server(&levels(5, 0, 0, 8), true);
        assert!(joined.text.ends_with("accounts of 5 of 8 writes are known"), "{joined:?}");
    }

    #[test]
    fn the_evidence_of_an_account_depends_on_what_it_may_read() {
        use Reach::{Everywhere, Namespace, Nowhere};
        let of = |read, watch, has_managed_fields| {
            Standing::of_rights(&Rights { read, watch, has_managed_fields }, "--context prod", "shop")
        };
        for (standing, expected, command) in [
            (of(Everywhere, Everywhere, Some(true)), Some(Evidence::Watch), "editwar watch --context prod"),
            (of(Everywhere, Namespace, None), Some(Evidence::Watch), "editwar watch --context prod -n shop"),
            (
                of(Namespace, Nowhere, Some(true)),
                Some(Evidence::ManagedFields),
                "editwar who KIND/NAME --context prod -n shop",
            ),
            (of(Nowhere, Nowhere, None), None, "may not read objects"),
            (of(Everywhere, Everywhere, Some(false)), None, "have no managedFields"),
        ] {
            assert_eq!(standing.has, expected, "{standing:?}");
            assert!(standing.text.ends_with(command), "{standing:?}");
            assert!(standing.next.is_some_and(|next| next.contains("editwar ")));
        }
    }

    #[test]
    fn each_kind_leads_to_a_better_one_up_to_the_best() {
        let mut kinds = vec![Evidence::ManagedFields];
        while let Some(next) = kinds.last().and_then(|kind| kind.next()) {
            kinds.push(next);
        }
        assert_eq!(kinds, Evidence::ALL);
        assert_eq!(Evidence::Metadata.next(), Some(Evidence::WatchAndMetadata));
    }
}
