//! Where nginx reads a request otherwise than RFC 9110 does, and what the request means by the RFC.

use super::requests::{Request, is_date};

/// More ranges in one request than this are ignored (RFC 9110 §14.2).
const MAX_RANGES: usize = 256;

/// `request`, for a body of `size` bytes, in words that nginx understands as RFC 9110 does.
pub fn meaning(request: &Request, size: u64) -> Request {
    let mut request = request.clone();
    // §8.8.3: a comma within quotes is part of a tag. To nginx it ends one. (No file here has such a tag.)
    for (name, value) in &mut request.fields {
        if matches!(*name, "if-match" | "if-none-match") {
            let mut is_quoted = false;
            *value = value
                .chars()
                .map(|c| {
                    is_quoted ^= c == '"';
                    if is_quoted && c == ',' { '_' } else { c }
                })
                .collect();
        }
    }
    // §5.3: the lines of a list are one list. nginx refuses them.
    request.join("if-match");
    request.join("if-none-match");
    // §13.1.3 and §13.1.4: what is no date, or more than one, is ignored. nginx answers 412 or 400, and takes dates
    // without a zone.
    for name in ["if-modified-since", "if-unmodified-since"] {
        if request.count(name) > 1 || request.value(name).is_some_and(|date| !is_date(date)) {
            request.remove(name);
        }
    }
    // The same two sections: a date counts only where there are no entity tags. nginx wants both conditions to hold.
    if request.count("if-match") > 0 {
        request.remove("if-unmodified-since");
    }
    if request.count("if-none-match") > 0 {
        request.remove("if-modified-since");
    }
    // §13.1.5: neither a tag nor a date, or more than one, matches nothing.
    let names_nothing = |validator: &str| !validator.ends_with('"') && !is_date(validator);
    let no_if_range = request.count("if-range") > 1 || request.value("if-range").is_some_and(names_nothing);
    if request.count("if-range") > 1 {
        request.remove("if-range");
    }
    // §14.2: ranges are for GET alone; nginx cuts the answer to a HEAD as well.
    let ranges = Some(request.count("range")).filter(|count| *count == 1).and_then(|_| ranges(request.value("range")?));
    match ranges {
        Some(ranges) if ranges.len() <= MAX_RANGES && request.method == "GET" && !no_if_range => {
            if let Some(plain) = plainly(request.value("range").unwrap(), &ranges, size) {
                request.remove("range");
                request.fields.push(("range", plain));
            }
        }
        // §14.2: what is invalid may be refused, as nginx does, or ignored.
        _ => request.remove("range"),
    }
    request
}

/// First and last byte, or the length of a suffix.
type Spec = (Option<u128>, Option<u128>);

/// The ranges of a valid field (§14.1.1), in which a list can have empty elements (§5.6.1.2).
fn ranges(field: &str) -> Option<Vec<Spec>> {
    let (unit, set) = field.split_once('=')?;
    let elements =
        set.split(',').map(|element| element.trim_matches([' ', '\t'])).filter(|element| !element.is_empty());
    let ranges: Vec<Spec> = elements.map(spec).collect::<Option<_>>()?;
    (unit.eq_ignore_ascii_case("bytes") && !ranges.is_empty()).then_some(ranges)
}

fn spec(text: &str) -> Option<Spec> {
    let (first, last) = text.split_once('-')?;
    let number = |digits: &str| match digits {
        "" => Some(None),
        // What does not fit into 64 bits is one number to us, which lies beyond every end (§14.1.2).
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Some(digits.parse::<u128>().unwrap().min(u64::MAX.into())))
        }
        _ => None,
    };
    let (first, last) = (number(first)?, number(last)?);
    match (first, last) {
        (None, None) => None,
        (Some(first), Some(last)) if first > last => None,
        spec => Some(spec),
    }
}

/// `ranges` without what nginx refuses though it is valid: empty elements and tabs in the list (§5.6.1.2), and numbers
/// that it cannot count, which are as good as any beyond the end (§14.1.2).
fn plainly(field: &str, ranges: &[Spec], size: u64) -> Option<String> {
    let huge = |number: Option<u128>| number.is_some_and(|number| number > i64::MAX as u128);
    let is_plain = field.split(',').count() == ranges.len()
        && !field.contains('\t')
        && !ranges.iter().any(|(first, last)| huge(*first) || huge(*last));
    let text = |number: Option<u128>| number.map(|number| number.min(u128::from(size) + 1).to_string());
    let spec =
        |(first, last): &Spec| format!("{}-{}", text(*first).unwrap_or_default(), text(*last).unwrap_or_default());
    (!is_plain).then(|| format!("bytes={}", ranges.iter().map(spec).collect::<Vec<_>>().join(",")))
}

impl Request {
    fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(field, _)| *field == name).count()
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
    }

    fn remove(&mut self, name: &str) {
        self.fields.retain(|(field, _)| *field != name);
    }

    fn join(&mut self, name: &'static str) {
        let values: Vec<String> =
            self.fields.iter().filter(|(field, _)| *field == name).map(|(_, value)| value.clone()).collect();
        if values.len() > 1 {
            self.remove(name);
            // A `*` of its own line stands for itself alone (§13.1.1).
            let star = values.iter().any(|value| value.trim() == "*");
            self.fields.push((name, if star { "*".to_owned() } else { values.join(", ") }));
        }
    }
}
