//! Webhooks are made at Mailchimp by a function, and their secrets kept.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use integration_tests::{
    crm::{Crm, SOON},
    remote::{Fault, FaultKind, MemberAction, Service, When},
    sql::{quote_literal, refused},
    traces::traces,
    wait::try_until,
};

/// The sandbox's own webhook, whose secret nobody here knows.
const THERE: &str = "https://crm.example.com/webhooks/mailchimp/path-secret";

/// Something that answers every GET in this way; gives its URL.
fn backend(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mailchimp/word", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut request, mut part) = (Vec::new(), [0; 512]);
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(got) if got > 0 => request.extend_from_slice(&part[..got]),
                    _ => break,
                }
            }
            let is_get = request.starts_with(b"GET /mailchimp/word ");
            let status = if is_get { status } else { "404 Not Found" };
            // Whoever asked may have gone.
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        }
    });
    url
}

fn start() -> Crm {
    let mut crm = Crm::start();
    crm.set("encryption_key", "a passphrase of some length");
    crm.add_contact("ada@example.org", true);
    crm.converges();
    crm.remote.clear_webhooks();
    crm
}

/// How the job ended.
fn register(crm: &mut Crm, url: &str, more: &str) -> (String, Option<String>) {
    let job: i64 = crm.ask(&format!(
        "SELECT integration.mailchimp_register_webhook({}{more})",
        quote_literal(url)
    ));
    let over = format!("SELECT state IN ('done', 'failed') FROM integration.job WHERE id = {job}");
    if try_until(SOON, || crm.ask::<bool>(&over).then_some(())).is_none() {
        panic!("the job does not end\n{}", crm.report());
    }
    let sql = format!("SELECT state, error FROM integration.job WHERE id = {job}");
    let row = crm.client.query_one(&sql, &[]).unwrap();
    (row.get(0), row.get(1))
}

fn made(crm: &Crm) -> usize {
    let sent = crm.remote.requests_to(Service::Mailchimp);
    let made = |sent: &&integration_tests::remote::LoggedRequest| {
        sent.method == "POST" && sent.path.contains("/webhooks")
    };
    sent.iter().filter(made).count()
}

/// Ada leaves; what Mailchimp sends to this URL is imported with its signature alone.
fn told_at(crm: &mut Crm, url: &str) -> String {
    let leaves = MemberAction::Unsubscribe { abuse: false };
    crm.remote.member_does("ada@example.org", leaves).unwrap();
    let all = crm.remote.webhooks_of(Service::Mailchimp);
    let delivery = all.iter().find(|delivery| delivery.uri == url).unwrap();
    let headers = serde_json::to_string(&delivery.headers).unwrap();
    format!(
        "SELECT queued FROM integration.import_mailchimp_webhook({}, {})",
        quote_literal(&delivery.body),
        quote_literal(&headers)
    )
}

#[test]
fn webhook_is_made_once_and_its_secret_trusted() {
    let mut crm = start();
    let url = backend("200 OK");
    assert_eq!(register(&mut crm, &url, ""), ("done".to_owned(), None));
    let import = told_at(&mut crm, &url);
    assert_eq!(crm.rows(&import), ["1"]);
    crm.settle();
    assert_eq!(crm.rows("SELECT marketing_opt_in FROM crm.contacts"), ["f"]);
    // Whatever is not signed is refused from now on, and what is signed otherwise.
    let unsigned = "SELECT integration.import_mailchimp_webhook('type=profile&data[email]=a%40b.co', '{}', 'path-secret')";
    assert_eq!(refused(&mut crm.client, unsigned).code().code(), "28000");
    let forged = import.replace("v1=", "v1=0");
    assert_eq!(refused(&mut crm.client, &forged).code().code(), "28000");
    // Once more: it is there.
    assert_eq!(register(&mut crm, &url, "").0, "done");
    assert_eq!(made(&crm), 1);
    assert_eq!(
        crm.rows("SELECT list_id, url LIKE 'http://127.0.0.1%', position('whsec'::bytea IN sealed) FROM integration._webhook"),
        ["a6b5da1054|t|0"]
    );
    let logged = "SELECT count(*) FROM integration.request_log l WHERE l::text LIKE '%whsec%'";
    assert_eq!(crm.ask::<i64>(logged), 0);
    // With another key the secret cannot be read, which is said, and nothing is trusted.
    crm.set("encryption_key", "another passphrase of some length");
    assert_eq!(refused(&mut crm.client, &import).code().code(), "F0000");
    assert_eq!(register(&mut crm, &url, "").0, "failed");
    assert_eq!(register(&mut crm, &url, ", replace => true").0, "done");
    assert_eq!(made(&crm), 2);
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration._webhook"),
        1
    );
}

