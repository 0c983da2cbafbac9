//! A scenario: actors with their intents and rhythms, played in simulated time, and the expected findings.

use serde_json::{Value, json};

use super::actors::Actor;
use super::kinds::Kind;
use super::paths::Change;
use super::rng::Rng;
use super::simulator::{How, START, Server, Target};

/// A named scenario, and why it is a war or not.
pub(crate) struct Pattern {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    play: fn(&mut Scenario),
}

/// A value that a report must show for a party.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown {
    Is(Value),
    Absent,
    /// Removed because an apply no longer names it, so that it is not in any request.
    Pruned,
    Hidden,
}

/// An expected contested field.
#[derive(Clone, Debug)]
pub(crate) struct ExpectedField {
    pub(crate) target: Target,
    pub(crate) path: String,
    pub(crate) parties: Vec<ExpectedParty>,
    /// Whether the stored value never changes because a webhook overrides each request.
    pub(crate) is_override: bool,
}

/// A party, with all values that it gave to the field. Empty if they are generated each time.
#[derive(Clone, Debug)]
pub(crate) struct ExpectedParty {
    pub(crate) name: String,
    pub(crate) values: Vec<Shown>,
}

/// One execution of a routine, with its number.
type Deed = dyn FnMut(&mut Server, u32);

/// Something that an actor does repeatedly.
struct Routine {
    /// Time in seconds since the start. `None` while it waits for its condition.
    next: Option<f64>,
    left: u32,
    turn: u32,
    rhythm: Rhythm,
    deed: Box<Deed>,
}

enum Rhythm {
    Every(f64),
    /// This many seconds after a condition became true.
    After(f64, Box<dyn Fn(&Server) -> bool>),
}

pub(crate) struct Scenario {
    pub(crate) server: Server,
    pub(crate) rng: Rng,
    pub(crate) expect: Vec<ExpectedField>,
    /// The expected cause of the war, if the mechanism leaves no doubt.
    pub(crate) cause: Option<&'static str>,
    /// Why requests alone are not sufficient, if so.
    pub(crate) needs_values: Option<&'static str>,
    /// Whether there are no other writers.
    pub(crate) is_quiet: bool,
    targets: Vec<Target>,
    routines: Vec<Routine>,
}

/// Start, period in seconds, and number of repetitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    from: f64,
    period: f64,
    times: u32,
}

/// Maximum number of events in a scenario.
const EXCHANGES_MAX: usize = 900;

pub(crate) const fn pattern(name: &'static str, why: &'static str, play: fn(&mut Scenario)) -> Pattern {
    Pattern { name, why, play }
}

pub(crate) fn pace(from: f64, period: f64, times: u32) -> Pace {
    Pace { from, period, times }
}

/// A field that should have a value.
pub(crate) fn is(path: &str, value: impl Into<Value>) -> Change {
    (path.into(), Some(value.into()))
}

/// A field that should be absent.
pub(crate) fn gone(path: &str) -> Change {
    (path.into(), None)
}

/// A party that sets a single value.
pub(crate) fn gives(actor: &Actor, value: impl Into<Value>) -> ExpectedParty {
    party(actor, vec![Shown::Is(value.into())])
}

pub(crate) fn party(actor: &Actor, values: Vec<Shown>) -> ExpectedParty {
    ExpectedParty { name: actor.party.clone(), values }
}

// === impl Pattern ===

impl Pattern {
    /// Plays the scenario. The same seed results in the same events.
    pub(crate) fn play(&self, seed: u64) -> Scenario {
        let name = self.name.bytes().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let mut scenario = Scenario {
            server: Server::new(name),
            rng: Rng::new(name),
            expect: Vec::new(),
            cause: None,
            needs_values: None,
            is_quiet: false,
            targets: Vec::new(),
            routines: Vec::new(),
        };
        (self.play)(&mut scenario);
        if !scenario.is_quiet {
            scenario.other_writers();
        }
        scenario.run();
        scenario
    }
}

// === impl Scenario ===

impl Scenario {
    /// Returns a name for an object, without creating it.
    pub(crate) fn target(&mut self, kind: Kind) -> Target {
        let namespace = *self.rng.pick(&["shop", "payments", "search", "team-a", "prod"]);
        let name = *self.rng.pick(&["web", "api", "cart", "worker", "edge", "billing"]);
        let target = Target::new(kind, namespace, &format!("{name}-{}", self.targets.len()));
        self.targets.push(target.clone());
        target
    }

    /// Creates a plain object as another actor, before anything else happens.
    pub(crate) fn object(&mut self, kind: Kind, fields: &[Change]) -> Target {
        let target = self.target(kind);
        self.server.create(&Actor::admin(), &target, fields);
        target
    }

    pub(crate) fn pick(&mut self, of: &[How]) -> How {
        *self.rng.pick(of)
    }

    /// Adds something that happens repeatedly, from some time on.
    pub(crate) fn every(&mut self, pace: Pace, deed: impl FnMut(&mut Server, u32) + 'static) {
        self.routine(Some(pace.from), pace.times, Rhythm::Every(pace.period), deed);
    }

    /// Adds something that happens once.
    pub(crate) fn at(&mut self, time: f64, mut deed: impl FnMut(&mut Server) + 'static) {
        self.every(pace(time, 1.0, 1), move |server, _| deed(server));
    }

    /// Adds something that happens each time a condition has become true, after a delay, if it is still true then.
    pub(crate) fn whenever(
        &mut self,
        is_so: impl Fn(&Server) -> bool + Clone + 'static,
        delay: f64,
        mut deed: impl FnMut(&mut Server, u32) + 'static,
    ) {
        let again = is_so.clone();
        let deed = move |server: &mut Server, turn: u32| {
            if again(server) {
                deed(server, turn);
            }
        };
        self.routine(None, 400, Rhythm::After(delay, Box::new(is_so)), deed);
    }

