//! The kinds of settings: how each is registered, what it contains, and what it refuses.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::ops::RangeInclusive;
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;

/// A superuser may change any setting while the server runs.
pub(super) const CONTEXT: GucContext = GucContext::Suset;

/// What a line of the table says about any setting.
pub struct Line {
    /// With its prefix.
    pub name: &'static CStr,
    /// Its description in `pg_settings` and the README.
    pub text: &'static CStr,
    /// Asks [`Setting::refusal`]; only texts need it, PostgreSQL checks the other kinds.
    pub check: pg_sys::GucStringCheckHook,
}

/// A kind of setting.
pub trait Setting {
    /// Registers the setting with PostgreSQL.
    fn define(&'static self, line: Line);

    /// Returns why the setting may not have this text, if it may not.
    fn refusal(&self, _written: &str) -> Option<RefusedValue> {
        None
    }

    /// Returns the name of the secret, if it is one that can be stored.
    fn stored_secret(&self) -> Option<&'static str> {
        None
    }
}

/// Why a value is refused, and what is allowed instead.
#[derive(Default)]
pub struct RefusedValue {
    /// Replaces PostgreSQL's own message, which repeats the value.
    pub message: Option<String>,
    pub detail: Option<String>,
    pub hint: String,
}

/// On or off.
pub struct Switch(GucSetting<bool>);

impl Switch {
    pub const fn new(_name: &'static str, default: bool) -> Switch {
        Switch(GucSetting::<bool>::new(default))
    }

    pub fn get(&self) -> bool {
        self.0.get()
    }
}

impl Setting for Switch {
    fn define(&'static self, line: Line) {
        GucRegistry::define_bool_guc(
            line.name,
            line.text,
            c"",
            &self.0,
            CONTEXT,
            GucFlags::empty(),
        );
    }
}

/// A whole number.
pub struct Count {
    setting: GucSetting<i32>,
    allowed: RangeInclusive<i32>,
}

impl Count {
    pub const fn new(_name: &'static str, default: i32, allowed: RangeInclusive<i32>) -> Count {
        Count {
            setting: GucSetting::<i32>::new(default),
            allowed,
        }
    }

    pub fn get(&self) -> u32 {
        self.setting.get().unsigned_abs()
    }

    /// `None` when 0.
    pub fn filled(&self) -> Option<u32> {
        Some(self.get()).filter(|count| *count > 0)
    }

    fn define_in(&'static self, line: &Line, unit: GucFlags) {
        GucRegistry::define_int_guc(
            line.name,
            line.text,
            c"",
            &self.setting,
            *self.allowed.start(),
            *self.allowed.end(),
            CONTEXT,
            unit,
        );
    }
}

impl Setting for Count {
    fn define(&'static self, line: Line) {
        self.define_in(&line, GucFlags::empty());
    }
}

/// The unit of a length of time.
#[derive(Clone, Copy)]
pub enum Unit {
    Milliseconds,
    Seconds,
    Minutes,
}

/// A length of time.
pub struct Span {
    count: Count,
    unit: Unit,
}

impl Span {
    pub const fn new(
        name: &'static str,
        default: i32,
        allowed: RangeInclusive<i32>,
        unit: Unit,
    ) -> Span {
        Span {
            count: Count::new(name, default, allowed),
            unit,
        }
    }

    pub fn get(&self) -> Duration {
        let count = u64::from(self.count.get());
        match self.unit {
            Unit::Milliseconds => Duration::from_millis(count),
            Unit::Seconds => Duration::from_secs(count),
            Unit::Minutes => Duration::from_secs(60 * count),
        }
    }

    /// `None` when 0.
    pub fn filled(&self) -> Option<Duration> {
        Some(self.get()).filter(|span| !span.is_zero())
    }
}

impl Setting for Span {
    fn define(&'static self, line: Line) {
        let unit = match self.unit {
            Unit::Milliseconds => GucFlags::UNIT_MS,
            Unit::Seconds => GucFlags::UNIT_S,
            Unit::Minutes => GucFlags::UNIT_MIN,
        };
        self.count.define_in(&line, unit);
    }
}

/// One of several words, each with its meaning. The first is the default.
pub struct Choice<T: 'static> {
    setting: GucSetting<i32>,
    options: &'static [(&'static CStr, T)],
}

impl<T: Copy> Choice<T> {
    pub const fn new(_name: &'static str, options: &'static [(&'static CStr, T)]) -> Choice<T> {
        assert!(!options.is_empty(), "a choice has options");
        Choice {
            setting: GucSetting::<i32>::new(0),
            options,
        }
    }

    pub fn get(&self) -> T {
        let chosen = usize::try_from(self.setting.get()).unwrap_or(0);
        self.options.get(chosen).unwrap_or(&self.options[0]).1
    }
}

impl<T: Copy> Setting for Choice<T> {
    fn define(&'static self, line: Line) {
        let words = self.options.iter().map(|(word, _)| word.as_ptr());
        let entries: Vec<pg_sys::config_enum_entry> = words
            .chain([std::ptr::null()])
            .zip(0..)
            .map(|(name, val)| pg_sys::config_enum_entry {
                name,
                val,
                hidden: false,
            })
            .collect();
        // SAFETY: the name, the text, the variable and the list of options (which ends with an entry
        // without a name) live as long as the process.
        unsafe {
            pg_sys::DefineCustomEnumVariable(
                line.name.as_ptr(),
                line.text.as_ptr(),
                c"".as_ptr(),
                self.setting.as_ptr(),
                0,
                Vec::leak(entries).as_ptr(),
                CONTEXT as _,
                0,
                None,
                None,
                None,
            );
        }
    }
}
