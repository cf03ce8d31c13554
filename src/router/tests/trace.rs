//! The answers of seeded worlds as they were when they were last looked at: a move of code changes none of them.
//!
//! A test that fails names the world and the first seed that differs. `CORSAC_TRACE=world/seed cargo test --lib
//! router::tests::trace -- --nocapture` prints everything that the router asks for in that world, to be compared with the same of
//! an older build. `CORSAC_TRACE=record` writes all hashes anew: a commit does so only if it says which answer has changed and why.
use std::fmt::Write;
use std::path::Path;

use super::world::World;
use super::{Realm, text::Trace};

/// The changes to a realm before it is played in.
pub type Prepare<'a> = &'a dyn Fn(&mut Realm);

/// A world: its name, its seeds, and what plays it in a realm whose trace is given.
struct Play {
    name: &'static str,
    seeds: u64,
    play: fn(u64, Prepare<'_>) -> u32,
}

const PLAYS: [Play; 3] = [
    Play { name: "append", seeds: 300, play: super::append::play },
    Play { name: "locks", seeds: 200, play: super::lock_histories::play },
    Play { name: "world", seeds: 200, play: play_world },
];

fn play_world(seed: u64, prepare: Prepare<'_>) -> u32 {
    let mut world = World::new(seed);
    prepare(&mut world.realm);
    for _ in 0..300 {
        world.step();
    }
    world.finish();
    world.realm.trace.hash()
}

/// The hashes of all worlds, a line each: name and hashes.
fn recorded(name: &str) -> Vec<u32> {
    let lines = include_str!("trace.txt").lines();
    let line = lines.filter_map(|line| line.split_once(": ")).find(|(world, _)| *world == name);
    line.map_or(Vec::new(), |(_, hashes)| hashes.split(' ').map(|hash| u32::from_str_radix(hash, 16).unwrap()).collect())
}

fn check(play: &Play) {
    let recorded = recorded(play.name);
    assert_eq!(recorded.len() as u64, play.seeds, "{}: hashes of other seeds are recorded", play.name);
    for (seed, expected) in (0..play.seeds).zip(recorded) {
        let hash = (play.play)(seed, &|_| {});
        assert_eq!(
            hash, expected,
            "the router answers otherwise than before. To see how, run this with the older build and with this one:\n\
             CORSAC_TRACE={}/{seed} cargo test --lib router::tests::trace::shown -- --nocapture",
            play.name
        );
    }
}

#[test]
fn commands_around_appends_are_answered_as_before() {
    check(&PLAYS[0]);
}

#[test]
fn locks_are_answered_as_before() {
    check(&PLAYS[1]);
}

#[test]
fn everything_is_answered_as_before() {
    check(&PLAYS[2]);
}

/// For somebody who looks: see the top.
#[test]
fn shown() {
    let Ok(wish) = std::env::var("CORSAC_TRACE") else { return };
    if wish == "record" {
        let mut text = String::new();
        for play in &PLAYS {
            let hashes: Vec<String> = (0..play.seeds).map(|seed| format!("{:08x}", (play.play)(seed, &|_| {}))).collect();
            writeln!(text, "{}: {}", play.name, hashes.join(" ")).unwrap();
        }
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/router/tests/trace.txt"), text).unwrap();
    } else if let Some((name, seed)) = wish.split_once('/') {
        let play = PLAYS.iter().find(|play| play.name == name).expect("no such world");
        (play.play)(seed.parse().unwrap(), &|realm| realm.trace.is_shown = true);
    }
}

#[test]
fn a_trace_depends_on_what_is_told() {
    let mut realm = Realm::new();
    let before = realm.trace.hash();
    assert_eq!(before, Trace::default().hash());
    realm.mqtt("a");
    assert_ne!(realm.trace.hash(), before);
}
