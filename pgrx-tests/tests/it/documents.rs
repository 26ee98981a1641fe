//! What the documents promise a reader can be looked up.

use std::{fs, path::Path};

/// The threat model names a test for each line; here, that these tests exist.
#[test]
fn tests_that_the_threat_model_names_exist() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(here.join("../docs/security.md")).unwrap();
    let named: Vec<&str> = text
        .split('`')
        .filter(|quoted| quoted.contains("::") && !quoted.contains(' ') && *quoted != "::")
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        let (module, test) = name.rsplit_once("::").unwrap();
        let file = module.replace("::", "/");
        let source = fs::read_to_string(here.join(format!("tests/it/{file}.rs")));
        let source = source.unwrap_or_else(|why| panic!("{name}: {why}"));
        let wanted = match test {
            "" => "#[test]".to_owned(),
            test => format!("fn {test}() {{"),
        };
        assert!(source.contains(&wanted), "there is no test {name}");
    }
}
