mod model;

use super::*;
use crate::call::OnDelete;

fn settings(resubscribe: Resubscribe, double_opt_in: bool) -> MailchimpSettings {
    MailchimpSettings {
        list: "a1".into(),
        several: false,
        resubscribe,
        double_opt_in,
        on_delete: OnDelete::Archive,
    }
}

fn link(remote_id: Option<&str>, member_status: Option<MemberStatus>) -> Option<Link> {
    Some(Link {
        remote_id: remote_id.map(Into::into),
        remote_key: Some("ada@example.com".into()),
        member_status,
        ..Link::default()
    })
}

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
        assert_eq!(read(kind, text), expected, "{kind:?} {text:?}");
    }
}

#[test]
fn every_state_has_its_answer() {
    use {Consent::*, ConsentAction::*, MemberStatus::*};
    let never = settings(Resubscribe::Never, false);
    let cases = [
        (OptedIn, None, Subscribe(Subscribed)),
        (OptedOut, None, NoConsent),
        (Unknown, None, NoConsent),
        (OptedIn, link(None, None), Subscribe(Subscribed)),
        (
            OptedOut,
            link(None, None),
            UnsubscribeIfThere(UnsubscribedByCrm),
        ),
        (
            Unknown,
            link(None, None),
            UnsubscribeIfThere(UnsubscribedByCrm),
        ),
        (OptedIn, link(Some("c"), None), SetStatus(Pending)),
        (
            OptedOut,
            link(Some("c"), None),
            UnsubscribeIfThere(UnsubscribedByMember),
        ),
        (
            OptedIn,
            link(Some("c"), Some(Subscribed)),
            Update(Subscribed),
        ),
        (
            OptedOut,
            link(Some("c"), Some(Subscribed)),
            Unsubscribe(UnsubscribedByCrm),
        ),
        (
            Unknown,
            link(Some("c"), Some(Subscribed)),
            Unsubscribe(UnsubscribedByCrm),
        ),
        (OptedIn, link(Some("c"), Some(Pending)), Update(Pending)),
        (
            OptedOut,
            link(Some("c"), Some(Pending)),
            Unsubscribe(UnsubscribedByMember),
        ),
        (
            OptedIn,
            link(Some("c"), Some(UnsubscribedByCrm)),
            SetStatus(Subscribed),
        ),
        (
            OptedOut,
            link(Some("c"), Some(UnsubscribedByCrm)),
            NoConsent,
        ),
        (
            OptedIn,
            link(Some("c"), Some(UnsubscribedByMember)),
            Suppressed(UnsubscribedByMember),
        ),
        (
            OptedOut,
            link(Some("c"), Some(UnsubscribedByMember)),
            NoConsent,
        ),
        (OptedIn, link(Some("c"), Some(Cleaned)), Suppressed(Cleaned)),
        (
            OptedIn,
            link(Some("c"), Some(Forgotten)),
            Suppressed(Forgotten),
        ),
        (OptedIn, link(Some("c"), Some(Archived)), SetStatus(Pending)),
        (Unknown, link(Some("c"), Some(Archived)), NoConsent),
    ];
    for (consent, link, expected) in cases {
        assert_eq!(
            decide(consent, link.as_ref(), &never),
            expected,
            "{consent:?} {link:?}"
        );
    }
    let asking = settings(Resubscribe::Pending, true);
    let member = link(Some("c"), Some(UnsubscribedByMember));
    assert_eq!(
        decide(OptedIn, member.as_ref(), &asking),
        SetStatus(Pending)
    );
    let own = link(Some("c"), Some(UnsubscribedByCrm));
    assert_eq!(decide(OptedIn, own.as_ref(), &asking), SetStatus(Pending));
    assert_eq!(decide(OptedIn, None, &asking), Subscribe(Pending));
    let cleaned = link(Some("c"), Some(Cleaned));
    assert_eq!(
        decide(OptedIn, cleaned.as_ref(), &asking),
        Suppressed(Cleaned)
    );
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
            read(ValueKind::Text, Some(text)),
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
