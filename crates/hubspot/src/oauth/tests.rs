use proptest::prelude::*;

use super::*;

const SECOND: Micros = 1_000_000;

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.as_bytes().to_vec(),
    }
}

fn said(answer: &TokenAnswer) -> String {
    match answer {
        TokenAnswer::Granted {
            access_token,
            expires_in,
            refresh_token,
        } => format!("granted {access_token} {expires_in:?} {refresh_token:?}"),
        TokenAnswer::Refused { why } => format!("refused {why}"),
        TokenAnswer::Failed { signal } => format!("failed {signal:?}"),
    }
}

#[test]
fn answers_of_the_token_endpoint() {
    let cases = [
        (
            200,
            r#"{"token_type":"bearer","access_token":"CJa","refresh_token":"na1-b","expires_in":1800,"hub_id":1}"#,
            "granted CJa 1800s Some(\"na1-b\")",
        ),
        (200, r#"{"access_token":"CJa"}"#, "granted CJa 1800s None"),
        (
            200,
            r#"{"access_token":"CJa","refresh_token":"","expires_in":0}"#,
            "granted CJa 1s None",
        ),
        (200, r#"{"access_token":""}"#, "failed Failing"),
        (200, "<html>", "failed Failing"),
        (
            400,
            r#"{"error":"invalid_grant","status":"BAD_REFRESH_TOKEN","message":"refresh token is invalid, expired or revoked"}"#,
            "refused HubSpot gives no access token (HTTP 400: BAD_REFRESH_TOKEN, refresh token is invalid",
        ),
        (
            400,
            r#"{"status":"BAD_CLIENT_ID","message":"missing or unknown client id"}"#,
            "refused HubSpot gives no access token (HTTP 400: BAD_CLIENT_ID",
        ),
        (
            400,
            r#"{"error":"invalid_grant","error_description":"no"}"#,
            "refused HubSpot gives no access token (HTTP 400: invalid_grant, no",
        ),
        (401, "{}", "refused"),
        (404, "<html>", "refused"),
        (500, "", "failed Failing"),
        (502, "<html>", "failed Failing"),
        (429, "{}", "failed Throttled"),
        (429, r#"{"policyName":"DAILY"}"#, "failed DailyLimit"),
    ];
    for (status, body, expected) in cases {
        let answer = said(&read_token(Ok(&reply(status, body))));
        assert!(
            answer.starts_with(expected),
            "{status} {body}: {answer}, not {expected}"
        );
    }
    let lost = TransportError::Lost("reset".to_owned());
    assert!(said(&read_token(Err(&lost))).starts_with("failed Failing"));
}

#[test]
fn what_cannot_be_read_is_not_repeated() {
    let answer = read_token(Ok(&reply(200, r#"{"access_token":["SECRET"]}"#)));
    assert!(!said(&answer).contains("SECRET"));
}

#[test]
fn forms_escape_what_they_hold() {
    assert_eq!(
        token_form("id", "a&b=c", "na1-ü"),
        "grant_type=refresh_token&client_id=id&client_secret=a%26b%3Dc&refresh_token=na1-%C3%BC"
    );
    assert_eq!(
        introspect_form("id", "s", "CJ+/="),
        "client_id=id&client_secret=s&token_type_hint=access_token&token=CJ%2B%2F%3D"
    );
}

#[test]
fn seeds_differ_when_anything_does() {
    let seeds = [("a", "b"), ("ab", ""), ("", "ab"), ("a", "c"), ("b", "b")];
    let digests: std::collections::BTreeSet<String> =
        seeds.iter().map(|(id, token)| seed(id, token)).collect();
    assert_eq!(digests.len(), seeds.len());
    assert!(digests.iter().all(|digest| digest.len() == 64));
}

#[test]
fn a_token_is_renewed_before_its_end_and_only_when_wanted() {
    let mut tokens = Tokens::default();
    assert_eq!(tokens.step(0), TokenStep::Renew);
    assert_eq!(tokens.step(0), TokenStep::Underway, "one renewal at a time");
    tokens.granted("a", Duration::from_secs(1_800), 0);
    assert_eq!(tokens.step(1_499 * SECOND), TokenStep::Send("a"));
    assert_eq!(tokens.step(1_500 * SECOND), TokenStep::Renew);
    tokens.failed(1_500 * SECOND);
    assert_eq!(
        tokens.step(1_500 * SECOND),
        TokenStep::Send("a"),
        "the endpoint fails, the token is still good"
    );
    assert_eq!(
        tokens.step(1_501 * SECOND),
        TokenStep::Renew,
        "after a pause"
    );
    tokens.failed(1_799 * SECOND);
    assert_eq!(
        tokens.step(1_800 * SECOND),
        TokenStep::Wait(Duration::from_secs(1)),
        "it has run out"
    );
    tokens.hurry();
    assert_eq!(tokens.step(1_800 * SECOND), TokenStep::Renew);
}

#[test]
fn short_lived_tokens_are_used_for_half_of_their_life_at_least() {
    let mut tokens = Tokens::default();
    tokens.granted("a", Duration::from_secs(2), 0);
    assert_eq!(tokens.step(SECOND - 1), TokenStep::Send("a"));
    assert_eq!(tokens.step(SECOND), TokenStep::Renew);
}

#[test]
fn many_refusals_of_one_token_are_one() {
    let mut tokens = Tokens::default();
    tokens.granted("a", Duration::from_secs(1_800), 0);
    tokens.accepted(&"a");
    for _ in 0..16 {
        assert_eq!(tokens.refused(&"a"), OnUnauthorized::Resend);
    }
    assert_eq!(tokens.step(1), TokenStep::Renew);
    assert_eq!(tokens.refused(&"a"), OnUnauthorized::Resend, "a straggler");
    tokens.granted("b", Duration::from_secs(1_800), 2);
    assert_eq!(
        tokens.refused(&"a"),
        OnUnauthorized::Resend,
        "another straggler"
    );
    assert_eq!(tokens.step(3), TokenStep::Send("b"));
}

#[test]
fn one_new_token_after_the_other_refused_means_unauthorized() {
    let mut tokens = Tokens::default();
    let life = Duration::from_secs(1_800);
    let grants = [
        // Token, whether a call is accepted with it before it is refused, what the refusal means.
        ("a", true, OnUnauthorized::Resend),
        ("b", false, OnUnauthorized::Resend),
        ("c", false, OnUnauthorized::Resend),
        ("d", false, OnUnauthorized::Unauthorized),
        ("e", false, OnUnauthorized::Resend),
        ("f", true, OnUnauthorized::Resend),
        ("g", false, OnUnauthorized::Resend),
        ("h", false, OnUnauthorized::Resend),
        ("i", false, OnUnauthorized::Unauthorized),
        ("j", false, OnUnauthorized::Resend),
    ];
    for (token, works, meaning) in grants {
        tokens.granted(token, life, 0);
        if works {
            tokens.accepted(&token);
        }
        tokens.accepted(&"a straggler");
        assert_eq!(tokens.refused(&token), meaning, "{token}");
    }
}

/// What is heard of calls made with each token, in order; `expected` is what the last of it means.
#[test]
fn a_token_with_which_a_call_was_accepted_says_nothing_against_the_credential() {
    const YES: bool = true;
    const NO: bool = false;
    type Heard = [(u32, bool)];
    let cases: [(&str, &Heard, OnUnauthorized); 6] = [
        (
            "each is heard to have been refused before it is heard to have been accepted",
            &[(1, NO), (1, YES), (2, NO), (2, YES), (3, NO)],
            OnUnauthorized::Resend,
        ),
        (
            "as before, and the next one is there already",
            &[(1, NO), (2, NO), (1, YES), (3, NO), (2, YES), (4, NO)],
            OnUnauthorized::Resend,
        ),
        (
            "a later one worked: those before it had run out, too",
            &[(1, NO), (2, NO), (2, YES), (3, NO), (4, NO)],
            OnUnauthorized::Resend,
        ),
        (
            "an earlier one worked, the later ones never",
            &[(1, NO), (2, NO), (1, YES), (3, NO), (4, NO)],
            OnUnauthorized::Unauthorized,
        ),
        (
            "calls under way together count once",
            &[(1, NO), (1, NO), (1, NO), (2, NO), (2, NO), (2, NO)],
            OnUnauthorized::Resend,
        ),
        (
            "none ever worked",
            &[(1, NO), (2, NO), (3, NO)],
            OnUnauthorized::Unauthorized,
        ),
    ];
    for (case, heard, expected) in cases {
        let (mut tokens, mut known, mut meaning) = (Tokens::default(), 0, OnUnauthorized::Resend);
        for &(token, accepted) in heard {
            while known < token {
                known += 1;
                tokens.granted(known, Duration::from_secs(1_800), 0);
            }
            match accepted {
                true => tokens.accepted(&token),
                false => meaning = tokens.refused(&token),
            }
        }
        assert_eq!(meaning, expected, "{case}");
    }
}

#[derive(Clone, Debug)]
enum Event {
    Step,
    Grant(u64),
    Fail,
    Accept,
    Refuse,
    Sleep(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Step),
        2 => (1_u64..4_000).prop_map(Event::Grant),
        1 => Just(Event::Fail),
        1 => Just(Event::Accept),
        1 => Just(Event::Refuse),
        2 => (0_u64..4_000).prop_map(Event::Sleep),
    ]
}

proptest! {
    /// Calls with one token are answered in any order, and those of the one before may be heard of
    /// after the first refusal of this one: as long as each token worked at all, nobody is to be alarmed.
    #[test]
    fn tokens_that_worked_and_ran_out_alarm_nobody(
        batches in prop::collection::vec(prop::collection::vec(any::<bool>(), 1..12), 1..12),
        shuffle in prop::collection::vec(any::<u32>(), 400),
    ) {
        let (mut tokens, mut late, mut keys) = (Tokens::default(), Vec::new(), shuffle.into_iter().cycle());
        for (token, answers) in batches.into_iter().enumerate() {
            tokens.granted(token, Duration::from_secs(1_800), 0);
            let mut heard: Vec<_> = answers
                .into_iter()
                .chain([true, false])
                .map(|accepted| (keys.next(), token, accepted))
                .collect();
            heard.sort();
            let rest = heard.split_off(heard.len() / 2);
            let mut now: Vec<_> = std::mem::replace(&mut late, rest).into_iter().chain(heard).collect();
            now.iter_mut().for_each(|answer| answer.0 = keys.next());
            now.sort();
            for (_, token, accepted) in now {
                match accepted {
                    true => tokens.accepted(&token),
                    false => prop_assert_eq!(tokens.refused(&token), OnUnauthorized::Resend),
                }
            }
        }
    }

    /// Whatever happens: one renewal at a time, no expired token is sent, and never nothing to do.
    #[test]
    fn never_two_renewals_nor_an_expired_token(events in prop::collection::vec(event(), 0..80)) {
        let (mut tokens, mut now, mut renewing) = (Tokens::default(), 0, false);
        let (mut next, mut known): (u32, Option<(u32, Micros)>) = (0, None);
        for event in events {
            match event {
                Event::Step => match tokens.step(now) {
                    TokenStep::Send(token) => {
                        let (latest, expires) = known.unwrap();
                        prop_assert_eq!(token, latest);
                        prop_assert!(now < expires);
                    }
                    TokenStep::Renew => {
                        prop_assert!(!renewing);
                        renewing = true;
                    }
                    TokenStep::Underway => prop_assert!(renewing),
                    TokenStep::Wait(wait) => {
                        prop_assert!(!wait.is_zero() && wait <= LONGEST_WAIT);
                    }
                },
                Event::Grant(seconds) if renewing => {
                    next += 1;
                    tokens.granted(next, Duration::from_secs(seconds), now);
                    known = Some((next, now + seconds * SECOND));
                    renewing = false;
                }
                Event::Fail if renewing => {
                    tokens.failed(now);
                    renewing = false;
                }
                Event::Grant(_) | Event::Fail => {}
                Event::Accept => tokens.accepted(&next),
                Event::Refuse => {
                    tokens.refused(&next);
                    prop_assert!(tokens.token(now).is_none_or(|token| *token != next));
                }
                Event::Sleep(seconds) => now += seconds * SECOND,
            }
        }
    }
}
