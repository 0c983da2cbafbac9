//! Accounts that a pipeline creates for each run, or whose names end with an identifier of the run. The identifier is
//! replaced with `*`, so that all runs count as one account.

/// Words in the names of accounts that pipelines use.
const PIPELINE_WORDS: [&str; 9] = ["ci", "cd", "run", "runner", "job", "build", "pipeline", "deploy", "deployer"];

/// Returns the account with `*` instead of the run's identifier, or `None` if the name contains none.
pub(super) fn pipeline_account(user: &str) -> Option<String> {
    if user.starts_with("system:node:") {
        return None;
    }
    gitlab_job(user).or_else(|| oidc_subject(user)).or_else(|| aws_session(user)).or_else(|| numbered(user))
}

/// `gitlab:ci_job:1074499489`: a new user for every job.
fn gitlab_job(user: &str) -> Option<String> {
    let job = user.strip_prefix("gitlab:ci_job:")?;
    is_number(job, 1).then(|| "gitlab:ci_job:*".to_owned())
}

/// `ISSUER#repo:acme/shop:ref:refs/heads/main` and `ISSUER#project_path:acme/shop:ref_type:branch:ref:main`: the branch or
/// tag identifies the run. An environment does not.
fn oidc_subject(user: &str) -> Option<String> {
    let marked = |mark: &str| user.find(mark).map(|at| at + mark.len());
    let from = marked("project_path:").or_else(|| marked("repo:"))?;
    let (repository, rest) = user[from..].split_once(':')?;
    let is_run = repository.contains('/') && !rest.starts_with("environment:");
    is_run.then(|| format!("{}{repository}:*", &user[..from]))
}

/// `arn:aws:sts::111122223333:assumed-role/deploy/1732489012345678901`: each run has a new session. The session of a person
/// is the person's name.
fn aws_session(user: &str) -> Option<String> {
    let (account, role) = user.split_once(":assumed-role/")?;
    let (role, session) = role.split_once('/')?;
    let is_person = role.starts_with("AWSReservedSSO_") || session.contains('@');
    (account.starts_with("arn:aws") && !is_person).then(|| format!("{account}:assumed-role/{role}/*"))
}

/// `…:deploy-1732489012`, `…:ci-8f3a9c1b`, `…:runner-x7k2p-9dk4s`: removes parts from the end as long as they are numbers or
/// hashes. Shorter numbers and generated names count only if the name contains a word of pipelines.
fn numbered(user: &str) -> Option<String> {
    let (prefix, name) = user.rsplit_once(':').unwrap_or(("", user));
    let mut parts: Vec<&str> = name.split('-').collect();
    let all = parts.len();
    let is_pipeline = parts.iter().any(|part| PIPELINE_WORDS.contains(part));
    let is_run =
        |part: &str| is_number(part, 6) || is_hash(part) || (is_pipeline && (is_number(part, 1) || is_generated(part)));
    while parts.len() > 1 && parts.last().is_some_and(|part| is_run(part)) {
        parts.pop();
    }
    let colon = if prefix.is_empty() { "" } else { ":" };
    (parts.len() < all).then(|| format!("{prefix}{colon}{}-*", parts.join("-")))
}

fn is_number(text: &str, digits_min: usize) -> bool {
    text.len() >= digits_min && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a text has seven to forty hexadecimal digits, of which at least one is decimal: a commit, or the hash of a revision.
fn is_hash(text: &str) -> bool {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (7..=40).contains(&text.len()) && text.bytes().all(is_hex) && text.bytes().any(|b| b.is_ascii_digit())
}

/// Whether a text has five characters of the alphabet of Kubernetes' generated names, of which at least one is a digit.
fn is_generated(text: &str) -> bool {
    let is_letter = |b: u8| b"bcdfghjklmnpqrstvwxz2456789".contains(&b);
    text.len() == 5 && text.bytes().all(is_letter) && text.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_pipeline_are_one_actor() {
        for (user, expected) in [
            ("gitlab:ci_job:1074499489", "gitlab:ci_job:*"),
            ("https://x#repo:acme/shop:ref:refs/heads/main", "https://x#repo:acme/shop:*"),
            ("x#project_path:acme/shop:ref_type:branch:ref:main", "x#project_path:acme/shop:*"),
            (
                "arn:aws:sts::111122223333:assumed-role/deploy/botocore-session-17",
                "arn:aws:sts::111122223333:assumed-role/deploy/*",
            ),
            ("system:serviceaccount:ci:deploy-1732489012", "system:serviceaccount:ci:deploy-*"),
            ("system:serviceaccount:ci:ci-8f3a9c1b", "system:serviceaccount:ci:ci-*"),
            ("system:serviceaccount:arc:big-runner-x7k2p-9dk4s", "system:serviceaccount:arc:big-runner-*"),
            ("ci-run-1", "ci-run-*"),
            (
                "system:serviceaccount:crossplane-system:provider-aws-s3-1a2b3c4d5e6f",
                "system:serviceaccount:crossplane-system:provider-aws-s3-*",
            ),
        ] {
            assert_eq!(pipeline_account(user).as_deref(), Some(expected), "{user}");
        }
    }

    #[test]
    fn other_accounts_are_not_changed() {
        for user in [
            "alice",
            "gitlab:user:alice",
            "x#repo:acme/shop:environment:prod",
            "arn:aws:sts::1:assumed-role/AWSReservedSSO_Admin/alice",
            "arn:aws:sts::1:assumed-role/admin/alice@example.com",
            "system:node:ip-10-0-0-1234567",
            "system:serviceaccount:shop:worker-0",
            "system:serviceaccount:shop:web-v2",
            "system:serviceaccount:kube-system:deployment-controller",
            "system:serviceaccount:ci:deployer",
            "system:serviceaccount:x:shop-facade",
            // Five letters may be a word. Kubernetes' generated names do not contain vowels, 0, 1 or 3.
            "system:serviceaccount:ci:runner-tests",
            "system:serviceaccount:ci:runner-bcdfg",
            "system:serviceaccount:ci:runner-linu1",
            "1234567",
        ] {
            assert_eq!(pipeline_account(user), None, "{user}");
        }
    }
}
