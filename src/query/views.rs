//! The types of the stable JSON that `analyze -o json`, the API and the plugin use, built from the states of objects.
//!
//! Each module below holds one of them with its parts: the report, a war, the findings that are not wars, the participants
//! of an object, and what an answer is based on. A new field needs a doc comment, which becomes its description in
//! `/openapi.json`.

mod actor_writes;
mod coverage;
mod filter;
mod findings;
mod object;
mod overview;
mod participants;
pub(super) mod rate;
mod report;
mod sources;
pub(crate) mod time;
pub(crate) mod time_option;
mod value;
mod war;

pub use actor_writes::{ActorWrites, ObjectWrite, WrittenObject};
pub use coverage::{Coverage, GONE_AFTER, Gap, Levels, Problem, ProblemKind, SourceView, StatsView, WrongClock};
pub use filter::{Filter, PartyClass, WarFilter, WarStatus, variant};
pub use findings::{Contender, Contention, Cooperation, Flapping, HotLoop};
pub use object::Object;
pub(super) use object::path_part;
pub use overview::{ActorSummary, FieldSummary, Finding, Overview, OverviewHead, OverviewRow, WarSummary};
pub use participants::{ChangeView, Participants, TimelineEntry, TransitionView, Transitions};
pub use report::{Matched, Report};
pub use sources::{KindCoverage, SourceReadiness, Sources};
pub(super) use value::{is_cut, is_redacted, json_of};
pub use war::{Dependent, Field, OtherWriter, Party, Remedy, Value, War};
