//! What the extension's build script says of a build, with and without a repository.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// An empty directory of this name.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        fs::remove_dir_all(&path).unwrap();
    }
    fs::create_dir_all(&path).unwrap();
    path
}

fn compiled(into: &Path) -> PathBuf {
    let program = into.join("build-script");
    let status = Command::new("rustc")
        .current_dir(ROOT)
        .args(["--edition=2024", "build.rs", "-o"])
        .arg(&program)
        .status()
        .unwrap();
    assert!(status.success());
    program
}

/// What it says of a release build in a directory, where programs are looked for in `path`.
fn build(program: &Path, directory: &Path, path: &str) -> String {
    let output = Command::new(program)
        .current_dir(directory)
        .env("PATH", path)
        .env("PROFILE", "release")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let build = said
        .lines()
        .find_map(|line| line.strip_prefix("cargo::rustc-env=INTEGRATION_BUILD="));
    build.unwrap_or_else(|| panic!("{said}")).to_owned()
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=test", "-c", "user.email=test@example.org"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn build_without_git_has_no_commit() {
    let dir = directory("without-git");
    let program = compiled(&dir);
    assert_eq!(build(&program, &dir, "/nonexistent"), "release");
}

#[test]
fn build_in_a_repository_names_its_commit_and_whether_it_was_modified() {
    let path = std::env::var("PATH").unwrap();
    if Command::new("git").arg("--version").output().is_err() {
        println!("skipped: there is no git");
        return;
    }
    let dir = directory("repository");
    let program = compiled(&dir);
    fs::create_dir(dir.join("src")).unwrap();
    fs::write(dir.join("src/lib.rs"), "").unwrap();
    git(&dir, &["init", "--quiet"]);
    git(&dir, &["add", "src"]);
    git(&dir, &["commit", "--quiet", "--message", "first"]);
    let commit = git(&dir, &["rev-parse", "--short=12", "HEAD"]);
    assert_eq!(build(&program, &dir, &path), format!("release, {commit}"));
    // What is not compiled does not count, and sources that lie in somebody else's repository are
    // not of its commit.
    fs::write(dir.join("notes"), "").unwrap();
    assert_eq!(build(&program, &dir, &path), format!("release, {commit}"));
    assert_eq!(build(&program, &dir.join("src"), &path), "release");
    fs::write(dir.join("src/lib.rs"), "// changed").unwrap();
    assert_eq!(
        build(&program, &dir, &path),
        format!("release, {commit}, modified")
    );
}
