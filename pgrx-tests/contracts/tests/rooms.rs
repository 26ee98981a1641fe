//! Folders of the extension import each other in the direction that ARCHITECTURE.md says.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Imports that go the wrong way, and are still to be turned round: who, and whom. A list that only
/// gets shorter.
const EXCEPTIONS: &[(&str, &str)] = &[("inbound", "worker"), ("worker", "inbound")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The storey of each room, from the bottom up.
fn storeys() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, rest) = text.split_once("### Who may know whom").unwrap();
    let list = rest.split("```").nth(1).unwrap();
    let lines = list.lines().skip(1).enumerate();
    lines
        .flat_map(|(storey, line)| {
            line.split_whitespace()
                .map(move |room| (room.into(), storey))
        })
        .collect()
}

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

/// The code without comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What follows `crate::`, be it one name or a list of paths in braces: the first name of each.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let Some(list) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let (mut depth, mut names, mut at) = (0, Vec::new(), 0);
    for (place, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(name(list[at..place].trim()));
                at = place + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Who imports whom, with a file that does.
fn imports(rooms: &BTreeMap<String, usize>) -> BTreeMap<(String, String), PathBuf> {
    let src = root().join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut found = BTreeMap::new();
    for file in all {
        let inside = file.strip_prefix(&src).unwrap().with_extension("");
        let from = inside.iter().next().unwrap().to_str().unwrap().to_owned();
        assert!(
            rooms.contains_key(&from),
            "ARCHITECTURE.md does not name {from}"
        );
        for path in code(&file).split("crate::").skip(1) {
            for to in first_names(path) {
                if to != from && rooms.contains_key(&to) {
                    found
                        .entry((from.clone(), to))
                        .or_insert_with(|| file.clone());
                }
            }
        }
    }
    found
}

#[test]
fn folders_import_only_what_is_below_them() {
    let rooms = storeys();
    assert!(rooms.len() > 8, "{rooms:?}");
    let imports = imports(&rooms);
    assert!(imports.len() > 20, "{imports:?}");
    let upwards: BTreeSet<(&str, &str)> = imports
        .keys()
        .filter(|(from, to)| rooms[from] <= rooms[to])
        .map(|(from, to)| (from.as_str(), to.as_str()))
        .collect();
    let known: BTreeSet<(&str, &str)> = EXCEPTIONS.iter().copied().collect();
    let wrong: Vec<String> = (&upwards - &known)
        .into_iter()
        .map(|(from, to)| {
            let file = imports[&(from.to_owned(), to.to_owned())].display();
            format!("{from} must not import {to}, but {file} does")
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let turned: Vec<_> = known.difference(&upwards).collect();
    assert!(turned.is_empty(), "no longer exceptions: {turned:?}");
}

#[test]
fn names_are_found_in_lists_too() {
    assert_eq!(first_names("pg::fence;"), ["pg"]);
    assert_eq!(
        first_names("{config, pg::{a, b}, store};"),
        ["config", "pg", "store"]
    );
}
