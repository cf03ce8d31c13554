//! The command line: parses it, runs what it names, and turns the outcome into an exit code.
mod command_line;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match command_line::CommandLine::of_process().and_then(command_line::CommandLine::run) {
        Ok(code) => code,
        Err(failure) => {
            command_line::say(&format!("corsac: {}", failure.message));
            ExitCode::from(failure.code)
        }
    }
}
