use editwar::audit::envelope;
use editwar::detect::verdict::*;
use editwar::pipeline::*;
use std::io::Read;

#[test]
fn probe() {
    let mut dirs: Vec<_> = std::fs::read_dir("fixtures/recordings").unwrap().map(|d| d.unwrap().path()).collect();
    dirs.sort();
    for dir in dirs {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(dir.join("audit.log.gz")).unwrap())
            .read_to_end(&mut text)
            .unwrap();
        let pipeline = Pipeline::new(Default::default(), Default::default());
        let mut batch = pipeline.batch("");
        for (n, line) in text.split(|b| *b == b'\n').enumerate() {
            envelope::line(line, |d| batch.take(d, n as u64 + 1));
        }
        drop(batch);
        println!("## {} {:?}", dir.display(), pipeline.stats());
        for key in pipeline.table().notable() {
            let limits = pipeline.policy().limits(&key.object()).unwrap();
            pipeline.table().with(&key, |o| {
                if let Some(c) = o.contest() {
                    let (tally, confidence) = c.findings().verdict();
                    if tally.retakes > 0 {
                        let (a, b, p) = tally.machine.firsts();
                        let rel = |x: Option<i64>| x.map(|x| (x - a.unwrap()) as f64 / 1e6);
                        println!(
                            "{key:?} {confidence:?} {:?} retakes {} rev {} thrash {} first {:?} paused {:?}",
                            tally.machine.state(),
                            tally.retakes,
                            tally.reversals,
                            tally.thrashes,
                            rel(b),
                            rel(p)
                        );
                        println!("     {:?}", tally.parties);
                        for (p, f) in c.findings().contested_fields() {
                            println!(
                                "     {p} {} {} {:?}",
                                f.retakes,
                                f.reversals,
                                f.values
                                    .iter()
                                    .map(|v| (
                                        v.value.as_ref().and_then(|v| v.text().map(|s| s.to_string())),
                                        v.client.actor.to_string(),
                                        v.count
                                    ))
                                    .collect::<Vec<_>>()
                            );
                        }
                        println!("     existence {}", c.findings().existence_retakes());
                    }
                }
                if let Some(t) = o.troubles() {
                    for (a, t) in t.actors() {
                        println!(
                            "   trouble {key:?} {a} stale {} apply {} rej {} acc {} turns {} {:?}",
                            t.stale,
                            t.apply_conflicts,
                            t.rejected,
                            t.accepted,
                            t.turns(),
                            t.refusals
                        );
                    }
                }
                for s in o.seen() {
                    if s.pace.is_hot(limits) {
                        println!("   HOT {key:?} {} {} {:?}", s.client.actor, s.writes, s.pace);
                    }
                }
            });
        }
    }
}
