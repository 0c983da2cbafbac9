//! Evaluates an audit policy as kube-apiserver does: the first matching rule decides how much of a request is logged.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// How much of a request is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Level {
    /// Nothing.
    None,
    /// Metadata only.
    Metadata,
    /// Metadata and the request body.
    Request,
    /// Metadata, the request body and the response body.
    RequestResponse,
}

/// An audit policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Policy {
    kind: String,
    /// Stages for which no events are created.
    #[serde(default)]
    pub omit_stages: Vec<String>,
    /// Whether managed fields are omitted from bodies.
    #[serde(default)]
    pub omit_managed_fields: bool,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    urls: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

// === impl Policy ===

impl Policy {
    /// Parses the text of a policy file.
    ///
    /// # Errors
    /// The text is not an audit policy.
    pub(crate) fn parse(text: &str) -> Result<Policy> {
        let policy: Policy = serde_yaml_ng::from_str(text).context("not an audit policy")?;
        if policy.kind != "Policy" {
            bail!("not an audit policy: its kind is {}", policy.kind);
        }
        Ok(policy)
    }

    /// Returns how much is logged of an ordinary user's update of `RESOURCE.GROUP`, or of one of its subresources.
    pub(crate) fn level(&self, kind: &str, subresource: &str) -> Level {
        let (resource, group) = kind.split_once('.').unwrap_or((kind, ""));
        let rule = self.rules.iter().find(|rule| rule.is_for(group, resource, subresource));
        rule.map_or(Level::None, |rule| rule.level)
    }
}

impl Rule {
    fn is_for(&self, group: &str, resource: &str, subresource: &str) -> bool {
        let is_everybody = self.users.is_empty()
            && (self.user_groups.is_empty() || self.user_groups.iter().any(|g| g == "system:authenticated"));
        let is_update = self.verbs.is_empty() || self.verbs.iter().any(|verb| verb == "update" || verb == "*");
        let is_everywhere = self.namespaces.is_empty();
        let is_about_urls = self.resources.is_empty() && !self.urls.is_empty();
        let is_about_it =
            self.resources.is_empty() || self.resources.iter().any(|r| r.contain(group, resource, subresource));
        is_everybody && is_update && is_everywhere && !is_about_urls && is_about_it
    }
}

impl Resources {
    fn contain(&self, group: &str, resource: &str, subresource: &str) -> bool {
        let whole = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
        let is_named = |named: &String| {
            *named == whole
                || named == "*"
                || (!subresource.is_empty()
                    && (named.strip_prefix("*/") == Some(subresource) || named.strip_suffix("/*") == Some(resource)))
        };
        self.group == group
            && self.resource_names.is_empty()
            && (self.resources.is_empty() || self.resources.iter().any(is_named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_rule_applies() {
        let policy = Policy::parse(
            "
kind: Policy
rules:
- {level: None, users: ['system:apiserver']}
- {level: None, userGroups: ['system:nodes'], resources: [{group: ''}]}
- {level: None, verbs: [get, list, watch]}
- {level: None, nonResourceURLs: ['/healthz*']}
- {level: Metadata, resources: [{group: '', resources: [secrets, 'pods/*']}]}
- {level: Request, resources: [{group: apps, resources: ['*/scale', deployments]}]}
- {level: RequestResponse, namespaces: [kube-system]}
- {level: RequestResponse, resources: [{group: example.com}]}
",
        )
        .unwrap();
        for (kind, subresource, expected) in [
            ("secrets", "", Level::Metadata),
            ("pods", "status", Level::Metadata),
            ("pods", "", Level::None),
            ("deployments.apps", "", Level::Request),
            ("deployments.apps", "status", Level::None),
            ("statefulsets.apps", "scale", Level::Request),
            ("widgets.example.com", "status", Level::RequestResponse),
            ("services", "", Level::None),
        ] {
            assert_eq!(policy.level(kind, subresource), expected, "{kind}/{subresource}");
        }
    }

    #[test]
    fn invalid_policies_are_rejected() {
        assert!(Policy::parse("kind: Config").unwrap_err().to_string().contains("Config"));
        assert!(Policy::parse("rules: [{level: Loud}]\nkind: Policy").is_err());
    }
}
