//! Running the services' own Node clients, at the versions of the lock file.

use std::path::Path;
use std::process::Command;
use std::sync::Once;

/// Installs the clients, once.
fn folder() -> &'static Path {
    static INSTALLED: Once = Once::new();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/clients"));
    INSTALLED.call_once(|| {
        if !folder.join("node_modules/.package-lock.json").exists() {
            let installed = Command::new("npm").arg("ci").current_dir(folder).status();
            assert!(
                installed.is_ok_and(|status| status.success()),
                "npm ci failed; Node.js and npm have to be installed"
            );
        }
    });
    folder
}

/// Runs a script of `clients/`; gives what it prints. Panics if it fails: this is for tests.
#[track_caller]
pub fn run(script: &str, arguments: &[&str]) -> String {
    let output = Command::new("node")
        .arg(script)
        .args(arguments)
        .current_dir(folder())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => panic!("{script}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("node cannot be run: {error}"),
    }
}
