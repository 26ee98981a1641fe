//! Custom objects: kinds that people made at HubSpot, each known by its name there, or by the number
//! of its type. What HubSpot says of them is their [`Schema`](crate::schema::Schema); the numbers that
//! events name them by are remembered here.

use std::sync::{Arc, PoisonError, RwLock};

use super::{Object, PLAIN, PipelineProperties};
use integration_engine::record::{Entity, kind::Kind};

/// What stands before the name for SQL users.
const PREFIX: &str = "custom:";

/// Places of custom objects begin here: they come after all others.
const FIRST_PLACE: u16 = 1_000;
/// A longer one is no name of HubSpot's.
const LONGEST: usize = 128;

struct Known {
    object: &'static Object,
    type_id: Option<Arc<str>>,
}

/// Those that were named so far in this process. They are few, and never forgotten: what names a
/// kind can be copied about.
static KNOWN: RwLock<Vec<Known>> = RwLock::new(Vec::new());

fn read<T>(look: impl FnOnce(&[Known]) -> T) -> T {
    look(&KNOWN.read().unwrap_or_else(PoisonError::into_inner))
}

/// A custom object by the name SQL users see; `None`: it is no such name.
pub(super) fn from_name(name: &str) -> Option<Entity> {
    let path = name.strip_prefix(PREFIX)?;
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if path.is_empty() || path.len() > LONGEST || !path.bytes().all(is_of_names) {
        return None;
    }
    let find = |known: &[Known]| {
        let mut objects = known.iter().map(|known| known.object);
        objects
            .find(|object| object.kind.name == name)
            .map(Object::entity)
    };
    if let Some(entity) = read(find) {
        return Some(entity);
    }
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(entity) = find(&known) {
        return Some(entity);
    }
    let place = FIRST_PLACE.checked_add(u16::try_from(known.len()).ok()?)?;
    let name: &'static str = Box::leak(name.into());
    let object: &'static Object = Box::leak(Box::new(Object {
        kind: Kind {
            name,
            place,
            ..PLAIN.kind
        },
        path: &name[PREFIX.len()..],
        scopes: "custom",
        pipeline: Some(PipelineProperties {
            pipeline: "hs_pipeline",
            stage: "hs_pipeline_stage",
        }),
        ..PLAIN
    }));
    let type_id = is_type_id(object.path).then(|| object.path.into());
    known.push(Known { object, type_id });
    Some(object.entity())
}

/// `2-123456`
fn is_type_id(path: &str) -> bool {
    let number = path.strip_prefix("2-");
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a kind is a custom object.
pub const fn is_custom(entity: Entity) -> bool {
    entity.place() >= FIRST_PLACE
}

pub(super) fn of(entity: Entity) -> Option<&'static Object> {
    let at = usize::from(entity.place().checked_sub(FIRST_PLACE)?);
    read(|known| known.get(at).map(|known| known.object))
}

/// HubSpot's number of the type, as in its events, once it is known.
pub(super) fn type_id(entity: Entity) -> Option<Arc<str>> {
    let at = usize::from(entity.place().checked_sub(FIRST_PLACE)?);
    read(|known| known.get(at)?.type_id.clone())
}

/// Remembers the number of a type. Somebody may have made an object of a deleted one's name.
pub(crate) fn learn(entity: Entity, type_id: &str) {
    let Some(at) = entity.place().checked_sub(FIRST_PLACE) else {
        return;
    };
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get_mut(usize::from(at)) {
        known.type_id = Some(type_id.into());
    }
}

/// The custom object that events name by this number.
pub(super) fn from_type_id(type_id: &str) -> Option<Entity> {
    read(|known| {
        let of_number = |known: &&Known| known.type_id.as_deref() == Some(type_id);
        let found = known.iter().find(of_number)?;
        Some(found.object.entity())
    })
}

#[cfg(test)]
mod tests {
    use super::super::{from_event, of as object, type_id as number};
    use super::*;

    #[test]
    fn a_name_is_one_kind() {
        let machine = from_name("custom:p_machine_of_tests").unwrap();
        assert_eq!(from_name("custom:p_machine_of_tests"), Some(machine));
        assert_ne!(from_name("custom:p_other_of_tests"), Some(machine));
        assert!(is_custom(machine) && !machine.is_person());
        assert_eq!(machine.name(), "custom:p_machine_of_tests");
        assert_eq!(object(machine).path, "p_machine_of_tests");
        assert_eq!(
            object(machine).scopes(),
            [
                "crm.objects.custom.read",
                "crm.objects.custom.write",
                "crm.schemas.custom.read"
            ]
        );
        for name in ["custom:", "custom:a/b", "custom:ä", "p_machine", "machine"] {
            assert_eq!(from_name(name), None, "{name}");
        }
    }

    #[test]
    fn events_name_it_by_its_number_once_that_is_known() {
        let part = from_name("custom:p_part_of_tests").unwrap();
        assert_eq!((number(part), from_event("2-9000001")), (None, None));
        learn(part, "2-9000001");
        assert_eq!(number(part).as_deref(), Some("2-9000001"));
        assert_eq!(from_event("2-9000001"), Some(part));
        let numbered = from_name("custom:2-9000002").unwrap();
        assert_eq!(from_event("2-9000002"), Some(numbered));
    }
}
