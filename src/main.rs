//! The command line: parses it, runs what it names, and turns the outcome into an exit code.
mod command_line;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match command_line::CommandLine::parse().run() {
        Ok(code) => code,
        Err(message) => {
            eprintln!("corsac: {message}");
            ExitCode::FAILURE
        }
    }
}
