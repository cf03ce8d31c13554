//! Any bytes into the MQTT gate, whole, byte by byte and in any pieces: the same commands, bytes and end.
#![no_main]

use corsac::gate::Gate;
use corsac::model::Reason;
use corsac_fuzz::choice::NOW_MS;
use corsac_fuzz::gates::{check_splits, origin, settings};
use corsac_fuzz::mqtt::{VERSIONS, client_packets, connect};

corsac_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let [choice, first, second, third, stream @ ..] = data else { return };
    let settings = settings(*choice);
    let refusal = (choice & 0xC0 == 0xC0).then_some(Reason::ServerBusy);
    check_splits(|| Gate::mqtt(settings.clone(), origin(), NOW_MS), refusal, stream, &[*first, *second, *third]);
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for version in VERSIONS {
        let packets = client_packets(version);
        for (at, connect) in [connect(version, false), connect(version, true)].into_iter().enumerate() {
            let at = at as u8;
            seeds.push([[at, 3, 20, 1].as_slice(), &connect, &packets.concat()].concat());
            seeds.extend(packets.iter().map(|packet| [[at, 5, 2, 9].as_slice(), &connect, packet].concat()));
        }
    }
    seeds
}
