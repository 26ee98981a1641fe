//! Cleans up after a cluster even if the test process dies: a shell that waits for the end of its
//! input, which comes when we close it or are gone.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Stdio},
};

use crate::process::{as_server_user, bin};

/// `$1`: the cluster's directory, `$2`: `pg_ctl`.
const SCRIPT: &str = r#"
    cat >/dev/null
    [ -f "$1/data/postmaster.pid" ] && "$2" stop -s -w -m immediate -D "$1/data"
    rm -rf "$1"
"#;

#[derive(Debug)]
pub struct Janitor(Child);

impl Janitor {
    pub fn watch(dir: &Path) -> Janitor {
        let child = as_server_user("sh")
            .args(["-c", SCRIPT, "janitor"])
            .arg(dir)
            .arg(bin("pg_ctl"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the tests, not for whoever cleans up after them.
            .process_group(0)
            .spawn()
            .unwrap();
        Janitor(child)
    }

    /// Stops the server and removes the directory.
    pub fn clean_up(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}
