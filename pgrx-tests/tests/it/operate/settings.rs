//! The settings are what the documents say, and what they may not hold is refused with what they may.

use std::collections::{BTreeMap, BTreeSet};
use std::{fs, path::Path};

use integration_tests::{cluster::Cluster, sql::refused_with_hint};

/// What the README says of a setting: the default and what it is for.
fn documented() -> BTreeMap<String, (String, String)> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, table) = readme
        .split_once("| setting | default | meaning |\n")
        .unwrap();
    let rows = table.lines().skip(1).map_while(|line| {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let cells: Vec<_> = line
            .splitn(3, '|')
            .map(|cell| cell.replace('`', "").trim().to_owned())
            .collect();
        let [name, default, text] = cells.try_into().unwrap();
        Some((name, (default, text)))
    });
    rows.collect()
}

/// The same as the server knows it, the default in the largest unit that it is a whole number of.
fn registered() -> BTreeMap<String, (String, String)> {
    let mut client = Cluster::shared().connect("postgres");
    let sql = "SELECT substr(name, 13), boot_val, short_desc FROM pg_settings WHERE name LIKE 'integration.%'";
    let rows = client.query(sql, &[]).unwrap();
    let settings = rows.iter().map(|row| {
        let (name, default, text): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let sql = "SELECT set_config($1, $2, false)";
        let shown = client.query_one(sql, &[&format!("integration.{name}"), &default]);
        (name, (shown.unwrap().get(0), text))
    });
    settings.collect()
}

#[test]
fn readme_says_of_each_setting_what_the_server_says() {
    let (documented, registered) = (documented(), registered());
    assert_eq!(
        documented.keys().collect::<Vec<_>>(),
        registered.keys().collect::<Vec<_>>()
    );
    for (name, (default, text)) in &registered {
        let (said_default, said) = &documented[name];
        assert_eq!(said_default, default, "default of {name}");
        let rest = said.strip_prefix(text.as_str());
        // The README may name a document besides.
        let rest = rest.unwrap_or_else(|| panic!("{name} is «{text}», documented as «{said}»"));
        assert!(
            rest.is_empty() || rest.starts_with(" See ["),
            "{name}: {rest}"
        );
    }
}

#[test]
fn documents_set_no_setting_that_does_not_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let files = docs.map(|file| file.unwrap().path());
    let mut named = BTreeSet::new();
    for file in files.chain([root.join("README.md"), root.join("CHANGELOG.md")]) {
        let text = fs::read_to_string(&file).unwrap();
        let names = text.split("SET integration.").skip(1);
        named.extend(names.map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            rest[..end.unwrap_or(rest.len())].to_owned()
        }));
    }
    assert!(named.len() > 2, "{named:?}");
    let registered = registered();
    named.retain(|name| !registered.contains_key(name));
    assert!(named.is_empty(), "{named:?}");
}

#[test]
fn refused_value_is_told_what_is_allowed() {
    let cluster = Cluster::start(&[("integration.allow_literal_secrets", "off")], &[]);
    let mut client = cluster.connect("postgres");
    for (name, value, hint) in [
        ("hubspot_on_delete", "shred", "archive, gdpr, ignore"),
        ("hubspot_on_remote_delete", "archive", "ignore, delete"),
        ("mailchimp_resubscribe", "always", "never, pending"),
        ("mailchimp_on_delete", "shrug", "archive, permanent, ignore"),
        ("hubspot_rate_limit", "plenty", "100/10s"),
        ("hubspot_association_rate_limit", "0/10s", "100/10s"),
        ("guard_deletes", "a few", "500/10min"),
        ("hubspot_base_url", "http://api.example.org", "https://"),
        ("mailchimp_base_url", "not a url", "https://"),
        (
            "hubspot_access_token",
            "pat-1",
            "set_secret('hubspot_access_token'",
        ),
        ("retry_base", "1 fortnight", "\"ms\", \"s\""),
    ] {
        let sql = format!("SET integration.{name} = '{value}'");
        let error = refused_with_hint(&mut client, &sql, "22023");
        assert!(error.hint().unwrap().contains(hint), "{sql}: {error:?}");
    }
    // What set_secret() does not keep is not to be given to it.
    for (name, value) in [
        ("encryption_key", "a passphrase"),
        ("http_proxy", "http://me:secret@proxy:3128"),
    ] {
        let sql = format!("SET integration.{name} = '{value}'");
        let error = refused_with_hint(&mut client, &sql, "22023");
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("env:NAME") && !hint.contains("set_secret"),
            "{hint}"
        );
    }
}
