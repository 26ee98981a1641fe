//! What answers of a comparison are taken for.

use super::*;

fn pairs(count: usize) -> Vec<(RecordKey, RemoteId)> {
    let pair = |number: usize| {
        let name = number.to_string();
        (
            RecordKey::from(name.as_str()),
            RemoteId::from(name.as_str()),
        )
    };
    (0..count).map(pair).collect()
}

fn read(ask: Ask, result: &Result<Reply, TransportError>) -> Understood {
    let asked = Asked {
        ask,
        names: Vec::new(),
        at: Timestamp(0),
    };
    let place = MembersCursor::read(None, &["list".to_owned()]);
    understand(Target::HubSpot, &place, "list", asked, result)
}

fn status(status: u16) -> Result<Reply, TransportError> {
    Ok(Reply {
        status,
        headers: Vec::new(),
        body: b"{}".to_vec(),
    })
}

#[test]
fn answer_that_is_too_large_is_asked_for_in_halves() {
    let ask = Ask::Linked(pairs(5), ListingKind::Values);
    let Understood::Smaller(parts) = read(ask, &Err(TransportError::TooLarge(1))) else {
        panic!("it is to be asked in parts");
    };
    let sizes: Vec<usize> = parts
        .iter()
        .map(|part| match part {
            Ask::Linked(pairs, _) => pairs.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(sizes, [3, 2]);
}

#[test]
fn single_record_that_is_too_large_is_refused() {
    let ask = Ask::Linked(pairs(1), ListingKind::Values);
    let understood = read(ask, &Err(TransportError::TooLarge(1)));
    assert!(matches!(understood, Understood::Refused(_)));
}

#[test]
fn record_that_is_not_found_is_gone() {
    let (key, id) = pairs(1).remove(0);
    let understood = read(Ask::Lost(key, id), &status(404));
    assert!(matches!(understood, Understood::Answer(_, page) if page.records.is_empty()));
}

#[test]
fn failing_service_is_asked_again_later() {
    assert!(matches!(read(Ask::Page, &status(503)), Understood::Later));
}

#[test]
fn refused_list_says_why() {
    for answer in [status(403), status(400)] {
        assert!(matches!(read(Ask::Page, &answer), Understood::Refused(_)));
    }
}
