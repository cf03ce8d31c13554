//! The parts that all fuzz targets share: the frame around a run, seeds, and the hands that turn bytes into commands and deliveries.
pub mod choice;
pub mod gates;
pub mod mqtt;
pub mod wamp;

use std::path::Path;

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that a run may hold whatever its input is, and for each byte of input.
const BASE_BYTES: usize = 4 << 20;
const BYTES_PER_INPUT_BYTE: usize = 2_000;

/// The entry of a target: `run` takes the bytes, `seeds` makes what the search starts from.
#[macro_export]
macro_rules! target {
    ($run:ident, $seeds:ident) => {
        libfuzzer_sys::fuzz_target!(init: $crate::write_seeds($seeds), |data: &[u8]| $crate::bounded(data, $run));
    };
}

/// One run, which must not allocate by what its input only says (LIMITS.md, Bounds).
pub fn bounded(data: &[u8], run: fn(&[u8])) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    run(data);
    let most = MEMORY.peak_usage().saturating_sub(before);
    let bound = BASE_BYTES + BYTES_PER_INPUT_BYTE * data.len();
    assert!(most <= bound, "{most} bytes of memory for {} bytes of input", data.len());
}

/// Writes the seeds to the directory that `CORSAC_FUZZ_SEEDS` names, if it does, and ends the process.
pub fn write_seeds(seeds: fn() -> Vec<Vec<u8>>) {
    let Some(directory) = std::env::var_os("CORSAC_FUZZ_SEEDS") else { return };
    for (number, seed) in seeds().into_iter().enumerate() {
        std::fs::write(Path::new(&directory).join(format!("seed-{number:03}")), seed).expect("the directory of seeds");
    }
    std::process::exit(0);
}

/// Inputs for targets whose bytes are choices: numbers that look random and are the same in every run (Marsaglia's xorshift).
pub fn noise() -> Vec<Vec<u8>> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..24).map(|at| (0..64 << (at % 6)).map(|_| (next() >> 32) as u8).collect()).collect()
}