#[test]
fn one_that_is_not_ours_is_replaced_only_if_asked() {
    let mut crm = start();
    let leaves = MemberAction::AdminUnsubscribe;
    crm.add_contact("eva@example.org", true);
    crm.converges();
    crm.remote.member_does("eva@example.org", leaves).unwrap();
    let there = crm.remote.webhooks_of(Service::Mailchimp).remove(0).uri;
    let (state, why) = register(&mut crm, &there, "");
    assert_eq!(state, "failed");
    let why = why.unwrap();
    assert!(why.contains("replace => true"), "{why}");
    assert_eq!(made(&crm), 0);
    assert_eq!(register(&mut crm, &there, ", replace => true").0, "done");
    let import = told_at(&mut crm, &there);
    assert_eq!(crm.rows(&import), ["1"]);
}

#[test]
fn lost_answer_leaves_no_webhook_that_nobody_can_check() {
    let mut crm = start();
    let url = backend("200 OK");
    let lost = Fault::new(FaultKind::AnswerLost, When::NextN(1))
        .service(Service::Mailchimp)
        .method("POST")
        .path("/webhooks");
    crm.remote.add_fault(lost);
    assert_eq!(register(&mut crm, &url, ""), ("done".to_owned(), None));
    assert_eq!(made(&crm), 2);
    let import = told_at(&mut crm, &url);
    assert_eq!(crm.rows(&import), ["1"]);
}

#[test]
fn path_of_the_url_is_shown_to_nobody() {
    let mut crm = start();
    let url = backend("200 OK");
    assert_eq!(register(&mut crm, &url, "").0, "done");
    let gone = backend("403 Forbidden").replace("/word", "/gone-secret");
    assert_eq!(register(&mut crm, &gone, "").0, "failed");
    assert_eq!(
        crm.rows("SELECT DISTINCT regexp_replace(args->>'url', ':[0-9]+', '') FROM integration.job WHERE kind = 'webhook'"),
        ["http://127.0.0.1/***"]
    );
    let shown = traces(&mut crm.client, &["mailchimp/word", "gone-secret"]);
    let private = [
        "integration._webhook.url: ",
        "integration._webhook_wanted.url: ",
    ];
    let shown: Vec<&String> = shown
        .iter()
        .filter(|trace| private.iter().all(|place| !trace.starts_with(place)))
        .collect();
    assert!(shown.is_empty(), "{shown:?}");
}

#[test]
fn what_cannot_be_registered_says_why() {
    let mut crm = start();
    let (state, why) = register(&mut crm, &backend("403 Forbidden"), "");
    assert_eq!(state, "failed");
    assert!(why.unwrap().contains("HTTP Code: 403"));
    let (state, why) = register(&mut crm, &backend("200 OK"), ", '0000000000'");
    assert_eq!(state, "failed");
    assert!(why.unwrap().contains("audience 0000000000"));
    for bad in [
        "http://crm.example.com/mc",
        "https://crm.example.com/mc?secret=word",
        "nonsense",
    ] {
        let sql = format!("SELECT integration.mailchimp_register_webhook('{bad}')");
        let error = refused(&mut crm.client, &sql);
        assert_eq!(error.code().code(), "22023", "{bad}");
        assert!(error.hint().is_some());
    }
    let sql = format!("SELECT integration.mailchimp_register_webhook('{THERE}', '../lists')");
    assert_eq!(refused(&mut crm.client, &sql).code().code(), "22023");
    crm.set("encryption_key", "file:/no/such/key");
    let sql = format!("SELECT integration.mailchimp_register_webhook('{THERE}')");
    let error = refused(&mut crm.client, &sql);
    assert_eq!(error.code().code(), "F0000");
    assert!(error.hint().unwrap().contains("integration.encryption_key"));
}