    /// Adds an actor that periodically writes these fields, whatever is stored.
    pub(crate) fn asserts(&mut self, actor: &Actor, how: How, target: &Target, fields: Vec<Change>, pace: Pace) {
        let (actor, target) = (actor.clone(), target.clone());
        self.every(pace, move |server, _| {
            server.write(&actor, how, &target, &fields);
        });
    }

    /// Adds a reconciler that restores its fields `delay` seconds after one of them differs.
    pub(crate) fn keeps(&mut self, actor: &Actor, how: How, target: &Target, fields: Vec<Change>, delay: f64) {
        let (actor, target) = (actor.clone(), target.clone());
        let (watched, wanted) = (target.clone(), fields.clone());
        let has_drifted = move |server: &Server| {
            let differs = |(path, value): &Change| server.field(&watched, path) != value.as_ref();
            server.get(&watched).is_some() && wanted.iter().any(differs)
        };
        self.whenever(has_drifted, delay, move |server, _| {
            server.write(&actor, how, &target, &fields);
        });
    }

    fn routine(&mut self, next: Option<f64>, left: u32, rhythm: Rhythm, deed: impl FnMut(&mut Server, u32) + 'static) {
        self.routines.push(Routine { next, left, turn: 0, rhythm, deed: Box::new(deed) });
    }

    /// Declares that this field is contested by these parties.
    pub(crate) fn war(&mut self, target: &Target, path: &str, parties: impl IntoIterator<Item = ExpectedParty>) {
        let parties = parties.into_iter().collect();
        self.expect.push(ExpectedField { target: target.clone(), path: path.into(), parties, is_override: false });
    }

    /// Declares that a webhook replaces what these parties request.
    pub(crate) fn overridden(&mut self, target: &Target, path: &str, parties: impl IntoIterator<Item = ExpectedParty>) {
        self.war(target, path, parties);
        self.expect.last_mut().expect("just pushed").is_override = true;
        self.cause = Some("overriding_webhook");
    }

    /// Adds actors that write other fields of the first object, and other objects.
    fn other_writers(&mut self) {
        let Some(target) = self.targets.first().cloned() else { return };
        if self.rng.coin() {
            let watcher = Actor::in_tree("status-controller");
            let period = self.rng.between(40.0, 140.0);
            let on = target.clone();
            self.every(pace(7.0, period, 6), move |server, turn| {
                server.write(&watcher, How::StatusPut, &on, &[is("status.observedGeneration", turn)]);
            });
        }
        if self.rng.coin() {
            let person = Actor::person(&self.rng, 6).manager("kubectl-annotate");
            let how = self.pick(&[How::Merge, How::Put, How::Json]);
            let on = target.clone();
            self.every(pace(31.0, 97.0, 3), move |server, turn| {
                server.write(
                    &person,
                    how,
                    &on,
                    &[is("metadata.annotations['notes.example.com/seen']", format!("n{turn}"))],
                );
            });
        }
        if self.rng.coin() {
            let other = Target::new(super::kinds::CONFIG_MAP, "elsewhere", "counters");
            let writers = [Actor::operator(&mut self.rng, 5), Actor::operator(&mut self.rng, 6)];
            self.server.create(&writers[0], &other, &[]);
            self.every(pace(3.0, 21.0, 14), move |server, turn| {
                let nth = (turn % 2) as usize;
                server.write(&writers[nth], How::Merge, &other, &[is(&format!("data.of-{nth}"), format!("{turn}"))]);
            });
        }
        if self.rng.coin() {
            let dry = Actor::new("drift-detector", "drift/v1.0").manager("drift");
            self.every(pace(11.0, 60.0, 5), move |server, turn| {
                let fields = [is("metadata.labels['dry.example.com/run']", format!("r{}", turn % 2))];
                server.dry_run(|server| {
                    server.write(&dry, How::Apply, &target, &fields);
                });
            });
        }
    }

    fn run(&mut self) {
        self.wake(0.0);
        loop {
            let due = self.routines.iter().enumerate().filter_map(|(nth, routine)| Some((routine.next?, nth)));
            let Some((time, nth)) = due.min_by(|a, b| a.0.total_cmp(&b.0)) else { return };
            self.server.now = self.server.now.max(START + (time * 1e6) as i64);
            let routine = &mut self.routines[nth];
            routine.left -= 1;
            routine.next = match routine.rhythm {
                Rhythm::Every(period) if routine.left > 0 => Some(time + period * self.rng.between(0.92, 1.08)),
                _ => None,
            };
            (routine.deed)(&mut self.server, routine.turn);
            routine.turn += 1;
            if self.server.exchanges.len() > EXCHANGES_MAX {
                return;
            }
            let now = (self.server.now - START) as f64 / 1e6;
            self.wake(now);
        }
    }

    /// Schedules routines whose condition has become true.
    fn wake(&mut self, now: f64) {
        for routine in &mut self.routines {
            if let (Rhythm::After(delay, is_so), None, 1..) = (&routine.rhythm, routine.next, routine.left)
                && is_so(&self.server)
            {
                routine.next = Some(now + delay * self.rng.between(0.9, 1.1));
            }
        }
    }
}

/// Returns the value of a Secret.
pub(crate) fn encoded(text: &str) -> Value {
    use base64::Engine;
    json!(base64::engine::general_purpose::STANDARD.encode(text))
}
