//! Access control by a Kubernetes API server: TokenReview identifies the client, SubjectAccessReview checks its right.
//! Results are cached, and requests to the API server are rate-limited.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use kube::{Client, core::ObjectMeta};

use super::refusal::Refusal;
use super::right::Right;
use super::tokens::{Hash, hash};
use crate::net::budget::client_of;
use crate::util::lock::lock;

/// How long positive and negative results are cached.
const YES_FOR: Duration = Duration::from_secs(60);
const NO_FOR: Duration = Duration::from_secs(10);
/// How long a token or an address counts as good after a successful review, and how long an address that has only sent
/// invalid tokens counts as bad.
const GOOD_FOR: Duration = Duration::from_secs(3600);
const BAD_FOR: Duration = Duration::from_secs(300);
/// Maximum number of cached results of each kind, and of addresses.
const ANSWERS_MAX: usize = 4096;
const ADDRESSES_MAX: usize = 4096;
/// Reviews per second for one address.
const PER_ADDRESS: NonZeroU32 = NonZeroU32::new(4).expect("not zero");
/// Reviews per second in total: for tokens or addresses that were good before, for new ones, and for addresses that
/// have only sent invalid tokens. Invented tokens therefore neither overload the API server nor use up the share of
/// others.
const OF_GOOD: NonZeroU32 = NonZeroU32::new(20).expect("not zero");
const OF_NEW: NonZeroU32 = NonZeroU32::new(15).expect("not zero");
const OF_BAD: NonZeroU32 = NonZeroU32::new(5).expect("not zero");
/// Timeout of one review.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The result of a review.
type Answer = Result<(), Refusal>;
/// The cache key: a token's hash, and the requested right.
type Question = (Hash, Right);

/// Reviews tokens with an API server.
pub(crate) struct Reviews {
    client: Client,
    cache: Mutex<ReviewCache>,
    of_address: DefaultKeyedRateLimiter<IpAddr>,
    of_good: DefaultDirectRateLimiter,
    of_new: DefaultDirectRateLimiter,
    of_bad: DefaultDirectRateLimiter,
}

/// The cached results, and what is known about addresses.
#[derive(Debug, Default)]
struct ReviewCache {
    yes: HashMap<Question, Instant>,
    no: HashMap<Question, (Refusal, Instant)>,
    addresses: HashMap<IpAddr, (Reputation, Instant)>,
}

/// What is known about a token or an address before the API server is asked. It decides which rate limit applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reputation {
    Good,
    New,
    Bad,
}

// === impl Reviews ===

impl Reviews {
    /// Creates reviews that use this client.
    pub(crate) fn new(client: Client) -> Reviews {
        let of_all = |rate| RateLimiter::direct(Quota::per_second(rate));
        Reviews {
            client,
            cache: Mutex::default(),
            of_address: RateLimiter::keyed(Quota::per_second(PER_ADDRESS)),
            of_good: of_all(OF_GOOD),
            of_new: of_all(OF_NEW),
            of_bad: of_all(OF_BAD),
        }
    }

    /// Checks whether the owner of this token has a right. `from` is the client's address, for rate limiting.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) async fn may(&self, token: &str, right: Right, from: IpAddr) -> Result<(), Refusal> {
        let (question, address) = ((hash(token), right), client_of(from));
        let now = Instant::now();
        let reputation = {
            let cache = lock(&self.cache);
            if let Some(known) = cache.answer(&question, now) {
                return known;
            }
            cache.reputation(&question, address, now)
        };
        if self.of_address.len() >= ADDRESSES_MAX {
            self.of_address.retain_recent();
        }
        let of_all = match reputation {
            Reputation::Good => &self.of_good,
            Reputation::New => &self.of_new,
            Reputation::Bad => &self.of_bad,
        };
        // The limit per address goes first: requests over it must not count towards the shared limit.
        if self.of_address.check_key(&address).is_err() || of_all.check().is_err() {
            return Err(Refusal::Unavailable);
        }
        let answer = match tokio::time::timeout(TIMEOUT, self.ask(token, right)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a TokenReview or SubjectAccessReview failed; grant this account \
                    the ClusterRole system:auth-delegator");
                return Err(Refusal::Unavailable);
            }
            Err(_) => return Err(Refusal::Unavailable),
        };
        lock(&self.cache).learn(question, address, answer, now);
        answer
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
            Right::Ingest => ("/audit", "post"),
            Right::Metrics => ("/metrics", "get"),
            Right::Read => ("/editwar", "get"),
            Right::Admin => ("/editwar", "post"),
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
        Ok(if status.is_some_and(|s| s.allowed) { Ok(()) } else { Err(Refusal::TokenForbidden) })
    }
}

