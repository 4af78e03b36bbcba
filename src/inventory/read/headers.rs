//! Header fields as they are written, checked where they stand.

use std::{cmp::Ordering, collections::BTreeMap, fmt};

use http::{HeaderName, HeaderValue};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
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
            let values: FieldValues = map.next_value()?;
            for value in values.0 {
                headers.append_to(name.clone(), value);
            }
        }
        Ok(headers)
    }
}

/// Reads `request-headers`: names in lower case, a value each, checked where they stand.
pub(super) fn of_request<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let fields = BTreeMap::<FieldName, RequestValue>::deserialize(deserializer)?;
    Ok(fields.into_iter().map(|(name, value)| (name.0.as_str().to_owned(), value.0)).collect())
}

/// The value of a request's header.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct RequestValue(String);

impl TryFrom<String> for RequestValue {
    type Error = serde::de::value::Error;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        checked::<Self::Error>(&value).map(|_| Self(value))
    }
}

/// A header's name, checked where it stands so that an error names its line.
#[derive(PartialEq, Eq)]
struct FieldName(HeaderName);

impl Ord for FieldName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl PartialOrd for FieldName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor).map(Self)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = HeaderName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header's name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<HeaderName, E> {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| E::custom(HeaderError::Name(name.to_owned())))
    }
}

/// A header's value: a string, or an array of strings where the field repeats; checked where it stands.
struct FieldValues(OneOrMany);

type OneOrMany = std::iter::Chain<std::option::IntoIter<HeaderValue>, std::vec::IntoIter<HeaderValue>>;

impl<'de> Deserialize<'de> for FieldValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValuesVisitor)
    }
}

struct ValuesVisitor;

impl<'de> Visitor<'de> for ValuesVisitor {
    type Value = FieldValues;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or an array of strings where the header repeats")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<FieldValues, E> {
        Ok(FieldValues(Some(checked(value)?).into_iter().chain(Vec::new())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<FieldValues, A::Error> {
        let mut values = Vec::new();
        while let Some(FieldValue(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(FieldValues(None.into_iter().chain(values)))
    }
}

struct FieldValue(HeaderValue);

impl<'de> Deserialize<'de> for FieldValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        checked(&value).map(Self)
    }
}

fn checked<E: de::Error>(value: &str) -> Result<HeaderValue, E> {
    HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| E::custom("the value of this header has a character that HTTP does not allow"))
}
