//! Any bytes as a WAMP message in Cbor.
#![no_main]

use corsac::model::Encoding;
use corsac_fuzz::wamp::{check_decoder, messages};

corsac_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    check_decoder(data, Encoding::Cbor);
}

fn seeds() -> Vec<Vec<u8>> {
    messages(Encoding::Cbor).to_vec()
}
