//! For tests: the services' machine-readable facts, where they are at hand.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The folder of a service's facts in `INTEGRATION_SPECS`, or in `shared/specs` in a folder above
/// this crate. Says why when it is not there.
pub(crate) fn folder(service: &str) -> Option<PathBuf> {
    let given = std::env::var_os("INTEGRATION_SPECS").map(PathBuf::from);
    let above = || {
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        folders
            .map(|folder| folder.join("shared/specs"))
            .find(|folder| folder.is_dir())
    };
    let found = given.or_else(above).map(|folder| folder.join(service));
    let found = found.filter(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!(
            "skipped: there is no folder shared/specs/{service} above this crate; set INTEGRATION_SPECS to the one that holds it"
        );
    }
    found
}

pub(crate) fn read(folder: &Path, name: &str) -> Value {
    let path = folder.join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// Whether a path is one that the template stands for: `/lists/{list_id}`.
pub(crate) fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    let same = |(wanted, given): (&&str, &&str)| wanted == given || wanted.starts_with('{');
    template.len() == path.len() && template.iter().zip(&path).all(same)
}
