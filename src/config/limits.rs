//! The sections `limits` and `overrides`: what counts as a war. The defaults are in `detect::policy`.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;
use crate::detect::bucket::Limit;
use crate::detect::policy::Limits;

/// What counts as a war. Absent keys keep their values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Token buckets. Each retake takes a token from every bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Vec<BucketConfig>>,
    /// Number of thrashing events within the window of a bucket after which a war is sustained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_after: Option<NonZeroU32>,
    /// Quiet period: time without a retake after which a sustained war becomes subsiding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_period: Option<Duration>,
    /// Maximum quiet period. Each relapse doubles it up to this limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_quiet_period: Option<Duration>,
    /// Maximum age of an earlier write that makes a later one a retake. Default: the longest window of the buckets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retake_window: Option<Duration>,
    /// Maximum number of writes per minute of one actor to one object. Above, the actor is in a hot loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_loop_writes_per_minute: Option<NonZeroU32>,
    /// Number of consecutive no-ops of one actor that count as a hot loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_loop_no_ops: Option<NonZeroU32>,
    /// Maximum number of conflicts on one object. Above, it counts as contention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contention: Option<ContentionConfig>,
    /// Number of changes between accepted and rejected that count as flapping admission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flapping_changes: Option<NonZeroU32>,
}

/// One token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// Maximum number of tokens, and so of retakes within the window.
    pub burst: NonZeroU32,
    /// Time after which a token returns.
    pub window: Duration,
}

/// When conflicts between writers count as contention.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentionConfig {
    /// Maximum number of conflicts within the window.
    pub conflicts: NonZeroU32,
    /// Length of the window.
    pub window: Duration,
}

/// Limits for some objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverrideConfig {
    /// `resource.group`, such as `deployments.apps`. `*` matches any resource or group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Namespace of the objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Ignore these objects.
    pub ignore: bool,
    /// Limits that differ for these objects.
    pub limits: LimitsConfig,
}

// === impl LimitsConfig ===

impl LimitsConfig {
    /// Returns these limits, with the values of `base` where a key is absent.
    pub(super) fn over(&self, base: &Limits) -> Limits {
        let seconds =
            |d: Duration| NonZeroU32::new(d.0.as_secs().min(u64::from(u32::MAX)) as u32).unwrap_or(NonZeroU32::MIN);
        let limit = |burst, window| Limit { burst, window_s: seconds(window) };
        Limits {
            buckets: match &self.buckets {
                Some(buckets) => {
                    let mut buckets: Vec<Limit> = buckets.iter().map(|b| limit(b.burst, b.window)).collect();
                    buckets.sort_by_key(|b| b.window_s);
                    buckets.into_iter().collect()
                }
                None => base.buckets.clone(),
            },
            pause_after: self.pause_after.unwrap_or(base.pause_after),
            quiet_period: self.quiet_period.map_or(base.quiet_period, Duration::micros),
            quiet_period_max: self.max_quiet_period.map_or(base.quiet_period_max, Duration::micros),
            contest_window: self.retake_window.map(Duration::micros).or(base.contest_window),
            hot_loop_per_minute: self.hot_loop_writes_per_minute.unwrap_or(base.hot_loop_per_minute),
            hot_loop_no_ops: self.hot_loop_no_ops.unwrap_or(base.hot_loop_no_ops),
            contention: self.contention.map_or(base.contention, |c| limit(c.conflicts, c.window)),
            flapping_turns: self.flapping_changes.unwrap_or(base.flapping_turns),
            redacts: base.redacts,
            own: base.own.clone(),
            cooperations: base.cooperations.clone(),
            counted_undecided: base.counted_undecided.clone(),
        }
    }
}
