//! Says which build this is, for `integration.version()`, and keeps in the library what its SQL is
//! generated from.

use std::{env, process::Command};

/// What the library is made of.
const SOURCES: [&str; 7] = [
    "Cargo.lock",
    "Cargo.toml",
    "build.rs",
    "crates",
    "integration.control",
    "sql",
    "src",
];

fn main() {
    // cargo-pgrx reads a section of the library that the linker would drop, for nothing refers to
    // it. Left to cargo-pgrx, the option is one for all of the compiler's work, and everything is
    // compiled once more than for the tests.
    println!("cargo::rustc-link-arg-cdylib=-Wl,--no-gc-sections");

    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    // Both are written whenever another commit is checked out or made.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let profile = env::var("PROFILE").unwrap_or_else(|_| "unknown profile".to_owned());
    let build = [Some(profile), commit()];
    let build: Vec<String> = build.into_iter().flatten().collect();
    println!("cargo::rustc-env=INTEGRATION_BUILD={}", build.join(", "));
}

/// The commit that is compiled, if this is a checkout; whether what is compiled differs from it.
fn commit() -> Option<String> {
    // Sources that were unpacked inside somebody else's repository are not of its commit.
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let status = [&["status", "--porcelain", "--"], &SOURCES[..]].concat();
    let modified = git(&status)?;
    Some(if modified.is_empty() {
        commit
    } else {
        format!("{commit}, modified")
    })
}

/// What git answers. There need not be one, nor a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
