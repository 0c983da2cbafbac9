//! Kubernetes' own word: TokenReview says who it is, SubjectAccessReview whether it may. Remembered for a while, bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use kube::{Client, core::ObjectMeta};

use super::tokens::{Hash, hash};
use super::{Refusal, Right};

/// How long an answer holds.
const YES_FOR: Duration = Duration::from_secs(60);
const NO_FOR: Duration = Duration::from_secs(10);
/// The most answers that are remembered.
const ANSWERS_MAX: usize = 4096;
/// Reviews in a second, of one address and of all: whoever makes tokens up must neither load the API server nor use up what
/// others are asked with.
const PER_ADDRESS: NonZeroU32 = NonZeroU32::new(4).expect("not zero");
const PER_SECOND: NonZeroU32 = NonZeroU32::new(40).expect("not zero");
/// Addresses whose rate is remembered.
const ADDRESSES_MAX: usize = 4096;
/// Time for one review.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What an API server said.
type Answer = Result<(), Refusal>;

/// Questions to an API server.
pub struct Reviews {
    client: Client,
    answers: Mutex<HashMap<(Hash, Right), (Answer, Instant)>>,
    of_address: DefaultKeyedRateLimiter<IpAddr>,
    of_all: DefaultDirectRateLimiter,
}

// === impl Reviews ===

impl Reviews {
    /// Asks with this client.
    pub fn new(client: Client) -> Reviews {
        Reviews {
            client,
            answers: Mutex::default(),
            of_address: RateLimiter::keyed(Quota::per_second(PER_ADDRESS)),
            of_all: RateLimiter::direct(Quota::per_second(PER_SECOND)),
        }
    }

    /// Whether the holder of this token, who asks from this address, may do that.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn may(&self, token: &str, right: Right, from: IpAddr) -> Result<(), Refusal> {
        let key = (hash(token), right);
        let now = Instant::now();
        if let Some(known) = self.known(&key, now) {
            return known;
        }
        if self.of_address.len() >= ADDRESSES_MAX {
            self.of_address.retain_recent();
        }
        // The address first: what it has no right to must not count against all.
        if self.of_address.check_key(&from.to_canonical()).is_err() || self.of_all.check().is_err() {
            return Err(Refusal::Unavailable);
        }
        let answer = match tokio::time::timeout(TIMEOUT, self.ask(token, right)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a TokenReview or SubjectAccessReview failed; the account needs \
                    ClusterRole system:auth-delegator");
                return Err(Refusal::Unavailable);
            }
            Err(_) => return Err(Refusal::Unavailable),
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, (answer, at)| is_valid(answer, *at, now));
        }
        if answers.len() < ANSWERS_MAX {
            answers.insert(key, (answer, now));
        }
        answer
    }

    fn known(&self, key: &(Hash, Right), now: Instant) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (answer, at) = answers.get(key)?;
        is_valid(answer, *at, now).then_some(*answer)
    }

    async fn ask(&self, token: &str, right: Right) -> kube::Result<Answer> {
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            status: None,
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let status = reviews.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(Err(Refusal::Unknown));
        };
        let (path, verb) = match right {
            Right::Post => ("/audit", "post"),
            Right::Scrape => ("/metrics", "get"),
            Right::Read => ("/editwar", "get"),
            Right::Act => ("/editwar", "post"),
        };
        let review = SubjectAccessReview {
            metadata: ObjectMeta::default(),
            spec: SubjectAccessReviewSpec {
                user: user.username,
                groups: user.groups,
                uid: user.uid,
                extra: user.extra,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some(path.to_owned()),
                    verb: Some(verb.to_owned()),
                }),
                ..SubjectAccessReviewSpec::default()
            },
            status: None,
        };
        let accesses: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let status = accesses.create(&PostParams::default(), &review).await?.status;
        Ok(if status.is_some_and(|s| s.allowed) { Ok(()) } else { Err(Refusal::Forbidden) })
    }
}

fn is_valid(answer: &Answer, at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < if answer.is_ok() { YES_FOR } else { NO_FOR }
}
