//! The text of the running statement, which PostgreSQL logs and shows.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::pg_sys;

/// Shorter secrets would be found where they are not meant.
const SHORTEST: usize = 3;

/// Blanks a secret in the text of the client's statement, so that from now on neither an error nor
/// a slow statement is logged with it, and `pg_stat_activity` no longer shows it. What was logged
/// when the statement began stays.
pub fn hide(secret: &str) {
    // SAFETY: in a client's backend this is the text of the client's message or of a prepared
    // statement, in memory of this process that nobody else reads at the moment; a text that was
    // parsed is looked at only to be shown. It keeps its length and its end.
    unsafe {
        if pg_sys::MyBackendType != pg_sys::BackendType::B_BACKEND
            || pg_sys::debug_query_string.is_null()
        {
            return;
        }
        let length = CStr::from_ptr(pg_sys::debug_query_string).count_bytes();
        let text = std::slice::from_raw_parts_mut(
            pg_sys::debug_query_string.cast_mut().cast::<u8>(),
            length,
        );
        blot(text, secret.as_bytes());
        pg_sys::pgstat_report_activity(
            pg_sys::BackendState::STATE_RUNNING,
            pg_sys::debug_query_string,
        );
    }
}

/// Blanks the secret wherever it is found. If it is written in another form (with an escape, say),
/// every literal is blanked from the first one on.
fn blot(text: &mut [u8], secret: &[u8]) {
    let mut found = false;
    if secret.len() >= SHORTEST {
        let mut at = 0;
        while let Some(next) = text[at..]
            .windows(secret.len())
            .position(|part| part == secret)
        {
            text[at + next..][..secret.len()].fill(b' ');
            at += next + secret.len();
            found = true;
        }
    }
    let quoted = text.iter().position(|byte| matches!(byte, b'\'' | b'$'));
    if let Some(quoted) = quoted.filter(|_| !found) {
        for byte in &mut text[quoted..] {
            if !matches!(byte, b'\'' | b'(' | b')' | b',' | b';') {
                *byte = b' ';
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::blot;

    #[test]
    fn secret_is_blanked_however_it_is_written() {
        let cases = [
            ("SELECT f('n', 'pat-1')", "pat-1", "SELECT f('n', '     ')"),
            (
                "SELECT f('n', 'a''b-c')",
                "a'b-c",
                "SELECT f(' ', ' ''   ')",
            ),
            (
                "SELECT f('n', $$pat-1$$)",
                "pat-1",
                "SELECT f('n', $$     $$)",
            ),
            ("SELECT f($1, $2)", "pat-1", "SELECT f(  ,   )"),
            ("SELECT f(x, 'ab')", "ab", "SELECT f(x, '  ')"),
            ("SELECT 1", "pat-1", "SELECT 1"),
        ];
        for (text, secret, blotted) in cases {
            let mut bytes = text.as_bytes().to_vec();
            blot(&mut bytes, secret.as_bytes());
            assert_eq!(String::from_utf8_lossy(&bytes), blotted, "{text}");
        }
    }
}
