//! Words in consent columns that nobody knows: they count as no consent, and somebody has to hear of
//! that.

use integration_engine::delivery::call::Work;
use integration_engine::record::Target;
use integration_engine::record::consent::words;
use integration_engine::record::mapping::SourceMap;
use pgrx::spi::SpiResult;

use crate::store::state;
use crate::worker::target::ToldWords;

/// Words told of in the life of one worker; a column that holds anything has been named by then.
const MOST: usize = 100;

/// Characters of a word that are told.
const LONGEST: usize = 60;

/// Takes note of a record's word, if nobody knows it.
pub fn note(map: &SourceMap, work: &Work, known: &ToldWords, unheard: &mut ToldWords) {
    let Some((row, (index, field))) = work.row.as_ref().zip(map.field_named("status")) else {
        return;
    };
    let text = row.get(index).and_then(Option::as_deref);
    let Some(word) = words::unheard(field, text).filter(|_| known.len() < MOST) else {
        return;
    };
    let word: String = word.chars().take(LONGEST).collect();
    let told = (map.name.clone(), field.column.clone(), word);
    if !known.contains(&told) {
        unheard.insert(told);
    }
}

/// Raises an alert for each of them, once.
pub fn tell(unheard: ToldWords, known: &mut ToldWords) -> SpiResult<()> {
    for (table, column, word) in unheard {
        state::remark_of(
            state::CONSENT_WORDS,
            Target::Mailchimp,
            &format!("{table}.{column}"),
            &format!("\"{word}\""),
            "counts as no consent. If it means something, say so with integration.map_field(…, \
             value_map => '{\"word\": \"subscribed\"}'), and send the rows again with \
             integration.backfill()",
        )?;
        known.insert((table, column, word));
    }
    Ok(())
}
