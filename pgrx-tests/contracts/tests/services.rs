//! No service is named outside the places that are theirs: their crates, `src/services/`, `src/config`
//! and SQL. What still names one is counted, and the count only gets smaller.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// How many files of each may name a service. Lower it when you have made it fewer.
const EXCEPTIONS: [(&str, usize); 2] = [("crates/engine/src", 7), ("src", 68)];

const SERVICES: [&str; 2] = ["hubspot", "mailchimp"];

/// Folders and files that are the services' own.
const OURS: [&str; 4] = ["services", "config", "hubspot", "mailchimp"];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The code as it is compiled without tests, in small letters: no comments, and nothing of what
/// strings hold.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap();
    let (mut rest, mut kept) = (text, String::new());
    while let Some(place) = rest.find(['/', '"', '\'']) {
        kept.push_str(&rest[..place]);
        rest = &rest[place..];
        let end = if rest.starts_with("//") {
            rest.find('\n')
        } else if rest.starts_with('"') {
            let hashes = kept.len() - kept.trim_end_matches('#').len();
            let raw = kept.trim_end_matches('#').ends_with('r');
            end_of_string(rest, raw, hashes)
        } else if rest.starts_with("'\"'") {
            Some(3)
        } else {
            kept.push_str(&rest[..1]);
            Some(1)
        };
        rest = &rest[end.unwrap_or(rest.len())..];
    }
    kept.push_str(rest);
    kept.to_lowercase()
}

/// Where the string that `text` begins with is over.
fn end_of_string(text: &str, raw: bool, hashes: usize) -> Option<usize> {
    if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return text[1..].find(&end).map(|place| 1 + place + end.len());
    }
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(place, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(place + 1)
    })
}

#[test]
fn services_are_named_in_their_own_places_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (folder, allowed) in EXCEPTIONS {
        let folder = root.join(folder);
        let mut all = Vec::new();
        files(&folder, &mut all);
        let naming: Vec<PathBuf> = all
            .into_iter()
            .map(|file| file.strip_prefix(&folder).unwrap().to_owned())
            .filter(|file| {
                let mut rooms = file.iter().map(|part| part.to_str().unwrap());
                !rooms.any(|part| {
                    OURS.contains(&part.trim_end_matches(".rs")) || part.starts_with("tests")
                })
            })
            .filter(|file| {
                let code = code(&fs::read_to_string(folder.join(file)).unwrap());
                SERVICES.iter().any(|service| code.contains(service))
            })
            .collect();
        assert!(
            naming.len() <= allowed,
            "{} files name a service, {allowed} may: give what is one service's to its crate, or to src/services\n{naming:#?}",
            naming.len()
        );
    }
}

#[test]
fn names_in_comments_and_strings_do_not_count() {
    assert_eq!(code("a // HubSpot\n\"mailchimp\" b"), "a \n b");
    assert_eq!(code("\"a \\\" hubspot\nmailchimp\" b"), " b");
    assert_eq!(code("r#\"a \" hubspot\"# '\"' b"), "r#  b");
    assert_eq!(
        code("Target::HubSpot\n#[cfg(test)]\nmailchimp"),
        "target::hubspot\n"
    );
}