// === impl ReviewCache ===

impl ReviewCache {
    /// Returns the cached result, if it is recent enough.
    fn answer(&self, question: &Question, now: Instant) -> Option<Answer> {
        if self.yes.get(question).is_some_and(|at| is_within(*at, YES_FOR, now)) {
            return Some(Ok(()));
        }
        self.no.get(question).filter(|(_, at)| is_within(*at, NO_FOR, now)).map(|(refusal, _)| Err(*refusal))
    }

    fn reputation(&self, question: &Question, address: IpAddr, now: Instant) -> Reputation {
        if self.yes.get(question).is_some_and(|at| is_within(*at, GOOD_FOR, now)) {
            return Reputation::Good;
        }
        self.addresses.get(&address).filter(|known| is_remembered(known, now)).map_or(Reputation::New, |known| known.0)
    }

    fn learn(&mut self, question: Question, address: IpAddr, answer: Answer, now: Instant) {
        match answer {
            Ok(()) => {
                make_room(&mut self.yes, ANSWERS_MAX, |at| is_within(*at, GOOD_FOR, now));
                self.yes.insert(question, now);
                self.no.remove(&question);
            }
            Err(refusal) => {
                make_room(&mut self.no, ANSWERS_MAX, |(_, at)| is_within(*at, NO_FOR, now));
                self.no.insert(question, (refusal, now));
                self.yes.remove(&question);
            }
        }
        let was_good = self.reputation(&question, address, now) == Reputation::Good;
        // A valid token without this one right does not make the address bad.
        let reputation = match answer {
            Ok(()) => Reputation::Good,
            Err(Refusal::Unknown) if !was_good => Reputation::Bad,
            Err(_) => return,
        };
        make_room(&mut self.addresses, ADDRESSES_MAX, |known| is_remembered(known, now));
        self.addresses.insert(address, (reputation, now));
    }
}

fn is_within(at: Instant, time: Duration, now: Instant) -> bool {
    now.saturating_duration_since(at) < time
}

fn is_remembered((reputation, at): &(Reputation, Instant), now: Instant) -> bool {
    is_within(*at, if *reputation == Reputation::Good { GOOD_FOR } else { BAD_FOR }, now)
}

/// Makes room for one entry: removes expired entries, and if that is not enough, an arbitrary one.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, max: usize, is_current: impl Fn(&V) -> bool) {
    if map.len() < max {
        return;
    }
    map.retain(|_, value| is_current(value));
    if map.len() >= max
        && let Some(any) = map.keys().next().cloned()
    {
        map.remove(&any);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_tokens_only_use_up_their_own_share() {
        let (mut cache, now) = (ReviewCache::default(), Instant::now());
        let question = |n: u32| (hash(&n.to_string()), Right::Read);
        let address = |n: u8| IpAddr::from([10, 0, 0, n]);
        assert_eq!(cache.reputation(&question(0), address(1), now), Reputation::New);
        cache.learn(question(0), address(1), Ok(()), now);
        cache.learn(question(1), address(2), Err(Refusal::Unknown), now);
        cache.learn(question(2), address(3), Err(Refusal::TokenForbidden), now);
        let reputations = [1, 2, 3].map(|n| cache.reputation(&question(9), address(n), now));
        assert_eq!(reputations, [Reputation::Good, Reputation::Bad, Reputation::New]);
        // An invalid token from the address of a good one, and a good token from another address.
        cache.learn(question(3), address(1), Err(Refusal::Unknown), now);
        assert_eq!(cache.reputation(&question(9), address(1), now), Reputation::Good);
        let later = now + YES_FOR;
        assert_eq!(
            (cache.answer(&question(0), later), cache.reputation(&question(0), address(2), later)),
            (None, Reputation::Good)
        );
        for n in 10..20_000 {
            cache.learn(question(n), IpAddr::from(n.to_be_bytes()), Err(Refusal::Unknown), later);
        }
        assert!(cache.no.len() <= ANSWERS_MAX && cache.addresses.len() <= ADDRESSES_MAX);
        assert_eq!(cache.reputation(&question(0), address(200), later), Reputation::Good, "no flood displaces it");
    }
}
