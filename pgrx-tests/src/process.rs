//! Programs of PostgreSQL, run as a user it accepts, and a look at processes by number.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};

use crate::wait::wait_until;

/// A program of the PostgreSQL that `PG_CONFIG` names.
pub fn bin(program: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let pg_config = env::var("PG_CONFIG")
            .unwrap_or_else(|_| "/usr/lib/postgresql/15/bin/pg_config".to_owned());
        let output = Command::new(&pg_config).arg("--bindir").output();
        let output =
            output.unwrap_or_else(|why| panic!("cannot run {pg_config} (set PG_CONFIG): {why}"));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
    .join(program)
}

/// The server refuses root: then it is run as `postgres`.
fn server_user() -> Option<User> {
    geteuid().is_root().then(|| {
        User::from_name("postgres")
            .unwrap()
            .expect("there is no user postgres")
    })
}

/// A command run as the server's user, in a directory it can enter, without our PG variables.
pub fn as_server_user(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command
        .current_dir("/")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("RUST_BACKTRACE");
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    if let Some(user) = server_user() {
        command
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .env("HOME", user.dir);
    }
    command
}

/// Gives a path to the server's user.
pub fn give_to_server_user(path: &Path) {
    if let Some(user) = server_user() {
        std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

/// Runs a command to its end; panics with what it said if it failed.
pub fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|why| panic!("{command:?}: {why}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A process is gone when it has ended, even if nobody has asked for its exit code yet.
pub fn is_running(pid: i32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// The processes that `parent` started and that are still running.
pub fn children(parent: i32) -> Vec<i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| state_and_parent(pid).is_some_and(|(_, its_parent)| its_parent == parent))
        .collect()
}

fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything: begin after the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// SIGKILL, and waits until the process is gone.
pub fn kill9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait_until("a killed process is gone", Duration::from_secs(10), || {
        (!is_running(pid)).then_some(())
    });
}

pub fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// Peak resident memory in kB, if the process still runs.
pub fn peak_memory_kb(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
