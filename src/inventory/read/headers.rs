//! Header fields as they are written, checked where they stand.

use std::fmt;

use http::HeaderValue;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};

use crate::inventory::{HeaderError, Headers};

/// A table of header fields; the value is an array where a field repeats.
impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of headers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
        let mut headers = Headers::default();
        while let Some(FieldName(name)) = map.next_key()? {
            let FieldValues(values) = map.next_value()?;
            for value in values {
                headers.append(&name, &value).map_err(de::Error::custom)?;
            }
        }
        Ok(headers)
    }
}

/// A header's name, checked where it stands so that an error names its line.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct FieldName(String);

impl TryFrom<String> for FieldName {
    type Error = HeaderError;

    fn try_from(name: String) -> Result<Self, HeaderError> {
        Headers::default().append(&name, "").map(|()| Self(name))
    }
}

/// A header's value: a string, or an array of strings where the field repeats; checked where it stands.
struct FieldValues(Vec<String>);

impl<'de> Deserialize<'de> for FieldValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a header's value has to be a string, or an array of strings where it repeats")]
        enum OneOrMany {
            One(String),
            Many(Vec<String>),
        }
        let values = match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(value) => vec![value],
            OneOrMany::Many(values) => values,
        };
        match values.iter().all(|value| HeaderValue::from_bytes(value.as_bytes()).is_ok()) {
            true => Ok(Self(values)),
            false => Err(de::Error::custom("the value of this header has a character that HTTP does not allow")),
        }
    }
}
