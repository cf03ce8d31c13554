//! Any bytes into the MQTT gate, whole, byte by byte and in any pieces: the same commands, bytes and end.
#![no_main]

use corsac::gate::Gate;
use corsac::model::Reason;
use corsac_fuzz::choice::NOW_MS;
use corsac_fuzz::gates::{Opening, check_splits, origin, settings};
use corsac_fuzz::mqtt::{VERSIONS, client_packets, connect};

corsac_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let [choice, first, second, third, stream @ ..] = data else { return };
    let settings = settings(*choice);
    let opening = if choice & 0xC0 == 0xC0 { Opening::Refused(Reason::ServerBusy) } else { Opening::Granted };
    check_splits(|| Gate::mqtt(settings.clone(), origin(), NOW_MS), opening, stream, &[*first, *second, *third]);
}

fn seeds() -> Vec<Vec<u8>> {
    // A CONNECT of version 5 with one byte too many, one that is too large, both with more behind them, and a PINGRESP with a body.
    let bad = b"\x10\x0e\0\x04MQTT\x05\x02\0\x3c\0\0\0c\xc0\0".as_slice();
    let large = [b"\x10\xdc\x0b\0\x04MQTT\x05\x02\0\x3c\0\0\x01c".as_slice(), &[0; 1_485]].concat();
    let ping = [connect(VERSIONS[2], false).as_slice(), b"\xd0\x01\0"].concat();
    let mut seeds: Vec<Vec<u8>> = [bad, &large, &ping].map(|stream| [[0, 16, 1, 9].as_slice(), stream].concat()).into();
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
