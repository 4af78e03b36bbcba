//! Where in a JSON text it is what is wrong: serde_json says where it was when it noticed, which is behind it.

use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment};

use super::RawInventory;

/// The byte offset of what `error` is about, the error that `text` is read with.
pub(super) fn of_error(text: &str, error: &serde_json::Error) -> usize {
    let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let end = (line_start + error.column()).min(text.len());
    if !error.is_data() {
        return end.saturating_sub(1);
    }
    // It stands right behind a key that is unknown.
    let is_key = |start: &usize| text.get(*start..end).is_some_and(|key| key.len() > 1 && key.ends_with('"'));
    let before = text.get(..end.saturating_sub(1)).unwrap_or_default();
    let key = before.rfind('"').filter(is_key).filter(|_| error.to_string().starts_with("unknown field"));
    key.or_else(|| of_value(text)).unwrap_or(end.saturating_sub(1))
}

/// The byte offset of the value that `text` cannot be read for.
fn of_value(text: &str) -> Option<usize> {
    let mut json = serde_json::Deserializer::from_str(text);
    let error = serde_path_to_error::deserialize::<_, RawInventory>(&mut json).err()?;
    at(text, error.path())
}

fn at(text: &str, path: &Path) -> Option<usize> {
    let mut value: &RawValue = serde_json::from_str(text).ok()?;
    for segment in path {
        value = match segment {
            Segment::Map { key } => member(value.get(), key)?,
            Segment::Seq { index } => serde_json::from_str::<Vec<&RawValue>>(value.get()).ok()?.get(*index)?,
            Segment::Enum { .. } | Segment::Unknown => break,
        };
    }
    (value.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)
}

fn member<'a>(object: &'a str, key: &str) -> Option<&'a RawValue> {
    #[derive(Deserialize, PartialEq, Eq, Hash)]
    struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<HashMap<Key, &RawValue>>(object).ok()?.get(&Key(key.into())).copied()
}
