use super::*;
use crate::record::{
    consent::{
        Consent,
        words::{Words, read, to_column},
    },
    mapping::ValueKind,
};

#[test]
fn columns_are_read() {
    let cases = [
        (ValueKind::Bool, Some("t"), Consent::OptedIn),
        (ValueKind::Bool, Some("f"), Consent::OptedOut),
        (ValueKind::Bool, None, Consent::Unknown),
        (ValueKind::Text, Some(" Subscribed "), Consent::OptedIn),
        (ValueKind::Text, Some("OPT_IN"), Consent::OptedIn),
        (ValueKind::Text, Some("granted"), Consent::OptedIn),
        (ValueKind::Text, Some("unsubscribed"), Consent::OptedOut),
        (ValueKind::Text, Some("Withdrawn"), Consent::OptedOut),
        (ValueKind::Text, Some("cleaned"), Consent::OptedOut),
        (ValueKind::Text, Some("pending"), Consent::Unknown),
        (ValueKind::Text, Some(""), Consent::Unknown),
        (ValueKind::Text, Some("maybe"), Consent::Unknown),
        (ValueKind::Integer, Some("1"), Consent::OptedIn),
        (ValueKind::Integer, Some("2"), Consent::Unknown),
        (
            ValueKind::TimestampTz,
            Some("2024-01-01 00:00:00+00"),
            Consent::Unknown,
        ),
    ];
    for (kind, text, expected) in cases {
        assert_eq!(
            read(kind, &Words::default(), text),
            expected,
            "{kind:?} {text:?}"
        );
    }
}

#[test]
fn statuses_are_written_back() {
    use MemberStatus::*;
    for status in [
        Pending,
        UnsubscribedByCrm,
        UnsubscribedByMember,
        Cleaned,
        Forgotten,
        Archived,
    ] {
        assert_eq!(to_column(ValueKind::Bool, status), "false");
        let text = to_column(ValueKind::Text, status);
        assert_ne!(
            read(ValueKind::Text, &Words::default(), Some(text)),
            Consent::OptedIn,
            "{text}"
        );
    }
    assert_eq!(to_column(ValueKind::Bool, Subscribed), "true");
    assert_eq!(
        to_column(ValueKind::Text, UnsubscribedByMember),
        "unsubscribed"
    );
}

#[test]
fn who_decided() {
    use MemberStatus::*;
    let cases = [
        (None, Subscribed, Party::Crm),
        (None, Pending, Party::Crm),
        (Some(UnsubscribedByCrm), Subscribed, Party::Crm),
        (Some(Subscribed), UnsubscribedByCrm, Party::Crm),
        // Who was asked and then opted out by the CRM.
        (Some(Pending), UnsubscribedByMember, Party::Crm),
        (Some(Pending), Subscribed, Party::Mailchimp),
        (Some(Subscribed), Cleaned, Party::Mailchimp),
        (Some(Subscribed), Archived, Party::Mailchimp),
        (Some(Subscribed), Forgotten, Party::Mailchimp),
    ];
    for (before, after, party) in cases {
        assert_eq!(decided_by(before, after), party, "{before:?} {after:?}");
    }
}
