//! What became of a transactional message: a line of the person's activity, and at times a matter
//! of their consent.

use serde_json::{Map, Value};

use super::webhook::MandrillSubject;
use integration_engine::{record::consent::MemberStatus, webhook::text};

/// A line of `integration.activity`.
#[derive(Clone, Debug, PartialEq)]
pub struct Activity {
    /// Mandrill's word; the two kinds of bounces are one, told apart in the detail.
    pub kind: &'static str,
    pub url: Option<String>,
    /// What is worth keeping of the event, none of it the message's text.
    pub detail: Value,
}

/// Mandrill: message events, by name.
const KINDS: [(&str, &str); 10] = [
    ("send", "send"),
    ("deferral", "deferral"),
    ("delivered", "delivered"),
    ("hard_bounce", "bounce"),
    ("soft_bounce", "bounce"),
    ("open", "open"),
    ("click", "click"),
    ("spam", "spam"),
    ("unsub", "unsub"),
    ("reject", "reject"),
];

impl MandrillSubject {
    /// What the event says about consent. A rejection was caused by something that has been
    /// reported before, a soft bounce may pass.
    pub fn member_status(&self) -> Option<MemberStatus> {
        match self.event.as_str() {
            "hard_bounce" => Some(MemberStatus::Cleaned),
            "spam" | "unsub" => Some(MemberStatus::UnsubscribedByMember),
            _ => None,
        }
    }

    /// `None`: not an event of a message, such as a change of the allow- or denylist.
    pub fn activity(&self, payload: &Value) -> Option<Activity> {
        let (_, kind) = KINDS.iter().find(|(name, _)| *name == self.event)?;
        Some(Activity {
            kind,
            url: self.url.clone(),
            detail: detail(self, payload),
        })
    }
}

fn detail(subject: &MandrillSubject, payload: &Value) -> Value {
    let mut detail = Map::new();
    let mut keep = |name: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| !is_empty(value)) {
            detail.insert(name.to_owned(), value);
        }
    };
    keep("message_id", subject.message_id.clone().map(Value::from));
    let bounce = match subject.event.as_str() {
        "hard_bounce" => Some("hard"),
        "soft_bounce" => Some("soft"),
        _ => None,
    };
    keep("bounce", bounce.map(Value::from));
    for name in ["subject", "template", "bounce_description", "diag"] {
        keep(
            name,
            text(payload.get("msg").and_then(|message| message.get(name))).map(Value::from),
        );
    }
    keep(
        "tags",
        payload
            .get("msg")
            .and_then(|message| message.get("tags"))
            .cloned(),
    );
    for name in ["ip", "user_agent"] {
        keep(name, text(payload.get(name)).map(Value::from));
    }
    Value::Object(detail)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::webhook::replay_mandrill;

    #[test]
    fn every_event_has_its_kind_and_its_effect_on_consent() {
        use MemberStatus::{Cleaned, UnsubscribedByMember};
        let cases = [
            ("send", Some("send"), None),
            ("deferral", Some("deferral"), None),
            ("delivered", Some("delivered"), None),
            ("hard_bounce", Some("bounce"), Some(Cleaned)),
            ("soft_bounce", Some("bounce"), None),
            ("open", Some("open"), None),
            ("click", Some("click"), None),
            ("spam", Some("spam"), Some(UnsubscribedByMember)),
            ("unsub", Some("unsub"), Some(UnsubscribedByMember)),
            ("reject", Some("reject"), None),
            ("denylist", None, None),
            ("something new", None, None),
        ];
        for (event, kind, status) in cases {
            let payload = json!({"event": event, "_id": "m1", "msg": {"email": "ada@example.com"}});
            let subject = replay_mandrill(&payload);
            assert_eq!(subject.member_status(), status, "{event}");
            let activity = subject.activity(&payload);
            assert_eq!(activity.map(|activity| activity.kind), kind, "{event}");
        }
    }

    #[test]
    fn detail_says_what_happened_and_nothing_empty() {
        let payload = json!({
            "event": "hard_bounce", "_id": "m1", "ts": 1795428900, "ip": "", "user_agent": null,
            "msg": {"_id": "m1", "email": "ada@example.com", "subject": "News", "tags": ["welcome"],
                "metadata": {"secret": 1}, "diag": "550 no such user", "template": null, "clicks": []},
        });
        let activity = replay_mandrill(&payload).activity(&payload).unwrap();
        let expected = json!({
            "message_id": "m1", "bounce": "hard", "subject": "News", "tags": ["welcome"], "diag": "550 no such user",
        });
        assert_eq!((activity.detail, activity.url), (expected, None));
        let bare = json!({"event": "click", "url": "https://example.com/a"});
        let activity = replay_mandrill(&bare).activity(&bare).unwrap();
        assert_eq!(activity.url.as_deref(), Some("https://example.com/a"));
        assert_eq!(activity.detail, json!({}));
    }
}
